"""A Conductor that comes back with another database: it is noticed once, whoever notices it first."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from podium.ports import Json, Key
from podium.reconciler.connections import Connections, Link
from podium.reconciler.outages import Outages
from podium.reconciler.store import Store
from support.eventually import eventually
from support.fakes import FakeClock, FakeConductor, FakeRecorder, FakeTracker

LOSSES = "conductor_data_losses"
DEFINITION: Json = {"name": "n", "version": 1, "tasks": []}


class Watched:
    """A link that is watched; its mark is read only by others."""

    def __init__(self, mark_interval: float = 3600.0) -> None:
        clock, store = FakeClock(), Store()
        self.conductor = FakeConductor(clock)
        self.link = Link(self.conductor, FakeTracker(self.conductor))  # type: ignore[arg-type]
        self.recorder = FakeRecorder()
        self.woken: list[Key] = []
        self.outages = Outages(
            store,
            Connections(self.link, store),
            lambda key, _: self.woken.append(key),
            clock,
            self.recorder,
            cluster_id="c",
            mark_interval=mark_interval,
        )

    async def until(self, losses: int) -> None:
        async def look() -> int:
            return self.recorder.counts[LOSSES]

        await eventually(look, lambda seen: seen >= losses, within=20, every=0.01)


@pytest.fixture
async def watched() -> AsyncIterator[Watched]:
    ready = Watched()
    watching = asyncio.create_task(ready.outages.watch(ready.link))

    async def look() -> str | None:
        return ready.link.store

    await eventually(look, bool, within=20, every=0.01)
    yield ready
    watching.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await watching


async def test_a_loss_that_a_run_sees_first_is_a_loss_for_all(watched: Watched) -> None:
    watched.link.definitions.learn(DEFINITION)
    watched.conductor.lose_data()
    await asyncio.gather(*(watched.link.read_store("c") for _ in range(3)))
    assert watched.link.definitions.get("n", 1) is None
    await watched.until(1)
    assert watched.recorder.counts[LOSSES] == 1


async def test_a_mark_that_stays_the_same_is_no_loss(watched: Watched) -> None:
    watched.link.definitions.learn(DEFINITION)
    await watched.link.read_store("c")
    assert watched.link.losses == 0
    assert watched.link.definitions.get("n", 1) is not None


async def test_a_bug_in_one_look_is_not_the_last_look(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("podium.reconciler.outages._BEFORE_ANOTHER_TRY", 0.01)
    look, bugs = watched.outages._look, [KeyError("a bug")]

    async def odd(link: Link, seen: object) -> None:
        if bugs:
            raise bugs.pop()
        await look(link, seen)  # type: ignore[arg-type]

    monkeypatch.setattr(watched.outages, "_look", odd)
    watched.conductor.lose_data()
    await watched.link.read_store("c")
    await watched.until(1)
    assert bugs == []
