"""The words of conditions and Events: what tools may match on, and docs/troubleshooting.md explains.

A word that is not here is refused by mypy; one that the page does not explain fails a test.
"""

from typing import Literal

ConditionType = Literal[
    "Finished",
    "Progressing",
    "Ready",
    "Reconciling",
    "Stalled",
    "Succeeded",
    "WorkersAvailable",
]

Reason = Literal[
    "ConductorUnavailable",
    "ConnectionNotFound",
    "DefinitionMissing",
    "Deleting",
    "Failed",
    "InvalidDefinition",
    "InvalidInput",
    "InvalidSpec",
    "NameTaken",
    "NoWorker",
    "NotSupported",
    "Paused",
    "PendingTimeout",
    "Polled",
    "RefusedByConductor",
    "Registered",
    "Running",
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
    "DeletionWaits",
    "DuplicateEnded",
    "Restored",
    "Started",
]
"""Reasons that no condition has: something happened, and is over."""

EventReason = Reason | EventOnly
