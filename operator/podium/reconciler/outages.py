"""Notices that a server goes, stays away and comes back: each Conductor, and the API server.

Of a Conductor also whether it came back with its data; of the API server whether its watch is deaf.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any

from podium.core.objects import Projection, conditions_of, is_finished
from podium.core.runs import TOLD_AFTER
from podium.ports import Clock, Key, Outage, PortError, Recorder
from podium.reconciler.connections import Connections, Link
from podium.reconciler.echoes import Echoes
from podium.reconciler.store import Store

log = logging.getLogger(__name__)

_LOOK = 0.25
# A server that has just come back may fail once more: the loss of its data must not stay unseen for that.
_BEFORE_ANOTHER_TRY = 2.0
# What waits is woken at this pace, and in this time whatever its number: no storm on return.
_WAKES_A_SECOND = 20.0
_LONGEST_SPREAD = 8.0
# Seconds in which everything is listed anew after an outage of the API server: replicas do not keep time.
_BEFORE_RESYNC = 2.0
_WAITING = frozenset({"ConductorUnavailable", "ConductorLostData", "WorkflowNotReady", "Deleting"})


@dataclass
class _Watched:
    """What was seen of a link so far. Times of the event loop's clock."""

    at: float
    away: bool = False
    told: bool = False
    read_next: float = float("-inf")
    losses: int = 0


class Outages:
    """One watch for each link, beside its tracker."""

    def __init__(
        self,
        store: Store,
        connections: Connections,
        wake: Callable[[Key, float], None],
        clock: Clock,
        recorder: Recorder,
        *,
        cluster_id: str,
        mark_interval: float,
    ) -> None:
        """`wake(key, seconds)`: have an object looked at by then.

        `mark_interval`: seconds between two reads of what marks the database.
        """
        self._store = store
        self._connections = connections
        self._wake = wake
        self._clock = clock
        self._cluster_id = cluster_id
        self._mark_interval = mark_interval
        self._recorder = recorder
        self.seconds = 0.0
        """How long any Conductor was away, all together."""

    async def watch(self, link: Link) -> None:
        """Until cancelled."""
        watched = _Watched(asyncio.get_running_loop().time())
        while True:
            try:
                await self._look(link, watched)
            except Exception:
                log.exception("a bug in watching a Conductor")
                await asyncio.sleep(_BEFORE_ANOTHER_TRY)
            await asyncio.sleep(_LOOK)

    async def _look(self, link: Link, watched: _Watched) -> None:
        outage, now = link.conductor.outage, asyncio.get_running_loop().time
        if outage is not None:
            self.seconds += now() - watched.at if watched.away else 0.0
            lasts = (self._clock.now() - outage.since).total_seconds()
            if not watched.told and lasts >= TOLD_AFTER.total_seconds():
                watched.told = True
                self._spread([*self._workflows(link), *self._active_runs(link)])
        elif watched.away:
            watched.told, watched.read_next = False, float("-inf")
            self._spread(self._waiting(link))
        watched.away, watched.at = outage is not None, now()
        if not watched.away and now() >= watched.read_next:
            read = await self._read_mark(link)
            watched.read_next = now() + (self._mark_interval if read else _BEFORE_ANOTHER_TRY)
        # Whoever reads the mark may be the first to see that it is another one.
        if link.losses > watched.losses:
            watched.losses = link.losses
            log.warning("Conductor has another database than before: what it should have is checked")
            self._recorder.count("conductor_data_losses")
            self._spread([*self._workflows(link), *self._waiting(link)])

    async def _read_mark(self, link: Link) -> bool:
        """Whether it could be read."""
        try:
            await link.read_store(self._cluster_id)
        except PortError as error:
            log.debug("what marks Conductor's database cannot be read: %s", error)
            return False
        return True

    def _spread(self, keys: Iterable[Key]) -> None:
        wanted = list(dict.fromkeys(keys))
        spread = min(_LONGEST_SPREAD, len(wanted) / _WAKES_A_SECOND)
        for key in wanted:
            self._wake(key, random.uniform(0.0, spread))

    def _workflows(self, link: Link) -> Iterable[Key]:
        of = self._connections.of_workflow
        return [item.key for item in self._store.workflows.values() if of(item) is link]

    def _active_runs(self, link: Link) -> Iterable[Key]:
        return [
            item.key
            for item in self._store.runs.values()
            if not is_finished(item) and self._connections.of_run(item) is link
        ]

    def _waiting(self, link: Link) -> Iterable[Key]:
        workflows = [key for key in self._workflows(link) if _waits(self._store.workflows[key])]
        return [*workflows, *(key for key in self._active_runs(link) if _waits(self._store.runs[key]))]


def _waits(item: Projection[Any]) -> bool:
    return item.deleting_since is not None or any(
        condition.get("reason") in _WAITING for condition in conditions_of(item)
    )


async def mind_cluster(
    outage: Callable[[], Outage | None],
    echoes: Echoes,
    *,
    hasten: Callable[[float], None],
    resync: Callable[[], Awaitable[None]],
    deaf: Callable[[], None],
) -> None:
    """Until cancelled: list everything anew after an outage, and when own writes are not heard of.

    `hasten(seconds)`: have looked at by then what failed. `deaf()`: the watch tells nothing.
    """
    away = False
    while True:
        is_away = outage() is not None
        returned, away = away and not is_away, is_away
        is_deaf = not is_away and echoes.is_late()
        if is_deaf:
            log.warning("the watch does not tell of what was written; it is begun anew")
            deaf()
        if returned:
            hasten(_LONGEST_SPREAD)
        if returned or is_deaf:
            await asyncio.sleep(random.uniform(0.0, _BEFORE_RESYNC))
            echoes.forgive()
            try:
                await resync()
            except PortError as error:
                log.warning("the objects cannot be listed anew: %s", error)
                away = True
        await asyncio.sleep(_LOOK)
