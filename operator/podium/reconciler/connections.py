"""The Conductors in use: one link for each, with what is kept of it, and who may use which."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from podium.core.definitions import Isolation
from podium.core.effects import Unknown
from podium.core.objects import WorkerPool, Workflow, WorkflowRun, is_finished
from podium.core.ownership import podium_metadata
from podium.core.runs import DefinitionFacts, shape_of
from podium.ports import Conductor, Json, Key, Polled, PortError, RetryLater
from podium.reconciler.store import Store
from podium.reconciler.tracker import RunTracker

_MOST_DEFINITIONS = 2_000
_FRESH_FOR = 5.0
# Seconds for what is tried once more although a deletion has waited long enough.
_LAST_TRY = 5.0


class Definitions:
    """What travels with registered versions; versions never change their meaning, so it may be kept."""

    def __init__(self) -> None:
        self._facts: OrderedDict[tuple[str, int], DefinitionFacts] = OrderedDict()

    def get(self, name: str, version: int) -> DefinitionFacts | None:
        """What is known of it, if anything."""
        return self._facts.get((name, version))

    def learn(self, definition: Json) -> DefinitionFacts:
        """A version as it is registered."""
        key = (definition["name"], int(definition["version"]))
        mark = podium_metadata(definition)
        facts = DefinitionFacts(
            key[1], mark.get("inputSchema"), mark.get("inputDefaults"), shape_of(definition)
        )
        self._facts[key] = facts
        self._facts.move_to_end(key)
        while len(self._facts) > _MOST_DEFINITIONS:
            self._facts.popitem(last=False)
        return facts

    def forget(self, name: str, version: int) -> None:
        """It was removed, or altered outside."""
        self._facts.pop((name, version), None)


@dataclass(eq=False)
class Link:
    """One Conductor, and what is known of it. Another server is another link: nothing is carried over."""

    conductor: Conductor
    tracker: RunTracker
    isolation: Isolation = "Namespace"
    url: str = ""
    """Its API, as workers reach it."""
    definitions: Definitions = field(default_factory=Definitions)
    pollers: tuple[datetime, tuple[Polled, ...] | Unknown] | None = None
    """Who polled, and when that was asked."""
    task_types: tuple[datetime, frozenset[str]] | None = None
    """The registered task definitions, and when that was asked."""
    store: str | None = None
    """What marks its database; None: not read yet."""
    checked: dict[str, frozenset[tuple[int, int]]] = field(default_factory=dict)
    """Definition → the versions and stamps that were compared last."""
    trouble: str = ""
    """Why they could not be compared, the last time."""
    losses: int = 0
    """How often it had another database than before."""

    async def read_store(self, cluster_id: str) -> str:
        """What marks its database now. Another one than before: what was known of it counts no more."""
        mark = await self.conductor.read_store(cluster_id)
        known, self.store = self.store, mark
        if known and mark and known != mark:
            self.losses += 1
            self.definitions, self.pollers, self.task_types = Definitions(), None, None
            self.checked.clear()
            self.tracker.refresh_all()
        return mark

    @property
    def isolated(self) -> bool:
        """Whether the tasks of runs go to the domain of their namespace."""
        return self.isolation == "Namespace"

    async def read_task_types(self, now: datetime) -> frozenset[str]:
        """Names of the registered task definitions; one look serves a burst of Workflows."""
        if self.task_types is None or (now - self.task_types[0]).total_seconds() > _FRESH_FOR:
            self.task_types = (now, await self.conductor.list_task_types())
        return self.task_types[1]

    async def read_pollers(self, now: datetime) -> tuple[Polled, ...] | Unknown:
        """Who polls; asked for once in a while, whoever wants to know."""
        if self.pollers is None or (now - self.pollers[0]).total_seconds() > _FRESH_FOR:
            try:
                self.pollers = (now, await self.conductor.list_pollers())
            except PortError as error:
                self.pollers = (now, Unknown(str(error)))
        return self.pollers[1]


def hurried(link: Link, deleted: datetime | None, timeout: timedelta, now: datetime) -> Link:
    """For a deleted object: a Conductor for which there is no more patience than its deletion has."""
    if deleted is None:
        return link
    left = (deleted + timeout - now).total_seconds()
    return replace(link, conductor=link.conductor.within(max(_LAST_TRY, left)))


def usable(link: Link | Unknown) -> Link:
    """The link. Raises RetryLater if there is none: whoever decides should have known."""
    if isinstance(link, Unknown):
        raise RetryLater(link.error)
    return link


class Connections:
    """Which Conductor a Workflow or a run uses; a connection is known by its namespace and name."""

    def __init__(
        self, default: Link, store: Store, *, default_namespaces: frozenset[str] = frozenset()
    ) -> None:
        """`default`: the operator's own. `default_namespaces`: who may use it; empty: all."""
        self.default = default
        self._store = store
        self._default_namespaces = default_namespaces
        self._named: dict[Key, Link | Unknown] = {}
        self._changed = asyncio.Event()

    def of_workflow(self, workflow: Workflow) -> Link | Unknown:
        """The one that its spec names."""
        name = workflow.spec.connection if workflow.spec else None
        return self._of(workflow.key.namespace, name, begun=workflow.deleting_since is not None)

    def of_pool(self, pool: WorkerPool) -> Link | Unknown:
        """The one that its spec names."""
        name = pool.spec.connection if pool.spec else None
        return self._of(pool.key.namespace, name, begun=pool.deleting_since is not None)

    def of_run(self, run: WorkflowRun) -> Link | Unknown:
        """The one that was recorded with the intent to start it; before that, its Workflow's."""
        conductor = run.status.get("conductor")
        return self._of(run.key.namespace, self._name_of(run), begun=conductor is not None)

    def get(self, key: Key) -> Link | Unknown | None:
        """The link of a ConductorConnection, or why it has none; None if nothing was put yet."""
        return self._named.get(key)

    def put(self, key: Key, link: Link | Unknown) -> None:
        """What there is of a ConductorConnection from now on."""
        self._named[key] = link
        self._changed.set()

    def remove(self, key: Key) -> None:
        """There is no such ConductorConnection any more."""
        self._named.pop(key, None)
        self._changed.set()

    def users(self, key: Key) -> Iterable[Key]:
        """Workflows and pools that name it, and runs not yet finished that go through it."""
        for pool in list(self._store.pools.values()):
            if pool.spec and pool.spec.connection == key.name and pool.key.namespace == key.namespace:
                yield pool.key
        for workflow in list(self._store.workflows.values()):
            named = workflow.spec.connection if workflow.spec else None
            if named == key.name and workflow.key.namespace == key.namespace:
                yield workflow.key
        for run in list(self._store.runs.values()):
            if run.key.namespace == key.namespace and not is_finished(run) and self._name_of(run) == key.name:
                yield run.key

    def _name_of(self, run: WorkflowRun) -> str | None:
        if (conductor := run.status.get("conductor")) is not None:
            return str(name) if (name := conductor.get("connection")) else None
        workflow = self._store.workflow_of(run)
        return workflow.spec.connection if workflow and workflow.spec else None

    def _of(self, namespace: str, name: str | None, *, begun: bool) -> Link | Unknown:
        """`begun`: it is to be brought to its end, which needs no leave."""
        if name is None:
            if begun or not self._default_namespaces or namespace in self._default_namespaces:
                return self.default
            return Unknown(
                f"namespace {namespace} may not use the operator's own Conductor: name a ConductorConnection "
                "in spec.connection, or have it added to PODIUM_DEFAULT_CONNECTION_NAMESPACES",
                "DefaultNotAllowed",
                stalled=True,
            )
        key = Key("ConductorConnection", namespace, name)
        link = self._named.get(key)
        if isinstance(link, Link):
            return link
        if isinstance(link, Unknown):
            return Unknown(f"ConductorConnection {name}: {link.error}", "ConnectionNotReady")
        if key in self._store.connections:
            return Unknown(f"ConductorConnection {name} was not looked at yet", "ConnectionNotReady")
        return Unknown(f"there is no ConductorConnection {name} here", "ConnectionNotFound")

    def links(self) -> Iterable[Link]:
        """All that are in use."""
        return [self.default, *(link for link in self._named.values() if isinstance(link, Link))]

    def notice(self, workflow_id: str, *, ended: bool) -> None:
        """Whichever Conductor it came from: its id tells whose run it is."""
        for link in self.links():
            link.tracker.notice(workflow_id, ended=ended)

    def forget_run(self, key: Key) -> None:
        """The object is gone from the cluster."""
        for link in self.links():
            link.tracker.forget_key(key)

    def refresh_all(self) -> None:
        """Have every active run read again, everywhere."""
        for link in self.links():
            link.tracker.refresh_all()

    async def run(self, watch: Callable[[Link], Coroutine[Any, Any, None]]) -> None:
        """Let the tracker of every link work, also of those that come later, until cancelled.

        `watch(link)`: what else has to go on as long as the link is in use.
        """
        following: dict[Link, asyncio.Task[None]] = {}
        async with asyncio.TaskGroup() as tasks:
            while True:
                self._changed.clear()
                links = set(self.links())
                for link in following.keys() - links:
                    following.pop(link).cancel()
                for link in links - following.keys():
                    following[link] = tasks.create_task(_follow(link, watch), name="follow")
                await self._changed.wait()


async def _follow(link: Link, watch: Callable[[Link], Coroutine[Any, Any, None]]) -> None:
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(link.tracker.run(), name="tracker")
        tasks.create_task(watch(link), name="watch a link")
