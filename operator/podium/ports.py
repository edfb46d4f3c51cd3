"""What the reconcilers need of the world, as protocols; and the family of errors.

Adapters implement these at the edge and translate every foreign error once, there. Nothing
here knows HTTP, kopf or the Kubernetes client.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, Protocol

from podium.api.v1alpha1.meta import FIELD_MANAGER
from podium.api.v1alpha1.reasons import EventReason

Json = dict[str, Any]


class PortError(Exception):
    """Base of what a port may raise."""


class RetryLater(PortError):
    """The other side is away, slow or confused; the outcome is *not* known to have happened.

    `after`: seconds that the other side asked to be left alone.
    """

    def __init__(self, message: str = "", *, after: float = 0.0) -> None:
        super().__init__(message)
        self.after = after


class NotSent(RetryLater):
    """The request never left: nothing can have happened on the other side."""


class LoginRefused(NotSent):
    """The server does not take our credentials: nothing was done, and nothing will be with these."""


class OutcomeUnknown(RetryLater):
    """The request may have been carried out: it must be looked up, never blindly repeated."""


class Refused(PortError):
    """The other side says no for good: the user must change something."""


class Gone(PortError):
    """What was asked for does not exist."""


class Conflict(PortError):
    """Someone else changed it meanwhile: look again."""


@dataclass(frozen=True)
class Outage:
    """A server is away: since when, and why in words that stay the same as long as it lasts."""

    since: datetime
    message: str


@dataclass(frozen=True, order=True)
class Key:
    """The identity of an object in the queue and the store."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind}/{self.namespace}/{self.name}"


class Cluster(Protocol):
    """Kubernetes, as plain dicts. `kind` is one of ours (Workflow, WorkflowRun, …)."""

    async def get(self, key: Key) -> Json:
        """The object as it is now. Raises Gone."""
        ...

    async def list(self, kind: str, namespace: str | None = None) -> list[Json]:
        """All objects of a kind, read in pages of 500."""
        ...

    async def create(self, body: Json) -> Json:
        """Create an object of one of our kinds. Raises Conflict if there is one of its name."""
        ...

    async def apply_status(
        self,
        key: Key,
        status: Json,
        *,
        uid: str,
        resource_version: str | None = None,
        field_manager: str = FIELD_MANAGER,
    ) -> Json:
        """Server-side apply of the status; with a resourceVersion only if unchanged since (Conflict).

        Fields of this manager that are left out are removed; those of others stay.
        """
        ...

    async def patch(self, key: Key, patch: Json, *, uid: str) -> Json:
        """Merge into the object with this uid (spec, labels, annotations). Raises Gone, Conflict."""
        ...

    async def patch_finalizers(self, key: Key, finalizers: Sequence[str], *, resource_version: str) -> Json:
        """Replace the finalizers, if nothing changed since (Conflict). Raises Gone."""
        ...

    async def delete(self, key: Key, *, uid: str) -> None:
        """Delete the object with this uid; one that is gone already is fine."""
        ...

    async def get_secret(self, namespace: str, name: str) -> dict[str, bytes]:
        """The data of a core/v1 Secret. Raises Gone; Refused without the right to read it."""
        ...


TaskState = Literal[
    "SCHEDULED",
    "IN_PROGRESS",
    "COMPLETED",
    "COMPLETED_WITH_ERRORS",
    "FAILED",
    "FAILED_WITH_TERMINAL_ERROR",
    "CANCELED",
    "TIMED_OUT",
    "SKIPPED",
]
RunState = Literal["RUNNING", "PAUSED", "COMPLETED", "FAILED", "TIMED_OUT", "TERMINATED"]


@dataclass(frozen=True, slots=True)
class TaskSeen:
    """One entry of a run's task list (one attempt). Times in milliseconds since 1970, 0 = not yet."""

    ref: str
    task_type: str
    state: TaskState
    task_id: str = ""
    system_type: str = "SIMPLE"
    attempt: int = 0
    seq: int = 0
    start_ms: int = 0
    end_ms: int = 0
    worker: str = ""
    reason: str = ""
    sub_workflow_id: str = ""
    retried: bool = False
    scheduled_ms: int = 0
    update_ms: int = 0
    """Its last sign of life: a result, a poll, or a worker that extends its lease."""
    callback_s: int = 0
    """Seconds after its last change before which nobody gets it: a retry's delay, a worker's call-back."""
    response_timeout_s: int = 0
    domain: str = ""
    timed: bool = False
    """A WAIT that ends by itself."""
    forked: tuple[str, ...] = ()
    """Of a dynamic fork: the reference names of the tasks that it made."""


@dataclass(frozen=True, slots=True)
class RunSeen:
    """A run as Conductor shows it, without what nobody needs (definition, payloads of tasks)."""

    workflow_id: str
    name: str
    version: int
    state: RunState
    correlation_id: str = ""
    create_ms: int = 0
    start_ms: int = 0
    end_ms: int = 0
    update_ms: int = 0
    retried_ms: int = 0
    """When it was retried last."""
    reason: str = ""
    output: Json | None = None
    output_path: str = ""
    outside: bool = False
    """Payloads of it or its tasks lie outside of Conductor's database; its output in `output_path`."""
    tasks: tuple[TaskSeen, ...] = ()
    nodes: Mapping[str, str] | None = None
    """Reference name → the id that the user wrote, from the definition's metadata."""
    parent_id: str = ""
    failure_run: bool = False


@dataclass(frozen=True)
class Moved:
    """A run that changed, as the sweep finds it. `at_ms`: the server's clock."""

    workflow_id: str
    correlation_id: str
    at_ms: int


@dataclass(frozen=True)
class Polled:
    """The last poll of a task type, in a domain ("" = none)."""

    task_type: str
    domain: str
    at: datetime


@dataclass(frozen=True)
class StartRequest:
    """Everything that `start` sends."""

    name: str
    version: int
    correlation_id: str
    input: Json
    priority: int = 0
    task_to_domain: Mapping[str, str] | None = None


@dataclass(frozen=True)
class TaskAnswer:
    """What a person says to a task that waits."""

    workflow_id: str
    task_id: str
    approved: bool
    by: str
    reason: str = ""
    output: Json | None = None


@dataclass(frozen=True)
class Credentials:
    """How Podium says to a Conductor who it is. The values are never shown, stored or logged."""

    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Sent with every request."""
    key_id: str = ""
    """Of an Orkes application key, exchanged for a token; "": none."""
    key_secret: str = field(default="", repr=False)


@dataclass(frozen=True)
class Access:
    """How a Conductor is reached."""

    url: str
    """With /api."""
    ca: str = field(default="", repr=False)
    """Certificates (PEM) of the authorities that are trusted, and no others; "": those of the system."""
    requests_per_second: int = 50
    credentials: Credentials = field(default_factory=Credentials)


@dataclass(frozen=True)
class ServerFacts:
    """What a Conductor says of itself. "": it does not tell."""

    version: str = ""
    store: str = ""
    """The database behind it."""
    features: tuple[str, ...] = ()
    """What it can do that others cannot."""
    missing: tuple[str, ...] = ()
    """What Podium would use and it lacks."""


class Conductor(Protocol):
    """The Conductor server: definitions, runs, what workers poll."""

    async def describe(self) -> ServerFacts:
        """What server it is; asked with our credentials. Raises LoginRefused."""
        ...

    @property
    def outage(self) -> Outage | None:
        """Since when it is away, if it is. While it is, calls fail at once with NotSent."""
        ...

    def within(self, seconds: float) -> "Conductor":
        """The same server, for calls that together may take so long; then RetryLater."""
        ...

    async def read_store(self, cluster_id: str) -> str:
        """What tells Conductor's database from every other; made if absent; "" if it cannot be kept."""
        ...

    async def get_definitions(self, name: str) -> list[Json]:
        """Every version of a workflow definition, oldest first; empty if there is none."""
        ...

    async def get_definition(self, name: str, version: int) -> Json | None:
        """One version of a definition, or None."""
        ...

    async def list_definition_stamps(self) -> dict[tuple[str, int], int]:
        """(name, version) of every definition → when it was stored last, in milliseconds."""
        ...

    async def put_definition(self, definition: Json) -> None:
        """Store one version of a definition. Raises Refused with Conductor's own words."""
        ...

    async def delete_definition(self, name: str, version: int) -> None:
        """Remove one version; one that is gone already is fine."""
        ...

    async def list_task_types(self) -> frozenset[str]:
        """Names of all registered task definitions."""
        ...

    async def put_task_definition(self, task: Json) -> None:
        """Store a task definition (create or replace)."""
        ...

    async def list_pollers(self) -> tuple[Polled, ...]:
        """The last poll of every task type, per domain."""
        ...

    async def start(self, request: StartRequest) -> str:
        """Start a run; its id. Raises Refused (not created), NotSent (not created), OutcomeUnknown."""
        ...

    async def find_runs(self, name: str, correlation_id: str) -> list[RunSeen]:
        """Top-level runs with this correlation id, oldest first, without tasks."""
        ...

    async def get_runs(self, workflow_ids: Sequence[str]) -> dict[str, RunSeen | None]:
        """Many runs with their tasks in one go; None for those that do not exist."""
        ...

    async def list_moved(self, since_ms: int) -> tuple[Moved, ...]:
        """Runs whose state or tasks changed after `since_ms`, by the server's clock."""
        ...

    async def pause(self, workflow_id: str) -> None:
        """Pause a run. Conflict if it is not running."""
        ...

    async def resume(self, workflow_id: str) -> None:
        """Resume a paused run. Conflict if it is not paused."""
        ...

    async def terminate(self, workflow_id: str, reason: str) -> None:
        """End an active run. Conflict if it has ended. Gone if it does not exist."""
        ...

    async def retry(self, workflow_id: str, *, resume_children: bool) -> None:
        """Run what failed once more. With `resume_children` failed sub-workflows go on where they failed,
        else they begin anew. Conflict if it does not fit the run's state.

        As all four: Refused (not done), NotSent (not done), OutcomeUnknown, Gone.
        """
        ...

    async def restart(self, workflow_id: str) -> None:
        """Begin an ended run anew, with the same input and definition. Conflict if it has not ended."""
        ...

    async def rerun(self, workflow_id: str, task_id: str, task_input: Json | None) -> None:
        """Run an ended run again from this task on. Conflict if it has not ended."""
        ...

    async def skip(self, workflow_id: str, ref: str) -> None:
        """Leave a task out that has not begun. Conflict if it has."""
        ...

    async def answer(self, answer: TaskAnswer) -> None:
        """Complete or reject a task that waits; one that does not wait any more is left as it is."""
        ...

    async def nudge(self, workflow_id: str) -> None:
        """Have the run's next step decided now. Harmless."""
        ...

    async def find_related(self, correlation_id: str) -> tuple[str, ...]:
        """Ids of all runs with this correlation id, sub-workflows and failure workflows included."""

    async def remove(self, workflow_id: str) -> None:
        """Remove a run with all its data, whatever its state; one that is gone already is fine."""


class DialedConductor(Conductor, Protocol):
    """A Conductor that was opened and has to be closed."""

    def use(self, credentials: Credentials) -> None:
        """Say who we are in another way from now on."""

    async def close(self) -> None:
        """Let what is under way end, then end; what is asked afterwards raises NotSent."""


class Dial(Protocol):
    """Opens Conductors."""

    async def __call__(self, access: Access, on_refused: Callable[[], None]) -> DialedConductor:
        """A client; nothing is asked of the server yet. Raises Refused if the access makes no sense.

        `on_refused()`: the server refuses the credentials; told from time to time.
        """


class Clock(Protocol):
    """The time."""

    def now(self) -> datetime:
        """The time now, with time zone UTC."""


class Recorder(Protocol):
    """Kubernetes Events and metrics: what people look at."""

    def event(
        self, key: Key, uid: str, *, kind: Literal["Normal", "Warning"], reason: EventReason, message: str
    ) -> None:
        """Tell people. Aggregated and rate-limited; never raises, never waits."""

    def count(self, what: str, by: int = 1, **labels: str) -> None:
        """Count something that a metric shows."""

    def observe(self, what: str, seconds: float) -> None:
        """Measure something that a histogram shows."""
