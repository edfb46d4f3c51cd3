"""Exactly one run in Conductor per WorkflowRun, whatever is lost and wherever the operator is killed.

The real reconciler on an API server and a Conductor in memory; time is a value, so thousands of
crashes take seconds. `tests/e2e/test_exactly_once.py` has the same law on the real servers.
"""

import itertools
from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from podium.ports import Json, Key
from support.fakes import START_FATES, Fate
from support.one_run import CLUSTER, WAIT, World

LATEST = 80.0
"""Seconds after which a start that got through can be seen at the latest."""

fates = st.lists(st.tuples(st.sampled_from(START_FATES), st.floats(0.0, LATEST)), max_size=6)
moments = st.sets(st.integers(0, 40), max_size=12)


def assert_exactly_once(world: World) -> None:
    """The law."""
    assert world.status["phase"] == "Succeeded"
    [run] = world.runs
    assert run.workflow_id == world.status["conductor"]["workflowId"]
    assert world.conductor.rash_starts == []


@given(fates, moments)
@settings(max_examples=150, deadline=None)
def test_exactly_one_run_whatever_is_lost_and_wherever_it_is_killed(
    fates: list[tuple[Fate, float]], kill_at: set[int]
) -> None:
    world = World(fates, kill_at)
    world.live_until_finished()
    world.live(2 * LATEST)
    assert_exactly_once(world)


@given(fates, moments, st.lists(st.booleans(), max_size=12))
@settings(max_examples=100, deadline=None)
def test_the_answers_of_the_api_server_may_be_lost_too(
    fates: list[tuple[Fate, float]], kill_at: set[int], lose_answers: list[bool]
) -> None:
    world = World(fates, kill_at, lose_answers=lose_answers)
    world.live_until_finished()
    world.live(2 * LATEST)
    assert_exactly_once(world)


def test_it_survives_thousands_of_kills() -> None:
    kills = 0
    for fate, delay in itertools.product(START_FATES, (0.0, 30.0, LATEST)):
        for first, gap in itertools.product(range(8), range(1, 6)):
            world = World([(fate, delay)] * 2, range(first, first + 6 * gap, gap))
            world.live_until_finished()
            assert_exactly_once(world)
            kills += world.kills
    assert kills > 2_500


@given(st.integers(0, 40))
@settings(deadline=None)
def test_someone_else_writes_to_the_object_all_the_time(turn: int) -> None:
    world = World()
    for number in range(turn % 7 + 3):
        if number % (turn % 3 + 1) == 0:
            world.cluster.touch(world.key)  # the watch comes after the next pass only
        world.step()
        world.clock.advance(0.05)
    world.live_until_finished()
    assert_exactly_once(world)


@given(st.integers(0, 12), st.booleans())
@settings(deadline=None)
def test_a_run_deleted_and_made_again_behind_our_back_is_a_run_of_its_own(steps: int, told: bool) -> None:
    world = World(lasts=30.0)
    for _ in range(steps):
        world.step()
        world.clock.advance(0.05)
        world.tracker.read()
    del world.cluster.objects[world.key]
    world.cluster.put("WorkflowRun", "v1", {"spec": {"workflow": "video"}})
    world.correlation_id = f"{CLUSTER}.{world.cluster.objects[world.key]['metadata']['uid']}"
    if told:
        world.watch()
    world.live_until_finished()
    assert_exactly_once(world)


def test_a_deletion_told_before_the_answer_to_the_last_write_is_not_undone() -> None:
    world = World(lasts=600.0)
    world.live(2.0)
    world.cluster.request_deletion(world.key, world.clock.now())
    world.watch()
    patch = world.cluster.patch_finalizers

    async def tell_first(key: Key, finalizers: Sequence[str], *, resource_version: str) -> Json:
        answer = await patch(key, finalizers, resource_version=resource_version)
        world.store.remove_run(key)
        return answer

    world.cluster.patch_finalizers = tell_first  # type: ignore[method-assign]
    world.step()
    assert world.key not in world.cluster.objects
    assert world.key not in world.store.runs
    assert list(world.store.runs_of("studio", "video")) == []
    assert [run.state for run in world.runs] == ["TERMINATED"]


def test_an_operator_killed_at_every_start_needs_no_more_than_patience() -> None:
    world = World([("killed", 0.0)])
    world.live_until_finished()
    assert_exactly_once(world)
    assert world.status["conductor"]["attempt"] == 1
    assert [reason for _, reason, _ in world.recorder.events] == ["Adopted", "Succeeded"]


def test_a_lost_request_is_sent_again_but_only_after_the_wait() -> None:
    world = World([("request lost", 0.0)])
    world.live(WAIT - 5)
    assert (world.conductor.calls["start"], world.status["phase"]) == (1, "Starting")
    assert world.status["conditions"][0]["reason"] == "StartUnconfirmed"
    world.live_until_finished()
    assert_exactly_once(world)
    assert (world.conductor.calls["start"], world.status["conductor"]["attempt"]) == (2, 2)


def test_a_wait_that_is_too_short_breaks_the_law_and_the_reaper_mends_it() -> None:
    world = World([("answer lost", 15.0)], wait=10.0, lasts=600.0)
    world.live(60.0)
    assert world.conductor.rash_starts == [world.correlation_id]
    recorded = world.status["conductor"]["workflowId"]
    assert {run.workflow_id: run.state for run in world.runs} == {recorded: "RUNNING", "w1": "TERMINATED"}
    assert world.recorder.counts["duplicate_runs"] == 1
    assert "DuplicateEnded" in [reason for _, reason, _ in world.recorder.events]
    world.live_until_finished()
    assert world.status["phase"] == "Succeeded"


def test_a_late_twin_of_a_run_that_was_quick_is_ended_too() -> None:
    world = World([("answer lost", 25.0)], wait=10.0)
    world.conductor._lasts = 4.0
    world.live_until_finished()
    assert world.clock.monotonic() < 25.0
    world.conductor._lasts = 600.0
    world.live(60.0)
    assert sorted(run.state for run in world.runs) == ["COMPLETED", "TERMINATED"]
