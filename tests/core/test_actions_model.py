"""Each action is done exactly once, whatever is lost and wherever the operator is killed.

As `test_exactly_once_model.py`, with a run that exists and fails each time it runs: an action that came
through twice would show. `tests/e2e/test_exactly_once.py` has the same law on the real servers.
"""

import itertools
from collections.abc import Iterable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.test_exactly_once_model import LATEST, World, fates
from podium.ports import Json, TaskSeen
from support.fakes import START_FATES, Fate

ACTIONS: tuple[Json, ...] = (
    {"type": "Retry"},
    {"type": "Restart"},
    {"type": "Rerun", "fromTask": "a"},
)
TASKS = (TaskSeen("a", "make", "FAILED", "t1", scheduled_ms=1),)


class Acting(World):
    """A run that has failed, and that fails again each time it runs."""

    def __init__(
        self, fates: Iterable[tuple[Fate, float]] = (), kill_at: Iterable[int] = (), *, wait: float = 90.0
    ) -> None:
        super().__init__(wait=wait)
        self.conductor.definitions["studio.video", 1] = {
            "name": "studio.video",
            "version": 1,
            "tasks": [{"name": "make", "taskReferenceName": "a", "type": "SIMPLE"}],
        }
        self.conductor.ends_as = "FAILED"
        self.live_until_finished()
        [run] = self.runs
        self.conductor.runs[run.workflow_id] = replace(run, tasks=TASKS)
        self.live(1.0)
        self.conductor.action_fates = itertools.chain(fates, itertools.repeat(("answered", 0.0)))
        self._boundary = itertools.count()
        self._kill_at = frozenset(kill_at)

    def ask(self, action: Json, number: int) -> None:
        """A person changes spec.action."""
        spec = {**self.cluster.objects[self.key]["spec"], "action": {**action, "id": str(number)}}
        self.cluster.put("WorkflowRun", "v1", {"spec": spec})
        self.watch()

    def live_until_answered(self, number: int) -> None:
        while self.status.get("lastAction", {}).get("id") != str(number):
            assert self.clock.monotonic() < 7200, self.status
            self.live(1.0)

    def law(self, wanted: list[str]) -> None:
        """Each was done once, and is said to be done."""
        self.live(2 * LATEST)
        assert self.conductor.acted == wanted
        assert self.status["lastAction"]["result"] == "Done"
        assert "pendingAction" not in self.status
        assert self.status["phase"] == "Failed"


moments = st.sets(st.integers(0, 25), max_size=8)


@given(st.sampled_from(ACTIONS), fates, moments)
@settings(max_examples=80, deadline=None)
def test_an_action_is_done_once(action: Json, fates: list[tuple[Fate, float]], kill_at: set[int]) -> None:
    world = Acting(fates, kill_at)
    world.ask(action, 1)
    world.live_until_answered(1)
    world.law([action["type"]])


@given(st.lists(st.sampled_from(ACTIONS), min_size=2, max_size=4), fates, moments)
@settings(max_examples=30, deadline=None)
def test_each_of_several_is_done_once(
    actions: list[Json], fates: list[tuple[Fate, float]], kill_at: set[int]
) -> None:
    world = Acting(fates, kill_at)
    for number, action in enumerate(actions, 1):
        world.ask(action, number)
        world.live_until_answered(number)
        world.live_until_finished()
    world.law([action["type"] for action in actions])


def test_it_survives_hundreds_of_kills() -> None:
    kills = 0
    for action, fate, delay in itertools.product(ACTIONS, START_FATES, (0.0, LATEST)):
        for first, gap in itertools.product(range(6), range(1, 4)):
            world = Acting([(fate, delay)] * 2, range(first, first + 5 * gap, gap))
            world.ask(action, 1)
            world.live_until_answered(1)
            world.law([action["type"]])
            kills += world.kills
    assert kills > 500


@pytest.mark.parametrize("action", ACTIONS, ids=lambda action: action["type"])
def test_a_wait_that_is_too_short_would_do_it_twice(action: Json) -> None:
    """Shows that the model can see the fault: the answer is lost, and it comes through after the wait."""
    world = Acting([("answer lost", 15.0)], wait=3.0)
    world.ask(action, 1)
    world.live(60.0)
    assert world.conductor.acted == [action["type"]] * 2
