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
    "Scheduled",
    "Stalled",
    "Succeeded",
    "WorkersAvailable",
]

Reason = Literal[
    "ActionDone",
    "ActionPending",
    "ActionRefused",
    "ConductorLostData",
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
    "InvalidSchedule",
    "InvalidSecret",
    "InvalidSpec",
    "LoginRefused",
    "NameTaken",
    "NoProgress",
    "NoWorker",
    "Paused",
    "PendingTimeout",
    "Polled",
    "Progressing",
    "RefusedByConductor",
    "Registered",
    "Running",
    "Scheduled",
    "SecretNotFound",
    "SecretUnreadable",
    "StartRefused",
    "StartUnconfirmed",
    "Starting",
    "Succeeded",
    "Suspended",
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
    "BackfillDone",
    "BackfillRefused",
    "BackfillStarted",
    "DeletionWaits",
    "DuplicateEnded",
    "PurgeIncomplete",
    "Purged",
    "Rejected",
    "Restored",
    "RunNameTaken",
    "RunNow",
    "RunRefused",
    "RunsDeleted",
    "SkippedTimes",
    "Started",
]
"""Reasons that no condition has: something happened, and is over."""

EventReason = Reason | EventOnly
