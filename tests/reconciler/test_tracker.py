"""Runs in Conductor are followed with few requests: notices are hints, the sweep is the truth."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

import pytest

from podium.ports import Key, Moved, RetryLater, RunSeen, TaskSeen
from podium.reconciler.tracker import RunTracker
from support.eventually import eventually
from support.fakes import FakeClock, FakeConductor


class Followed:
    """A tracker at work on a Conductor in memory; `woken` in order."""

    def __init__(self, *, sweep_interval: float = 3600.0) -> None:
        self.conductor = FakeConductor(FakeClock(), lasts=1e9)
        self.woken: list[str] = []
        self.strangers: list[tuple[str, str]] = []
        self.tracker = RunTracker(
            self.conductor,
            lambda key: self.woken.append(key.name),
            sweep_interval=sweep_interval,
            stranger=lambda *who: self.strangers.append(who),
        )

    def add(self, *names: str) -> None:
        for name in names:
            self.conductor.runs[name] = RunSeen(name, "n", 1, "RUNNING", f"c.{name}")
            self.tracker.watch(name, Key("WorkflowRun", "studio", name))

    async def until_woken(self, count: int) -> None:
        async def look() -> int:
            return len(self.woken)

        await eventually(look, lambda seen: seen >= count, within=10, every=0.005)


@pytest.fixture
async def followed() -> AsyncIterator[Followed]:
    ready = Followed()
    following = asyncio.create_task(ready.tracker.run())
    yield ready
    following.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await following


async def test_many_that_move_at_once_are_one_read(followed: Followed) -> None:
    names = [f"w{n}" for n in range(40)]
    followed.add(*names)
    await followed.until_woken(40)
    followed.conductor.reads.clear()
    for name in names:
        followed.conductor.set_state(name, "PAUSED")
        followed.tracker.notice(name, ended=False)
    await followed.until_woken(80)
    assert [len(read) for read in followed.conductor.reads] == [40]


async def test_more_than_fifty_are_read_in_parts(followed: Followed) -> None:
    followed.add(*(f"w{n}" for n in range(120)))
    await followed.until_woken(120)
    assert sorted(len(read) for read in followed.conductor.reads) == [20, 50, 50]


async def test_a_notice_without_a_change_wakes_nobody(followed: Followed) -> None:
    followed.add("w1", "w2")
    await followed.until_woken(2)
    followed.tracker.notice("w1", ended=False)
    followed.tracker.notice("nobody", ended=True)
    followed.conductor.set_state("w2", "PAUSED")
    followed.tracker.notice("w2", ended=False)
    await followed.until_woken(3)
    assert followed.woken[2:] == ["w2"]


async def test_the_sweep_finds_what_notices_lost_once(followed: Followed) -> None:
    followed.conductor.moved = [Moved("w1", "c.w1", 800)]
    followed.add("w1")
    await followed.until_woken(1)
    await followed.tracker.sweep()
    followed.conductor.set_state("w1", "COMPLETED")
    followed.conductor.moved = [Moved("w1", "c.w1", 1000), Moved("theirs", "c.theirs", 900)]
    await followed.tracker.sweep()
    await followed.until_woken(2)
    assert followed.strangers == [("c.theirs", "theirs")]
    reads = len(followed.conductor.reads)
    await followed.tracker.sweep()  # the overlap shows the same rows again
    assert followed.strangers == [("c.theirs", "theirs")]
    assert not followed.tracker._stale
    assert len(followed.conductor.reads) == reads


async def test_a_notice_of_an_end_that_the_store_does_not_show_yet_is_read_again(followed: Followed) -> None:
    followed.add("w1")
    await followed.until_woken(1)
    followed.tracker.notice("w1", ended=True)

    async def reads() -> int:
        return len(followed.conductor.reads)

    await eventually(reads, lambda seen: seen >= 3, within=10, every=0.005)
    followed.conductor.set_state("w1", "COMPLETED")
    await followed.until_woken(2)
    seen = followed.tracker.view("w1")
    assert isinstance(seen, RunSeen)
    assert seen.state == "COMPLETED"


async def test_a_run_that_is_not_there_is_absent_and_not_unread(followed: Followed) -> None:
    followed.tracker.watch("w9", Key("WorkflowRun", "studio", "w9"))
    assert followed.tracker.view("w9") is None
    await followed.until_woken(1)
    assert followed.tracker.view("w9") == "Absent"


async def test_while_conductor_is_away_nothing_is_forgotten(followed: Followed) -> None:
    followed.conductor.away = RetryLater
    followed.add("w1")

    async def tried() -> int:
        return followed.conductor.calls["get_runs"]

    await eventually(tried, lambda seen: seen >= 1, within=10)
    assert followed.woken == []
    followed.conductor.away = None
    await followed.until_woken(1)


async def test_what_ended_is_listened_to_but_not_kept(followed: Followed) -> None:
    followed.add("w1")
    await followed.until_woken(1)
    followed.tracker.settle("w1")
    assert followed.tracker.view("w1") is None
    assert followed.tracker.is_watched("w1")
    followed.conductor.runs["w1"] = replace(followed.conductor.runs["w1"], state="FAILED")
    followed.tracker.notice("w1", ended=True)
    await followed.until_woken(2)


async def test_a_deleted_object_is_not_followed(followed: Followed) -> None:
    followed.add("w1", "w2")
    await followed.until_woken(2)
    followed.tracker.forget_key(Key("WorkflowRun", "studio", "w1"))
    assert not followed.tracker.is_watched("w1")
    assert followed.tracker.view("w1") is None
    assert followed.tracker.is_watched("w2")


async def test_a_run_forgotten_before_it_was_read_harms_nothing(followed: Followed) -> None:
    """Deleted in the moment between its notice and the read: this once ended the whole operator."""
    followed.add("gone")
    await followed.until_woken(1)
    followed.tracker.notice("gone", ended=False)
    # The reader has woken and gathers; now what it gathered for goes.
    await asyncio.sleep(0)
    followed.tracker.forget("gone")
    followed.add("here")
    followed.tracker.forget("here")
    await asyncio.sleep(0)
    followed.add("alive")
    await followed.until_woken(2)
    assert followed.woken == ["gone", "alive"]


async def test_nothing_left_to_read_is_no_end(followed: Followed) -> None:
    followed.add("only")
    await asyncio.sleep(0)
    followed.tracker.forget("only")
    reading = followed.tracker
    await eventually(lambda: asyncio.sleep(0, reading._work.is_set()), lambda is_set: not is_set, within=5)
    followed.add("next")
    await followed.until_woken(1)


async def test_a_big_run_has_its_rest_but_its_end_and_others_have_not_to_wait_for_it(
    followed: Followed,
) -> None:
    followed.add("big", "small")
    await followed.until_woken(2)
    tasks = tuple(TaskSeen(f"t{n}", "t", "SCHEDULED") for n in range(3_000))
    followed.conductor.runs["big"] = replace(followed.conductor.runs["big"], tasks=tasks)
    followed.tracker.notice("big", ended=False)
    await followed.until_woken(3)
    followed.conductor.reads.clear()
    followed.tracker.notice("big", ended=False)  # rests for ten seconds now
    followed.conductor.set_state("small", "PAUSED")
    followed.tracker.notice("small", ended=False)
    await followed.until_woken(4)
    assert followed.conductor.reads == [("small",)]
    followed.conductor.set_state("big", "COMPLETED")
    followed.tracker.notice("big", ended=True)
    await followed.until_woken(5)
    assert followed.conductor.reads == [("small",), ("big",)]


@pytest.mark.parametrize("moved", [None, []], ids=["no search", "no index"])
async def test_without_a_search_active_runs_are_read_in_turn(
    followed: Followed, moved: list[Moved] | None
) -> None:
    """So many a sweep, until each had its turn; what has ended and is written is left alone."""
    names = [f"w{n}" for n in range(120)]
    followed.add(*names)
    await followed.until_woken(120)
    followed.tracker.settle("w0")
    followed.conductor.moved = moved
    followed.conductor.reads.clear()
    for sweep in range(1, 4):
        await followed.tracker.sweep()

        async def count() -> int:
            return sum(len(read) for read in followed.conductor.reads)

        await eventually(count, lambda seen, sweep=sweep: seen == 50 * sweep, within=5, every=0.005)
    read = [name for ids in followed.conductor.reads for name in ids]
    assert set(read) == set(names) - {"w0"}
    assert max(read.count(name) for name in names) == 2


async def test_a_read_that_is_too_much_at_once_is_made_smaller(followed: Followed) -> None:
    """Else it would run out of time again and again, and nothing would ever be seen."""
    read = followed.conductor.get_runs

    async def get_few(workflow_ids: Sequence[str]) -> dict[str, RunSeen | None]:
        if len(workflow_ids) > 10:
            raise RetryLater("it did not answer in time")
        return await read(workflow_ids)

    followed.conductor.get_runs = get_few  # type: ignore[method-assign]
    followed.add(*(f"w{n}" for n in range(30)))
    await followed.until_woken(30)


async def test_while_only_the_search_is_ill_active_runs_are_read_all_the_same() -> None:
    ready = Followed(sweep_interval=0.02)

    async def search() -> int | None:
        raise RetryLater("no Elasticsearch")

    ready.conductor.find_last_move = search  # type: ignore[method-assign]
    following = asyncio.create_task(ready.tracker.run())
    try:
        ready.add("w")
        await ready.until_woken(1)
        ready.conductor.set_state("w", "COMPLETED")
        await ready.until_woken(2)
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)


async def test_a_bug_in_one_read_or_sweep_is_not_the_end_of_following() -> None:
    followed = Followed(sweep_interval=0.01)
    read, sweep = followed.conductor.get_runs, followed.conductor.find_last_move
    bugs = ["read", "sweep"]

    async def odd_read(workflow_ids: Sequence[str]) -> dict[str, RunSeen | None]:
        if "read" in bugs:
            bugs.remove("read")
            raise KeyError("a bug")
        return await read(workflow_ids)

    async def odd_sweep() -> int | None:
        if "sweep" in bugs:
            bugs.remove("sweep")
            raise KeyError("a bug")
        return await sweep()

    followed.conductor.get_runs = odd_read  # type: ignore[method-assign]
    followed.conductor.find_last_move = odd_sweep  # type: ignore[method-assign]
    followed.add("w1")
    following = asyncio.create_task(followed.tracker.run())
    await followed.until_woken(1)

    async def swept() -> int:
        return followed.tracker.sweeps

    await eventually(swept, lambda sweeps: sweeps > 0, within=10, every=0.005)
    assert bugs == []
    following.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await following


async def test_a_long_history_is_not_read_to_begin_with(followed: Followed) -> None:
    history = [Moved(f"old{n}", "", 1_000 + n) for n in range(9_000)]
    followed.conductor.moved = [*history]
    followed.add("w1")
    await followed.until_woken(1)
    await followed.tracker.sweep()
    assert followed.conductor.calls["list_moved"] == 0
    assert followed.strangers == []
    # What moved between its first read and the first sweep is not lost.
    followed.conductor.set_state("w1", "PAUSED")
    followed.conductor.moved.append(Moved("w1", "c.w1", 20_000))
    followed.tracker._watermark_ms = 0
    await followed.tracker.sweep()
    await followed.until_woken(2)
    followed.conductor.moved.append(Moved("new", "c.new", 21_000))
    await followed.tracker.sweep()
    assert ("c.new", "new") in followed.strangers
    assert not any(workflow_id.startswith("old") for _, workflow_id in followed.strangers)


async def test_after_a_flood_what_is_watched_is_read_and_not_what_moved(followed: Followed) -> None:
    followed.conductor.moved = [Moved("w1", "c.w1", 1)]
    followed.add("w1", "ended")
    await followed.until_woken(2)
    await followed.tracker.sweep()
    followed.tracker.settle("ended")
    followed.conductor.set_state("w1", "PAUSED")
    followed.conductor.set_state("ended", "RUNNING")
    followed.conductor.moved = [Moved(f"x{n}", "", 10_000 + n) for n in range(20_000)]
    await followed.tracker.sweep()
    await followed.until_woken(4)
    assert sorted(followed.woken[2:]) == ["ended", "w1"]
    assert followed.strangers == []
    await followed.tracker.sweep()
    assert len(followed.strangers) <= 5_001  # those of the last five seconds
