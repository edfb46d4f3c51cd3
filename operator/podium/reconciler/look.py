"""One look for all pools: the depths of their queues, and how busy their workers say they are."""

import asyncio
import contextlib
import logging
import random
from collections import defaultdict
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

from podium.core.durations import parse_time
from podium.core.effects import Unknown
from podium.core.objects import WorkerPool, is_finished
from podium.core.pools.decide import DEFAULT_INTERVAL, Depths, polling_interval
from podium.core.pools.demand import TypeFacts, gather_facts, needs_workers
from podium.core.pools.pods import PodSeen
from podium.ports import Clock, Key, PortError, RetryLater, WorkerLoad, Workers
from podium.reconciler.connections import Connections, Link
from podium.reconciler.fleet import Fleet
from podium.reconciler.store import Store

log = logging.getLogger(__name__)

# A schedule that fires within this time needs its pool now.
_WARM_UP = timedelta(seconds=15)
# Pods of a pool without work are asked this often: what they say hardly changes.
_IDLE_SCRAPE = timedelta(seconds=8)
_ASK_WHO_POLLS = timedelta(seconds=10)
# Seconds. What takes longer is not known for now: news that are late would be stale.
_LONGEST_READ = 5.0


class Look:
    """What is known of the need, for all pools; one request for all queues of a Conductor."""

    def __init__(
        self,
        store: Store,
        connections: Connections,
        fleet: Fleet,
        workers: Workers,
        clock: Clock,
        wake: Callable[[Key], None],
    ) -> None:
        """`wake(key)`: have a pool looked at, because its need moved."""
        self._store = store
        self._connections = connections
        self._fleet = fleet
        self._workers = workers
        self._clock = clock
        self._wake = wake
        self._depths: dict[Key, Depths | Unknown] = {}
        self._facts: dict[Link, Mapping[tuple[str, str], TypeFacts]] = {}
        self._needed: dict[tuple[str, str], str] = {}
        self._loads: dict[str, WorkerLoad] = {}
        self._marks: dict[Key, object] = {}
        self._soon = asyncio.Event()
        self.looks = 0

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        await self._fleet.listed.wait()
        while True:
            pools = list(self._store.pools.values())
            if pools:
                try:
                    await self.look(pools)
                except Exception:  # a bug of one look is not the end of all
                    log.exception("a look at the queues failed")
            else:
                self._forget(set())
            self._soon.clear()
            interval = min((polling_interval(pool.spec) for pool in pools), default=DEFAULT_INTERVAL)
            try:
                async with asyncio.timeout(interval.total_seconds()):
                    await self._soon.wait()
            except TimeoutError:
                pass

    async def look(self, pools: list[WorkerPool]) -> None:
        """Read everything once, and wake the pools of which something moved."""
        self.looks += 1
        self._forget({pool.key for pool in pools})
        by_link: defaultdict[Link, list[WorkerPool]] = defaultdict(list)
        apart: list[WorkerPool] = []
        for pool in pools:
            link = self._connections.of_pool(pool)
            if isinstance(link, Unknown):
                self._depths[pool.key] = link
            if isinstance(link, Unknown) or pool.spec is None:
                apart.append(pool)
            else:
                by_link[link].append(pool)
        now = self._clock.now()
        self._facts = {
            link: gather_facts((view for _, view in link.tracker.active()), now) for link in by_link
        }
        self._needed = self._find_needed(by_link, now)
        self._wake_moved(apart)
        # A Conductor that hangs holds up its own pools only.
        await asyncio.gather(*(self._look_at(link, users, now) for link, users in by_link.items()))

    async def _look_at(self, link: Link, pools: list[WorkerPool], now: datetime) -> None:
        await asyncio.gather(self._read_depths(link, pools), self.read_loads(self._worth_asking(pools, now)))
        self._wake_moved(pools)
        await self._ask_who_polls(link, pools)

    def _wake_moved(self, pools: list[WorkerPool]) -> None:
        for pool in pools:
            mark = self._mark(pool)
            if self._marks.get(pool.key) != mark:
                self._marks[pool.key] = mark
                self._wake(pool.key)

    def hasten(self) -> None:
        """A pool has just come: look now, not at the next interval."""
        self._soon.set()

    # --- what is known -------------------------------------------------------------------------------

    def depths(self, pool: WorkerPool) -> Depths | Unknown | None:
        """How much waits for it."""
        return self._depths.get(pool.key)

    def facts(self, pool: WorkerPool) -> dict[str, TypeFacts]:
        """Task type → what the runs say, in the pool's domain."""
        link = self._connections.of_pool(pool)
        if not isinstance(link, Link) or pool.spec is None:
            return {}
        known, domain = self._facts.get(link, {}), domain_of(pool, link)
        return {name: known[name, domain] for name in pool.spec.task_types if (name, domain) in known}

    def soon(self, pool: WorkerPool) -> str:
        """What will need it soon, in words; "": nothing."""
        types = pool.spec.task_types if pool.spec else ()
        return next((words for name in types if (words := self._needed.get((pool.key.namespace, name)))), "")

    def loads(self, pods: tuple[PodSeen, ...]) -> dict[str, WorkerLoad]:
        """uid → what the worker said last."""
        return {pod.uid: self._loads[pod.uid] for pod in pods if pod.uid in self._loads}

    def polled(self, pool: WorkerPool) -> dict[str, datetime] | None:
        """Task type → when somebody asked for it last; None: that was not asked lately."""
        link = self._connections.of_pool(pool)
        if not isinstance(link, Link) or link.pollers is None or isinstance(link.pollers[1], Unknown):
            return None
        if self._clock.now() - link.pollers[0] > 3 * _ASK_WHO_POLLS:
            return None
        domain = domain_of(pool, link)
        return {item.task_type: item.at for item in link.pollers[1] if item.domain == domain}

    # --- reading -------------------------------------------------------------------------------------

    async def read_loads(self, pods: list[PodSeen]) -> None:
        """Ask these workers how busy they are; one that does not answer keeps what it said last."""

        async def ask(pod: PodSeen) -> None:
            try:
                self._loads[pod.uid] = await self._workers.read_load(pod.ip)
            except RetryLater as error:
                log.debug("pod %s/%s: %s", pod.namespace, pod.name, error)

        # Many that do not answer shall not hold up the others, nor always the same ones.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LONGEST_READ):
                await asyncio.gather(*(ask(pod) for pod in random.sample(pods, len(pods))))

    async def _read_depths(self, link: Link, pools: list[WorkerPool]) -> None:
        queues = {
            (name, domain_of(pool, link)): None
            for pool in pools
            if pool.spec is not None
            for name in pool.spec.task_types
        }
        try:
            async with asyncio.timeout(_LONGEST_READ):
                depths = await link.conductor.read_depths(list(queues))
        except (PortError, TimeoutError) as error:
            unknown = Unknown(str(error) or f"no answer within {_LONGEST_READ:.0f} s")
            for pool in pools:
                self._depths[pool.key] = unknown
            return
        at = self._clock.now()
        for pool in pools:
            assert pool.spec is not None
            domain = domain_of(pool, link)
            found = {name: depths[name, domain] for name in pool.spec.task_types}
            before = self._depths.get(pool.key)
            known = before.since if isinstance(before, Depths) else {}
            since = {name: known.get(name, at) for name, depth in found.items() if depth}
            self._depths[pool.key] = Depths(found, at, since)

    def _worth_asking(self, pools: list[WorkerPool], now: datetime) -> list[PodSeen]:
        """Pods whose word may have changed: all of a pool with work, those without now and then."""
        asked = []
        for pool in pools:
            if pool.spec is None or pool.spec.runtime == "Other":
                continue
            pods = self._fleet.pods(pool.key)
            depths = self._depths.get(pool.key)
            waiting = isinstance(depths, Depths) and any(depths.by_type.values())
            for pod in pods:
                load = self._loads.get(pod.uid)
                quiet = load is not None and not load.busy and not waiting
                if quiet and load is not None and now - load.at < _IDLE_SCRAPE:
                    continue
                if pod.running and pod.ip:
                    asked.append(pod)
        return asked

    async def _ask_who_polls(self, link: Link, pools: list[WorkerPool]) -> None:
        """Only where something waits: it tells whether anybody takes it."""
        now = self._clock.now()
        if link.pollers is not None and now - link.pollers[0] < _ASK_WHO_POLLS:
            return
        depths = (self._depths.get(pool.key) for pool in pools)
        if any(isinstance(item, Depths) and any(item.by_type.values()) for item in depths):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LONGEST_READ):
                    await link.read_pollers(now)

    def _find_needed(
        self, by_link: Mapping[Link, list[WorkerPool]], now: datetime
    ) -> dict[tuple[str, str], str]:
        """(namespace, task type) → what will need it soon: an active run, or a schedule."""
        needed: dict[tuple[str, str], str] = {}
        for link in by_link:
            for key, view in link.tracker.active():
                run = self._store.runs.get(key)
                if run is not None and needs_workers(view):
                    self._need(
                        needed, key.namespace, run.spec.workflow if run.spec else "", f"{key.name} runs"
                    )
        for key, run in self._store.runs.items():
            if run.status.get("phase") == "Starting" and not is_finished(run) and run.spec is not None:
                self._need(needed, key.namespace, run.spec.workflow, f"{key.name} starts")
        for workflow in self._store.workflows.values():
            at = workflow.status.get("nextScheduleTime")
            if at and parse_time(at) - now <= _WARM_UP:
                name = workflow.key.name
                self._need(needed, workflow.key.namespace, name, f"a schedule of {name} is about to fire")
        return needed

    def _need(self, needed: dict[tuple[str, str], str], namespace: str, workflow: str, words: str) -> None:
        known = self._store.workflows.get(Key("Workflow", namespace, workflow))
        for name in (known.status.get("taskTypes") or ()) if known is not None else ():
            needed.setdefault((namespace, name), words)

    def _mark(self, pool: WorkerPool) -> object:
        """What of a look decides; while it stays the same, nothing has to be decided anew."""
        depths = self._depths.get(pool.key)
        loads = [
            (pod.uid, load.busy, load.draining) if (load := self._loads.get(pod.uid)) else (pod.uid,)
            for pod in self._fleet.pods(pool.key)
        ]
        facts = [(name, item.ready, item.delayed, item.running) for name, item in self.facts(pool).items()]
        read = depths.by_type if isinstance(depths, Depths) else depths
        return read, sorted(loads), sorted(facts), bool(self.soon(pool))

    def _forget(self, here: set[Key]) -> None:
        for known in (self._depths, self._marks):
            for key in known.keys() - here:
                del known[key]
        pods = {pod.uid for key in here for pod in self._fleet.pods(key)}
        for uid in self._loads.keys() - pods:
            del self._loads[uid]


def domain_of(pool: WorkerPool, link: Link) -> str:
    """The task domain that its workers poll; "": none."""
    return pool.key.namespace if link.isolated else ""
