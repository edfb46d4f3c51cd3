"""The words of conditions and Events: what tools may match on, and docs/troubleshooting.md explains.

A word that is not here is refused by mypy; one that the page does not explain fails a test.
"""

from typing import Literal

ConditionType = Literal[
    "ActionDone",
    "Finished",
    "Progressing",
    "Ready",
    "Reconciling",
    "Stalled",
    "Succeeded",
    "WorkersAvailable",
]

Reason = Literal[
    "ActionDone",
    "ActionPending",
    "ActionRefused",
    "ConductorUnavailable",
    "Connected",
    "ConnectionNotFound",
    "ConnectionNotReady",
    "DefaultNotAllowed",
    "DefinitionMissing",
    "Deleting",
    "Failed",
    "InvalidDefinition",
    "InvalidInput",
    "InvalidSecret",
    "InvalidSpec",
    "LoginRefused",
    "NameTaken",
    "NoProgress",
    "NoWorker",
    "NotSupported",
    "Paused",
    "PendingTimeout",
    "Polled",
    "Progressing",
    "RefusedByConductor",
    "Registered",
    "Running",
    "SecretNotFound",
    "SecretUnreadable",
    "StartRefused",
    "StartUnconfirmed",
    "Starting",
    "Succeeded",
    "Terminated",
    "TimedOut",
    "Vanished",
    "VersionNotFound",
    "WorkflowNotFound",
    "WorkflowNotReady",
    "WorkflowSuspended",
]
"""Why a condition has its status. Most are the reason of an Event too."""

EventOnly = Literal[
    "Adopted",
    "Approved",
    "DeletionWaits",
    "DuplicateEnded",
    "Rejected",
    "Restored",
    "Started",
]
"""Reasons that no condition has: something happened, and is over."""

EventReason = Reason | EventOnly
