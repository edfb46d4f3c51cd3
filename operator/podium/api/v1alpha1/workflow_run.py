"""The kind WorkflowRun: one run of a Workflow, exactly once."""

from typing import Annotated, Literal

from pydantic import Field

from podium.api.v1alpha1.meta import (
    Atomic,
    Column,
    Conditions,
    Duration,
    Kind,
    ListMap,
    Model,
    Name,
    Opaque,
    Rule,
    Timestamp,
)

Phase = Literal["Pending", "Starting", "Running", "Paused", "Succeeded", "Failed", "TimedOut", "Terminated"]
TaskStatus = Literal[
    "Pending", "Running", "Completed", "CompletedWithErrors", "Failed", "TimedOut", "Canceled", "Skipped"
]
FINISHED: frozenset[Phase] = frozenset({"Succeeded", "Failed", "TimedOut", "Terminated"})


class KeyRef(Model):
    """A key of a Secret or ConfigMap in the same namespace."""

    name: Name = Field(description="The object's name.")
    key: str = Field(min_length=1, max_length=253, description="The key in it.")


class InputFrom(Model):
    """An input value that is kept elsewhere: Conductor gets a reference, the worker reads the value."""

    rules = (
        Rule(
            "has(self.secretKeyRef) != has(self.configMapKeyRef)",
            "give exactly one of secretKeyRef and configMapKeyRef",
        ),
    )

    secret_key_ref: KeyRef | None = Field(
        default=None, description="The Secret that a worker of Podium's runtime reads it from."
    )
    config_map_key_ref: KeyRef | None = Field(
        default=None, description="The ConfigMap that a worker of Podium's runtime reads it from."
    )
    to_field: str = Field(min_length=1, max_length=253, description="The input key that refers to it.")


class Action(Model):
    """A one-shot action; it is done once per id."""

    rules = (
        Rule(
            "self.type != 'Rerun' || has(self.fromTask)", "Rerun needs fromTask: the task to run again from"
        ),
        Rule("self.type != 'Skip' || has(self.task)", "Skip needs task: the task to be left out"),
    )

    id: str = Field(
        min_length=1, max_length=64, description="Done when it differs from status.lastAction.id."
    )
    type: Literal["Retry", "Restart", "Rerun", "Skip"] = Field(description="What to do.")
    from_task: str | None = Field(
        default=None, max_length=253, description="Rerun: the task to run again from."
    )
    input: Opaque | None = Field(default=None, description="Rerun: the input of that task.")
    task: str | None = Field(default=None, max_length=253, description="Skip: the task to be left out.")


class WorkflowRunSpec(Model):
    """One run: workflow and input never change, the desired state may."""

    rules = (
        Rule(
            "self.workflow == oldSelf.workflow",
            "workflow cannot be changed: make a new WorkflowRun",
            field_path=".workflow",
        ),
        Rule(
            "has(self.input) == has(oldSelf.input) && (!has(self.input) || self.input == oldSelf.input)",
            "input cannot be changed: make a new WorkflowRun",
        ),
        Rule(
            "has(self.inputFrom) == has(oldSelf.inputFrom) && "
            "(!has(self.inputFrom) || self.inputFrom == oldSelf.inputFrom)",
            "inputFrom cannot be changed: make a new WorkflowRun",
        ),
        Rule(
            "has(self.version) == has(oldSelf.version) && "
            "(!has(self.version) || self.version == oldSelf.version)",
            "version cannot be changed: make a new WorkflowRun",
        ),
        Rule(
            "oldSelf.desiredState != 'Terminated' || self.desiredState == 'Terminated'",
            "a terminated run stays terminated: make a new WorkflowRun",
            field_path=".desiredState",
        ),
    )

    workflow: Name = Field(description="The Workflow, in the same namespace.")
    version: int | None = Field(
        default=None, ge=1, description="The version to run; default: the Workflow's current one."
    )
    input: Opaque | None = Field(
        default=None, description="The input; checked against the Workflow's inputSchema first."
    )
    input_from: Annotated[list[InputFrom], ListMap(("toField",))] = Field(
        default_factory=list,
        max_length=64,
        description="Input values that are kept in Secrets and ConfigMaps.",
    )
    desired_state: Literal["Running", "Paused", "Terminated"] = Field(
        default="Running", description="What you want of it now."
    )
    priority: int = Field(
        default=0, ge=0, le=99, description="Of its tasks in the queues: higher goes first."
    )
    pending_timeout: Duration | None = Field(
        default=None, description="A run that cannot start for so long fails; default: it waits."
    )
    ttl_after_finished: Duration | None = Field(
        default=None, description="It is deleted so long after its end; default: the Workflow's runHistory."
    )
    deletion_policy: Literal["Terminate", "Orphan", "Purge"] = Field(
        default="Terminate",
        description=(
            "What deleting it does in Conductor. Terminate: a running run is ended, and stays to be read. "
            "Orphan: it goes on. Purge: it is ended and removed, with all its data."
        ),
    )
    action: Action | None = Field(default=None, description="A one-shot action.")


class RunConductor(Model):
    """The run in Conductor that stands for this object."""

    workflow_id: str | None = Field(
        default=None, description="Its id there; absent until the start was confirmed."
    )
    name: str = Field(description="The definition's name there.")
    version: int = Field(description="The version that it is pinned to.")
    correlation_id: str = Field(
        description="<cluster id>.<uid>: what the run is found by, whatever happened."
    )
    attempt: int = Field(default=1, description="Starts tried; more than one after an unknown outcome only.")
    requested_at: Timestamp | None = Field(default=None, description="When the last start was decided.")
    connection: str | None = Field(
        default=None, description="The ConductorConnection it runs through; absent: the operator's own."
    )
    store: str | None = Field(
        default=None, description="Marks Conductor's database: another one after Conductor lost its data."
    )


class PendingAction(Model):
    """An action that was decided and whose outcome is not known yet."""

    id: str = Field(description="Its id.")
    type: str = Field(description="Its type.")
    at: Timestamp = Field(description="When it was decided.")
    mark: str = Field(description="Of the run before: what tells whether the action came through.")
    attempt: int = Field(default=1, description="Times it was sent.")


class FailureRun(Model):
    """The run of the failure workflow that Conductor started when this one failed."""

    workflow_id: str | None = Field(default=None, description="Its id in Conductor.")
    phase: Phase | None = Field(default=None, description="Where it is.")
    message: str | None = Field(
        default=None, max_length=256, description="Why it was not started, or failed."
    )


class TaskCounts(Model):
    """Tasks by state; each task counts once, whatever its attempts."""

    pending: int = Field(default=0, description="Scheduled, not begun.")
    running: int = Field(default=0, description="Begun.")
    completed: int = Field(default=0, description="Done, skipped or failed where that was allowed.")
    failed: int = Field(default=0, description="Failed, timed out or cancelled.")


class TaskView(Model):
    """One task of the run."""

    id: str = Field(description="The node or step, as the user wrote it.")
    ref: str = Field(description="Conductor's reference name.")
    type: str = Field(default="", description="The task type.")
    status: TaskStatus = Field(description="Where it is.")
    attempts: int = Field(default=1, description="Attempts made, this one included.")
    started_at: Timestamp | None = Field(default=None, description="When this attempt began.")
    completed_at: Timestamp | None = Field(default=None, description="When it ended.")
    worker: str | None = Field(default=None, description="Who runs or ran it.")
    parent: str | None = Field(
        default=None, description="The task that it belongs to: a sub-workflow or a dynamic fork."
    )
    sub_workflow_id: str | None = Field(
        default=None, description="The run in Conductor that a sub-workflow task stands for."
    )
    message: str | None = Field(default=None, description="Why it failed.")


class Approval(Model):
    """What a person said to a waiting task. Written by people, only added to."""

    task: str = Field(max_length=253, description="The task that waits.")
    attempt: int = Field(default=1, ge=1, description="Which time it waits.")
    decision: Literal["Approve", "Reject"] = Field(description="Approve or Reject.")
    by: str = Field(max_length=253, description="Who.")
    at: Timestamp = Field(description="When.")
    note: str | None = Field(default=None, max_length=256, description="Why.")
    output: Opaque | None = Field(default=None, description="The task's output.")


class LastAction(Model):
    """The one-shot action that was handled last."""

    id: str = Field(description="Its id.")
    type: str = Field(description="Its type.")
    result: Literal["Done", "Refused"] = Field(description="What came of it.")
    message: str | None = Field(default=None, description="Why it was refused.")
    at: Timestamp = Field(description="When.")


class WorkflowRunStatus(Model):
    """What Podium sees of the run. At most 8 KiB, whatever its size."""

    observed_generation: int = Field(default=-1, description="The generation this status speaks of.")
    phase: Phase | None = Field(default=None, description="Where the run is.")
    conductor: RunConductor | None = Field(default=None, description="The run in Conductor.")
    progress: str | None = Field(default=None, description="Tasks done / tasks known.")
    current_task: str | None = Field(default=None, description="A task that runs or waits now.")
    counts: TaskCounts | None = Field(default=None, description="Tasks by state.")
    tasks: Annotated[list[TaskView], Atomic()] = Field(
        default_factory=list, max_length=16, description="At most 16 tasks: failures first, then what runs."
    )
    # With the time among the keys: a run that was restarted asks anew, for attempt 1 again.
    approvals: Annotated[list[Approval], ListMap(("task", "attempt", "at"))] = Field(
        default_factory=list, max_length=64, description="Written by people through the status subresource."
    )
    output: Opaque | None = Field(default=None, description="The output, if it is at most 2 KiB.")
    output_truncated: bool | None = Field(
        default=None, description="True if the output was too large to show."
    )
    started_at: Timestamp | None = Field(default=None, description="When Conductor started it.")
    finished_at: Timestamp | None = Field(default=None, description="When it ended.")
    message: str | None = Field(default=None, max_length=256, description="Why, in words, when it failed.")
    failure_run: FailureRun | None = Field(default=None, description="The run of the failure workflow.")
    output_path: str | None = Field(
        default=None, description="Where Conductor keeps an output that is too large for its database."
    )
    pending_action: PendingAction | None = Field(
        default=None, description="The action that is being carried out."
    )
    last_action: LastAction | None = Field(default=None, description="The action handled last.")
    conditions: Conditions = Field(
        default_factory=list, description="Ready, Reconciling, Stalled, Succeeded, Finished, Progressing."
    )


WORKFLOW_RUN = Kind(
    kind="WorkflowRun",
    plural="workflowruns",
    singular="workflowrun",
    short_names=("pwr",),
    description="One run of a Workflow; Podium starts it exactly once.",
    spec=WorkflowRunSpec,
    status=WorkflowRunStatus,
    columns=(
        Column("Workflow", ".spec.workflow", description="What it runs."),
        Column("Phase", ".status.phase", description="Where it is."),
        Column("Progress", ".status.progress", description="Tasks done / tasks known."),
        Column("Current", ".status.currentTask", description="A task that runs or waits now."),
        Column("Started", ".status.startedAt", "date", "When Conductor started it."),
        Column(
            "Conductor-ID", ".status.conductor.workflowId", description="Its id in Conductor.", priority=1
        ),
        Column("Message", ".status.message", description="Why it failed.", priority=1),
        Column("Age", ".metadata.creationTimestamp", "date"),
    ),
    selectable_fields=(".spec.workflow", ".status.phase"),
)
