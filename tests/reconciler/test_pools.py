"""Pools through hours: the real passes and looks, on a cluster, a Conductor and a clock in memory."""

import asyncio
import contextlib
import itertools
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest

from podium.core.objects import project_worker_pool
from podium.ports import Json, Key, RetryLater
from podium.reconciler.connections import Connections, Link
from podium.reconciler.fleet import Fleet
from podium.reconciler.look import Look
from podium.reconciler.pools import PoolReconciler
from podium.reconciler.store import Store
from support.fake_pods import FakeWorkloads
from support.fakes import FakeClock, FakeCluster, FakeConductor, FakeRecorder, FakeTracker

KEY = Key("WorkerPool", "studio", "media")
INTERVAL = 2.0


class World:
    """One pool, and everything around it; `live` lets time pass in looks."""

    def __init__(self, *, seed: int = 0, **spec: Any) -> None:
        self.clock = FakeClock()
        self.cluster = FakeCluster()
        self.conductor = FakeConductor(self.clock)
        self.workloads = FakeWorkloads(self.clock, seed=seed)
        self.store = Store()
        self.recorder = FakeRecorder()
        self.woken: set[Key] = set()
        body: Json = {
            "spec": {
                "taskTypes": ["resize"],
                "template": {"spec": {"containers": [{"name": "worker", "image": "w:1"}]}},
                "scaling": {"maxReplicas": 20},
                **spec,
            }
        }
        self.cluster.put("WorkerPool", "media", body)
        self._take_in()
        self.begin()

    def begin(self) -> None:
        """A new process: nothing is remembered but what the cluster knows."""
        link = Link(self.conductor, FakeTracker(self.conductor), url="http://c/api")  # type: ignore[arg-type]
        connections = Connections(link, self.store)
        self.fleet = Fleet(self.workloads, self.woken.add)
        self.look = Look(self.store, connections, self.fleet, self.workloads, self.clock, self.woken.add)
        self.reconciler = PoolReconciler(
            self.cluster,
            self.workloads,
            connections,
            self.clock,
            self.recorder,
            self.store,
            self.fleet,
            self.look,
        )
        self._due = 0.0

    @contextlib.asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """While the watch works."""
        follow = asyncio.create_task(self.fleet.run())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        try:
            yield
        finally:
            follow.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await follow

    async def live(self, seconds: float, *, arrive: Any = lambda: 0, lasts: Any = lambda: 5.0) -> None:
        """Looks and passes, as the operator makes them; `arrive()` tasks come between two looks."""
        for _ in range(int(seconds / INTERVAL)):
            self.clock.advance(INTERVAL)
            self.workloads.waiting += arrive()
            self.workloads.step(lasts)
            self.conductor.depths["resize", "studio"] = self.workloads.waiting
            await self.look.look(list(self.store.pools.values()))
            if KEY in self.woken or self.clock.monotonic() >= self._due:
                self.woken.discard(KEY)
                again = await self.reconciler.reconcile(KEY)
                self._take_in()
                self._due = self.clock.monotonic() + (again if again is not None else float("inf"))

    def _take_in(self) -> None:
        self.store.put_pool(project_worker_pool(self.cluster.objects[KEY]))

    @property
    def status(self) -> Json:
        return self.cluster.objects[KEY]["status"]


def turns(history: list[int]) -> int:
    """How often it changed its direction."""
    moves = [after - before for before, after in itertools.pairwise(history)]
    return sum((one > 0) != (two > 0) for one, two in itertools.pairwise(moves))


async def test_a_burst_comes_and_goes() -> None:
    world = World()
    async with world.watching():
        await world.live(10)
        assert world.workloads.history == [0]
        world.workloads.waiting = 60
        await world.live(4)
        assert world.workloads.replicas == 15
        await world.live(600)
        assert world.workloads.done == 60
        assert world.workloads.history == [0, 15, 1, 0]
        assert world.workloads.told_to_go_with_tasks == 0
        assert [item["reason"] for item in world.status["decisions"]] == ["Idle", "Idle", "Backlog"]


@pytest.mark.parametrize("seed", range(5))
async def test_a_steady_load_with_a_fifth_of_noise_turns_nothing_round_for_twenty_minutes(seed: int) -> None:
    chance = random.Random(seed)
    world = World(seed=seed)

    def arrive() -> int:
        return round(12 * chance.uniform(0.8, 1.2))

    async with world.watching():
        # While its first pods start, a backlog grows that needs more of them for a while.
        await world.live(180, arrive=arrive)
        settled = len(world.workloads.history) - 1
        await world.live(1200, arrive=arrive)
        assert world.workloads.done > 6000
        assert turns(world.workloads.history[settled:]) == 0, world.workloads.history


@pytest.mark.parametrize("away", ["Conductor", "workers", "both"])
async def test_five_minutes_without_news_shrink_nothing_and_lose_nothing(away: str) -> None:
    world = World(
        scaling={"maxReplicas": 20, "cooldownPeriod": "10s", "scaleDown": {"stabilizationWindow": "4s"}}
    )
    async with world.watching():
        world.workloads.waiting = 40
        await world.live(8)
        pods = world.workloads.replicas
        assert pods == 10
        world.conductor.away = RetryLater if away != "workers" else None
        world.workloads.deaf = away != "Conductor"
        await world.live(300)
        assert world.workloads.replicas == pods
        world.conductor.away, world.workloads.deaf = None, False
        await world.live(60)
        assert world.workloads.replicas == 0
        assert world.workloads.done == 40


async def test_a_restart_forgets_nothing_that_would_shrink_a_pool() -> None:
    world = World()
    async with world.watching():
        world.workloads.waiting = 40
        await world.live(20)
        pods = world.workloads.replicas
    world.begin()
    async with world.watching():
        await world.live(50)
        assert world.workloads.replicas == pods, "a whole window has to be seen first"


async def test_long_tasks_keep_their_pods_while_the_others_go() -> None:
    chance = random.Random(1)
    world = World(
        scaling={"maxReplicas": 20, "cooldownPeriod": "10s", "scaleDown": {"stabilizationWindow": "4s"}}
    )
    async with world.watching():
        for _ in range(40):
            world.workloads.waiting += chance.randrange(60)
            await world.live(chance.uniform(4, 40), lasts=lambda: chance.choice([0.1, 1.0, 5.0, 60.0]))
        await world.live(200)
        assert world.workloads.waiting == 0
        assert world.workloads.told_to_go_with_tasks == 0
        assert turns(world.workloads.history) > 10, "it grew and shrank many times"


async def test_at_rest_nothing_is_written() -> None:
    world = World()
    async with world.watching():
        await world.live(60)
        written = world.workloads.writes
        version = world.cluster.objects[KEY]["metadata"]["resourceVersion"]
        await world.live(3600)
        assert world.workloads.writes == written
        assert world.cluster.objects[KEY]["metadata"]["resourceVersion"] == version


async def test_without_the_right_to_look_it_says_so_and_makes_nothing() -> None:
    world = World()
    world.workloads.trouble["Pod"] = "pods is forbidden"
    async with world.watching():
        assert await world.reconciler.reconcile(KEY) is not None
        ready = next(item for item in world.status["conditions"] if item["type"] == "Ready")
        assert ready["message"] == "the pools' objects cannot be read: pods is forbidden"
        assert world.workloads.writes == 0
