"""The Conductor server, and how it is reached."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from podium.ports.cluster import Json
from podium.ports.errors import Outage
from podium.ports.views import Moved, Polled, RunSeen, StartRequest, TaskAnswer


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

    async def read_depths(self, queues: Sequence[tuple[str, str]]) -> dict[tuple[str, str], int]:
        """(task type, domain) → tasks in that queue, delayed ones included; for all of them at once."""
        ...

    async def start(self, request: StartRequest) -> str:
        """Start a run; its id. Raises Refused, NotRegistered, NotSent (all: not created), OutcomeUnknown."""
        ...

    async def find_runs(self, name: str, correlation_id: str) -> list[RunSeen]:
        """Top-level runs with this correlation id, oldest first, without tasks."""
        ...

    async def get_runs(self, workflow_ids: Sequence[str]) -> dict[str, RunSeen | None]:
        """Many runs with their tasks in one go; None for those that do not exist."""
        ...

    async def list_moved(self, since_ms: int, *, most: int) -> tuple[Moved, ...] | None:
        """Runs whose state or tasks changed after `since_ms`, by the server's clock; None: it cannot tell.

        As soon as there are `most`, it looks no further.
        """
        ...

    async def find_last_move(self) -> int | None:
        """When anything changed last, in milliseconds by the server's clock; 0: nothing ever did, or None."""
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
