"""The kind Workflow: a definition in Conductor, written in one of four forms."""

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
    Nullable,
    Opaque,
    OpenModel,
    Rule,
    Timestamp,
)
from podium.api.v1alpha1.schedule import Schedule, ScheduleStatus

NODE_ID = Annotated[str, Field(min_length=1, max_length=253)]


class Node(OpenModel):
    """One step of a flow or graph, as a visual editor writes it."""

    id: NODE_ID = Field(description="Unique in the workflow; references and status use it.")
    type: str = Field(
        min_length=1,
        max_length=253,
        description="The task type: what a worker polls for. One task definition is kept per type.",
    )
    config: Annotated[Opaque | None, Nullable()] = Field(
        default=None,
        description=(
            "The input of the task. A value at any depth may be a reference "
            '{"_type": "reference", "nodeId": …, "outputKey": …} or a Conductor expression '
            "such as ${workflow.input.x}."
        ),
    )


class GraphNode(Node):
    """A node that starts as soon as its own dependencies are done."""

    depends_on: Annotated[list[NODE_ID], Atomic()] = Field(
        default_factory=list,
        max_length=1000,
        description="Ids of the nodes that must be done first; a reference in config is a dependency too.",
    )


class Flow(OpenModel):
    """A list of nodes that run one after the other."""

    workflow_name: Annotated[str | None, Nullable()] = Field(
        default=None, description="Informational: the editor's own name."
    )
    nodes: Annotated[list[Node], Atomic()] = Field(
        min_length=1, max_length=1000, description="The nodes, in the order in which they run."
    )


class Graph(OpenModel):
    """Nodes with dependencies; whatever can run runs, in parallel."""

    workflow_name: Annotated[str | None, Nullable()] = Field(
        default=None, description="Informational: the editor's own name."
    )
    nodes: Annotated[list[GraphNode], ListMap(("id",))] = Field(
        min_length=1, max_length=1000, description="The nodes, a map by id; their order has no meaning."
    )


class Step(OpenModel):
    """One step of a state machine."""

    id: Annotated[str | None, Nullable()] = Field(
        default=None, description="Informational: the key in `steps` is the id."
    )
    name: Annotated[str | None, Nullable()] = Field(
        default=None, description="Informational: a name for people."
    )
    type: Literal["function"] = Field(default="function", description="What the step is; functions only.")
    function_name: str = Field(
        min_length=1, max_length=253, description="The function (task type) that a worker runs."
    )
    input_path: Annotated[str | None, Nullable()] = Field(
        default=None,
        description=(
            "Where in the document the input is taken from ($.initialPayload.x, .userRecord); "
            "default: the whole."
        ),
    )
    result_path: Annotated[str | None, Nullable()] = Field(
        default=None, description="Where in the document the result is put (.validationOutput)."
    )
    next_step_id: Annotated[str | None, Nullable()] = Field(
        default=None, description="The step that follows; null or absent ends the workflow."
    )


class StateMachine(OpenModel):
    """Steps over one growing document."""

    name: Annotated[str | None, Nullable()] = Field(
        default=None, description="Informational: a name for people."
    )
    description: Annotated[str | None, Nullable()] = Field(default=None, description="Informational.")
    start_at: str = Field(min_length=1, max_length=253, description="The id of the first step.")
    steps: dict[str, Step] = Field(
        min_length=1, max_length=1000, description="The steps, a map from id to step."
    )


class RateLimit(Model):
    """So many calls in so long a time."""

    calls: int = Field(ge=1, description="Calls that may begin within the time.")
    per: Duration = Field(description="The length of that time.")


class TaskSettings(Model):
    """How often and how long a task is tried. Times are durations such as 90s."""

    retries: int | None = Field(
        default=None, ge=0, le=1000, description="Attempts after the first; default 3."
    )
    retry_delay: Duration | None = Field(
        default=None, description="Time before an attempt is repeated; default 10s."
    )
    backoff: Literal["Fixed", "Linear", "Exponential"] | None = Field(
        default=None, description="How the delay grows from attempt to attempt; default Exponential."
    )
    max_retry_delay: Duration | None = Field(default=None, description="The longest delay between attempts.")
    response_timeout: Duration | None = Field(
        default=None, description="A worker silent for so long has lost the task; default 2m."
    )
    timeout: Duration | None = Field(
        default=None, description="The longest one attempt may take; default 10m."
    )
    poll_timeout: Duration | None = Field(
        default=None, description="The longest a task may wait for a worker; default: no limit."
    )
    total_timeout: Duration | None = Field(
        default=None, description="The longest all attempts together may take; default: no limit."
    )
    concurrency_limit: int | None = Field(
        default=None, ge=1, description="Tasks of this type that may run at once, in all of Conductor."
    )
    rate_limit: RateLimit | None = Field(
        default=None, description="Tasks of this type that may begin in a time, in all of Conductor."
    )


class TaskDefaults(TaskSettings):
    """Settings of every task type of this workflow that says nothing else."""

    rules = (
        Rule(
            "!has(self.concurrencyLimit) && !has(self.rateLimit)",
            "limits belong to one task type: set concurrencyLimit and rateLimit in taskTypes, "
            "not in taskDefaults",
        ),
    )


class RunHistory(Model):
    """How many finished runs are kept, and for how long. What Argo CD, Flux or Helm tracks stays."""

    succeeded: int | None = Field(
        default=None,
        ge=0,
        le=10000,
        description="Succeeded runs kept; default: all that people made, and the last 10 of each schedule.",
    )
    failed: int | None = Field(
        default=None,
        ge=0,
        le=10000,
        description="Failed, timed out and terminated runs kept; default as for succeeded.",
    )
    ttl_after_finished: Duration | None = Field(
        default=None, description="A finished run is deleted after so long; default: never."
    )
    purge: bool = Field(
        default=False,
        description="True: a finished run that is deleted is removed from Conductor too, with all its data.",
    )


_FORMS = ("flow", "graph", "stateMachine", "definition")
_ONE_FORM = " + ".join(f"(has(self.{form}) ? 1 : 0)" for form in _FORMS)


class WorkflowSpec(Model):
    """What is to stand in Conductor. Exactly one of flow, graph, stateMachine, definition."""

    rules = (
        Rule(f"{_ONE_FORM} == 1", "give exactly one of flow, graph, stateMachine, definition"),
        Rule(
            "!(has(self.definition) && has(self.output))",
            "output does not go with definition: write definition.outputParameters instead",
            field_path=".output",
        ),
        Rule(
            "!has(oldSelf.conductorName) || "
            "(has(self.conductorName) && self.conductorName == oldSelf.conductorName)",
            "conductorName cannot be changed: make a new Workflow with the other name",
        ),
        Rule(
            "has(self.connection) == has(oldSelf.connection) && "
            "(!has(self.connection) || self.connection == oldSelf.connection)",
            "connection cannot be changed: make a new Workflow, or change the ConductorConnection itself",
        ),
    )

    description: str | None = Field(default=None, max_length=1024, description="What it does, for people.")
    flow: Flow | None = Field(default=None, description="Nodes that run in the order of the list.")
    graph: Graph | None = Field(default=None, description="Nodes with dependencies, run in parallel.")
    state_machine: StateMachine | None = Field(
        default=None, description="Steps (functions) over one growing document."
    )
    definition: Opaque | None = Field(
        default=None,
        description="A Conductor WorkflowDef, whole; its name and version are Podium's to set.",
    )
    input_schema: Opaque | None = Field(
        default=None,
        description="A JSON Schema (2020-12) that every run's input must satisfy before anything starts.",
    )
    input_defaults: Opaque | None = Field(
        default=None, description="Values of input keys that a run leaves out."
    )
    output: Opaque | None = Field(
        default=None,
        description="The output of a run: a map whose values may be references or Conductor expressions.",
    )
    timeout: Duration | None = Field(
        default=None, description="A run that takes longer is timed out; default: only reported."
    )
    failure_workflow: str | None = Field(
        default=None,
        min_length=1,
        max_length=253,
        description="A Workflow of this namespace that runs when a run fails or times out.",
    )
    task_defaults: TaskDefaults = Field(
        default_factory=TaskDefaults, description="Settings of all task types of this workflow."
    )
    task_types: dict[str, TaskSettings] = Field(
        default_factory=dict,
        max_length=256,
        description="Settings of single task types, over taskDefaults.",
    )
    schedules: Annotated[list[Schedule], ListMap(("name",))] = Field(
        default_factory=list, max_length=32, description="Times at which runs are started."
    )
    run_history: RunHistory = Field(
        default_factory=RunHistory, description="How many finished runs are kept."
    )
    revision_history_limit: int = Field(
        default=10, ge=0, le=1000, description="Old versions kept in Conductor that no run refers to."
    )
    conductor_name: Annotated[str | None, Field(min_length=1, max_length=253, pattern=r"^[^/\\]+$")] = Field(
        default=None,
        description="Adopts a definition that exists in Conductor by this name; default <namespace>.<name>.",
    )
    connection: Name | None = Field(
        default=None, description="A ConductorConnection of this namespace; default: the operator's."
    )
    suspend: bool = Field(default=False, description="No new runs start while true.")
    progress_deadline: Duration | None = Field(
        default=None,
        description="A run that nothing moves for so long says so in its condition Progressing; default 10m.",
    )
    deletion_policy: Literal["Delete", "Orphan"] = Field(
        default="Delete",
        description="Delete: its definitions go with it. Orphan: Conductor is left as it is.",
    )


class WorkflowConductor(Model):
    """The definition in Conductor that stands for this object."""

    name: str = Field(description="Its name there.")
    version: int = Field(description="The version that new runs start with.")
    hash: str = Field(default="", description="Of the compiled definition of that version.")


class RunCounts(Model):
    """Runs of this workflow, as present in the cluster."""

    active: int = Field(default=0, description="Not yet finished.")
    succeeded: int = Field(default=0, description="Finished well.")
    failed: int = Field(default=0, description="Failed, timed out or terminated.")


class WorkflowStatus(Model):
    """What Podium sees. At most 8 KiB."""

    observed_generation: int = Field(default=-1, description="The generation this status speaks of.")
    conductor: WorkflowConductor | None = Field(default=None, description="The definition in Conductor.")
    task_types: Annotated[list[str], Atomic()] = Field(
        default_factory=list, max_length=64, description="Task types that workers must serve; at most 64."
    )
    warnings: Annotated[list[str], Atomic()] = Field(
        default_factory=list, max_length=8, description="What lint would point out; at most 8."
    )
    runs: RunCounts | None = Field(default=None, description="How its runs stand.")
    last_schedule_time: Timestamp | None = Field(
        default=None, description="The last time for which a schedule started a run."
    )
    next_schedule_time: Timestamp | None = Field(default=None, description="When a schedule fires next.")
    schedules: Annotated[list[ScheduleStatus], ListMap(("name",))] = Field(
        default_factory=list, max_length=32, description="Where each schedule stands."
    )
    conditions: Conditions = Field(
        default_factory=list, description="Ready, WorkersAvailable, Reconciling, Stalled."
    )


WORKFLOW = Kind(
    kind="Workflow",
    plural="workflows",
    singular="workflow",
    short_names=("pwf",),
    description="A workflow that Podium keeps registered in Conductor.",
    spec=WorkflowSpec,
    status=WorkflowStatus,
    columns=(
        Column(
            "Ready", '.status.conditions[?(@.type=="Ready")].status', description="Registered in Conductor."
        ),
        Column("Version", ".status.conductor.version", "integer", "The version that new runs start with."),
        Column("Active", ".status.runs.active", "integer", "Runs not yet finished."),
        Column(
            "Reason", '.status.conditions[?(@.type=="Ready")].reason', description="Why it is (not) ready."
        ),
        Column(
            "Workers",
            '.status.conditions[?(@.type=="WorkersAvailable")].status',
            description="Every task type is polled.",
            priority=1,
        ),
        Column(
            "Message",
            '.status.conditions[?(@.type=="Ready")].message',
            description="The reason in words.",
            priority=1,
        ),
        Column("Age", ".metadata.creationTimestamp", "date"),
    ),
)

__all__ = [
    "WORKFLOW",
    "Flow",
    "Graph",
    "GraphNode",
    "Node",
    "StateMachine",
    "Step",
    "TaskDefaults",
    "TaskSettings",
    "WorkflowSpec",
    "WorkflowStatus",
]
