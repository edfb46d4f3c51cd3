"""What a decision may ask for: the closed union of effects, and the report that ends a pass."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from podium.api.v1alpha1.reasons import EventReason, Reason
from podium.core.conditions import Word
from podium.core.pools.pods import PodSeen
from podium.ports import Access, Json, StartRequest, TaskAnswer


@dataclass(frozen=True)
class Unknown:
    """A look at the world that failed; decisions treat it as a value, never as absence."""

    error: str
    reason: Reason = "ConductorUnavailable"
    """What conditions say of it."""
    stalled: bool = False
    """Nobody but the user can change that."""


@dataclass(frozen=True)
class Note:
    """A Kubernetes Event to be."""

    kind: Literal["Normal", "Warning"]
    reason: EventReason
    message: str


@dataclass(frozen=True)
class SetFinalizers:
    """Replace the object's finalizers (with its resourceVersion)."""

    finalizers: tuple[str, ...]
    note: Note | None = None
    """What people are told once it is done: after the last finalizer there is no report."""


@dataclass(frozen=True)
class PutTaskDefinition:
    """Register a task type that is absent."""

    definition: Json


@dataclass(frozen=True)
class PutDefinition:
    """Register one version of a definition."""

    definition: Json
    restores: bool = False
    """Someone altered or removed it."""


@dataclass(frozen=True)
class DeleteDefinition:
    """Remove one version of a definition."""

    name: str
    version: int


@dataclass(frozen=True)
class WriteIntent:
    """Write a status that must stand before the next effect (with the resourceVersion)."""

    status: Json


@dataclass(frozen=True)
class FetchDefinition:
    """Read the schema and defaults that travel with a version."""

    name: str
    version: int


@dataclass(frozen=True)
class LookUp:
    """Find runs by correlation id."""

    name: str
    correlation_id: str


@dataclass(frozen=True)
class ReadRun:
    """Read the run anew, before something that cannot be taken back."""

    workflow_id: str


@dataclass(frozen=True)
class Refresh:
    """Have the run read anew with the next bulk read. `mark_ms`: the sign of life that is doubted."""

    workflow_id: str
    mark_ms: int


@dataclass(frozen=True)
class ReadStore:
    """Read what marks Conductor's database, before its word that a run is gone is believed."""


@dataclass(frozen=True)
class ReadChildren:
    """Read the runs of sub-workflows anew."""

    workflow_ids: tuple[str, ...]


@dataclass(frozen=True)
class ReadPollers:
    """Read who polls: it tells why a task waits."""


@dataclass(frozen=True)
class Start:
    """Start the run. Only ever behind a WriteIntent of the same pass."""

    request: StartRequest


@dataclass(frozen=True)
class Pause:
    """Pause the run."""

    workflow_id: str


@dataclass(frozen=True)
class Resume:
    """Resume the run."""

    workflow_id: str


@dataclass(frozen=True)
class Terminate:
    """End a run."""

    workflow_id: str
    reason: str
    duplicate: bool = False


@dataclass(frozen=True)
class Retry:
    """Run what failed once more. As the next three: only ever behind a WriteIntent of the same pass."""

    workflow_id: str
    resume_children: bool


@dataclass(frozen=True)
class Restart:
    """Begin an ended run anew."""

    workflow_id: str


@dataclass(frozen=True)
class Rerun:
    """Run an ended run again from a task on."""

    workflow_id: str
    task_id: str
    input: Json | None


@dataclass(frozen=True)
class Skip:
    """Leave out a task that has not begun."""

    workflow_id: str
    ref: str


@dataclass(frozen=True)
class Answer:
    """Tell a waiting task what a person decided. Conductor takes the first answer, and no other."""

    answer: TaskAnswer
    task: str
    """As people name it."""


@dataclass(frozen=True)
class Nudge:
    """Have Conductor decide the run's next step, which it is late with."""

    workflow_id: str


@dataclass(frozen=True)
class ReadSecret:
    """Read a Secret of the object's namespace."""

    name: str


@dataclass(frozen=True)
class Dial:
    """Have a client for this access; runs that use the connection go through it from now on."""

    access: Access
    isolation: Literal["Namespace", "Shared"]


@dataclass(frozen=True)
class HangUp:
    """Have no client: the connection cannot be used, and why."""

    problem: Unknown


@dataclass(frozen=True)
class Describe:
    """Ask the server what it is."""


@dataclass(frozen=True)
class Relative:
    """A run that goes with another one: a sub-workflow at any depth, a failure workflow, a duplicate."""

    workflow_id: str
    active: bool
    outside: bool = False
    """It has payloads outside of Conductor's database, which no removal takes away."""


@dataclass(frozen=True)
class FindFamily:
    """Find everything that Conductor started because of a run. Slow: it gives up at `until`."""

    workflow_ids: tuple[str, ...]
    """The runs themselves; they come last in what is found, if they are there."""
    name: str
    correlation_id: str
    until: datetime


@dataclass(frozen=True)
class Remove:
    """Remove runs with all their data, in this order; those that are active are ended first."""

    family: tuple[Relative, ...]
    until: datetime


@dataclass(frozen=True)
class ReadLoads:
    """Ask workers how busy they are, before any of them is chosen to go."""

    pods: tuple[PodSeen, ...]


@dataclass(frozen=True)
class MarkPod:
    """Say how gladly a pod is removed: the lowest cost goes first."""

    pod: PodSeen
    cost: int


@dataclass(frozen=True)
class Make:
    """Create an object of a pool, of which none is known."""

    manifest: Json


@dataclass(frozen=True)
class Apply:
    """Make an object of a pool as it shall be: the one with this uid, and no other of its name."""

    manifest: Json
    uid: str


@dataclass(frozen=True)
class Report:
    """The end of a pass: what the status says, what people are told, when to look again."""

    status: Json | None
    """The whole status, without conditions; None: there is nothing to write to."""
    words: tuple[Word, ...] = ()
    notes: tuple[Note, ...] = ()
    requeue_after: timedelta | None = None
    urgent: bool = True
    """False: it may wait and share a write with what comes within the next second."""


DefinitionEffect = PutTaskDefinition | PutDefinition | DeleteDefinition
WorkflowEffect = SetFinalizers | DefinitionEffect | Report
PoolEffect = ReadLoads | MarkPod | Make | Apply | Report
ConnectionEffect = ReadSecret | Dial | HangUp | Describe | Report
Look = FetchDefinition | LookUp | ReadRun | ReadStore | ReadChildren | ReadPollers
Action = Retry | Restart | Rerun | Skip
Change = Pause | Resume | Terminate | Nudge
Purge = FindFamily | Remove
ConductorEffect = Look | Start | Change | Action | Answer | Purge
RunEffect = SetFinalizers | WriteIntent | Refresh | ConductorEffect | Report
