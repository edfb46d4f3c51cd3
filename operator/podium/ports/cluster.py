"""Kubernetes, the time, and what people look at."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, Protocol

from podium.api.v1alpha1.meta import FIELD_MANAGER
from podium.api.v1alpha1.reasons import EventReason

Json = dict[str, Any]


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

    def pages(self, kind: str, namespace: str | None = None) -> AsyncIterator[list[Json]]:
        """All objects of a kind, page by page: ten thousand objects at once would be half a gigabyte."""
        ...

    async def list(self, kind: str, namespace: str | None = None) -> list[Json]:
        """All objects of a kind, read in pages of 500."""
        ...

    async def create(self, body: Json) -> Json:
        """Create an object of one of our kinds. Raises Conflict only if there is one of its name."""
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

    async def delete(self, key: Key, *, uid: str, resource_version: str | None = None) -> None:
        """Delete the object with this uid; one that is gone already is fine.

        With a resourceVersion only if unchanged since; Conflict if it was changed, or made again.
        """
        ...

    async def get_secret(self, namespace: str, name: str) -> dict[str, bytes]:
        """The data of a core/v1 Secret. Raises Gone; Refused without the right to read it."""
        ...


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
