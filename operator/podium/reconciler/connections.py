"""The Conductors in use: one link for each, with what is kept of it, and who may use which."""

import asyncio
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from podium.core.definitions import Isolation
from podium.core.effects import Unknown
from podium.core.objects import Workflow, WorkflowRun
from podium.core.ownership import podium_metadata
from podium.core.runs import DefinitionFacts, shape_of
from podium.ports import Conductor, Json, Key, Polled, PortError, RetryLater
from podium.reconciler.tracker import RunTracker

_MOST_DEFINITIONS = 2_000
_POLLERS_FRESH_FOR = 5.0


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
    definitions: Definitions = field(default_factory=Definitions)
    pollers: tuple[datetime, tuple[Polled, ...] | Unknown] | None = None
    """Who polled, and when that was asked."""
    checked: dict[str, frozenset[tuple[int, int]]] = field(default_factory=dict)
    """Definition → the versions and stamps that were compared last."""

    @property
    def isolated(self) -> bool:
        """Whether the tasks of runs go to the domain of their namespace."""
        return self.isolation == "Namespace"

    async def read_pollers(self, now: datetime) -> tuple[Polled, ...] | Unknown:
        """Who polls; asked for once in a while, whoever wants to know."""
        if self.pollers is None or (now - self.pollers[0]).total_seconds() > _POLLERS_FRESH_FOR:
            try:
                self.pollers = (now, await self.conductor.list_pollers())
            except PortError as error:
                self.pollers = (now, Unknown(str(error)))
        return self.pollers[1]


def usable(link: Link | Unknown) -> Link:
    """The link. Raises RetryLater if there is none: whoever decides should have known."""
    if isinstance(link, Unknown):
        raise RetryLater(link.error)
    return link


class Connections:
    """Which Conductor a Workflow or a run uses; a connection is known by its namespace and name."""

    def __init__(self, default: Link) -> None:
        """`default`: the operator's own."""
        self._default = default
        self._named: dict[tuple[str, str], Link | Unknown] = {}
        self._changed = asyncio.Event()

    def of(self, namespace: str, name: str | None) -> Link | Unknown:
        """The link of a connection, None being the operator's own; or why it cannot be used."""
        if name is None:
            return self._default
        absent = Unknown(f"there is no ConductorConnection {name} here", reason="ConnectionNotFound")
        return self._named.get((namespace, name), absent)

    def put(self, namespace: str, name: str, link: Link | Unknown) -> None:
        """What there is of a connection from now on."""
        self._named[namespace, name] = link
        self._changed.set()

    def remove(self, namespace: str, name: str) -> None:
        """There is no such connection any more."""
        self._named.pop((namespace, name), None)
        self._changed.set()

    def of_workflow(self, workflow: Workflow) -> Link | Unknown:
        """The one that its spec names."""
        return self.of(workflow.key.namespace, workflow.spec.connection if workflow.spec else None)

    def of_run(self, run: WorkflowRun, workflow: Workflow | None) -> Link | Unknown:
        """The one that was recorded with the intent to start it; before that, its Workflow's."""
        conductor = run.status.get("conductor")
        if conductor is None and workflow is not None:
            return self.of_workflow(workflow)
        return self.of(run.key.namespace, (conductor or {}).get("connection"))

    def links(self) -> Iterable[Link]:
        """All that are in use."""
        return [self._default, *(link for link in self._named.values() if isinstance(link, Link))]

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

    async def run(self) -> None:
        """Let the tracker of every link work, also of those that come later, until cancelled."""
        following: dict[Link, asyncio.Task[None]] = {}
        async with asyncio.TaskGroup() as tasks:
            while True:
                self._changed.clear()
                links = set(self.links())
                for link in following.keys() - links:
                    following.pop(link).cancel()
                for link in links - following.keys():
                    following[link] = tasks.create_task(link.tracker.run(), name="tracker")
                await self._changed.wait()
