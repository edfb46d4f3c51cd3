"""What pools make in the cluster, and the workers that run in it."""

from collections.abc import Callable
from typing import Protocol

from podium.ports.cluster import Json
from podium.ports.views import WorkerLoad


class Workloads(Protocol):
    """Deployments and what belongs to them, as plain dicts; only such as carry the label of a pool."""

    trouble: dict[str, str]
    """Kind → why its objects cannot be followed now."""
    namespaces: tuple[str, ...]
    """Those that are served, each of which is listed by itself; ("",): all, at once."""

    async def make(self, body: Json) -> Json:
        """Create an object. Raises Conflict if there is one of its name; Refused if it makes no sense."""
        ...

    async def read(self, body: Json) -> Json:
        """The object of this apiVersion, kind, namespace and name, as it is now. Raises Gone."""
        ...

    async def apply(self, body: Json, *, uid: str) -> Json:
        """Server-side apply to the object with this uid. Raises Gone, Conflict, Refused."""
        ...

    async def mark_pod(self, namespace: str, name: str, *, uid: str, annotations: dict[str, str]) -> Json:
        """Set annotations of a pod. Raises Gone, Conflict."""
        ...

    async def follow(
        self,
        kind: str,
        on_list: Callable[[list[Json], str], None],
        on_object: Callable[[Json], None],
        on_gone: Callable[[Json], None],
    ) -> None:
        """Tell of all objects of a kind with a pool's label, until cancelled: first all, then what moves.

        `on_list(objects, namespace)`: all that there are in one of `namespaces`; again after a gap.
        """
        ...


class Workers(Protocol):
    """The worker processes in the pods."""

    async def read_load(self, ip: str) -> WorkerLoad:
        """How busy the worker at this address is. Raises RetryLater."""
        ...
