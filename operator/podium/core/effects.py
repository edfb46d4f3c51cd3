"""What a decision may ask for: the closed union of effects, and the report that ends a pass."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from podium.api.v1alpha1.reasons import EventReason, Reason
from podium.core.conditions import Word
from podium.ports import Json, StartRequest


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


@dataclass(frozen=True)
class PutTaskDefinition:
    """Register a task type that is absent."""

    definition: Json


@dataclass(frozen=True)
class PutDefinition:
    """Register, or restore, one version of a definition."""

    definition: Json


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
ConductorEffect = FetchDefinition | LookUp | ReadRun | Start | Pause | Resume | Terminate
RunEffect = SetFinalizers | WriteIntent | ConductorEffect | Report
