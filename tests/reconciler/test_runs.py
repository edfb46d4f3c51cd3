"""What a pass over a run looks at in Conductor: its own sub-workflows, and nobody else's."""

import itertools
from dataclasses import replace

import pytest

from podium.ports import RunSeen, TaskSeen
from support.fakes import Fate
from support.one_run import World


def sub_workflow(ref: str, workflow_id: str, state: str = "FAILED") -> TaskSeen:
    return TaskSeen(ref, "sub", state, f"t-{ref}", "SUB_WORKFLOW", sub_workflow_id=workflow_id)  # type: ignore[arg-type]


@pytest.fixture
def world() -> World:
    """Its run goes on in Conductor as w1."""
    world = World(lasts=1e9)
    world.live(5)
    assert world.status["phase"] == "Running"
    return world


def tell(world: World, **changes: object) -> None:
    world.conductor.runs["w1"] = replace(world.conductor.runs["w1"], **changes)  # type: ignore[arg-type]
    world.live(10)


def test_a_run_that_names_itself_as_its_sub_workflow_is_a_run_like_any_other(world: World) -> None:
    world.conductor.runs["w2"] = RunSeen(
        "w2", "sub", 1, "FAILED", parent_id="w1", tasks=(sub_workflow("b", "w1"),)
    )
    tasks = (sub_workflow("a", "w1"), sub_workflow("b", "w2"))
    tell(world, state="FAILED", tasks=tasks)
    assert world.status["phase"] == "Failed"


@pytest.mark.parametrize(("parent", "told"), [("w1", "a failed: the disk is full"), ("someone", "a failed")])
def test_what_a_task_names_counts_only_if_that_run_says_so_too(world: World, parent: str, told: str) -> None:
    world.conductor.runs["theirs"] = RunSeen(
        "theirs", "other.secret", 1, "FAILED", parent_id=parent, reason="the disk is full"
    )
    tell(world, state="FAILED", tasks=(sub_workflow("a", "theirs"),))
    assert world.status["message"] == told


def test_nobody_answers_a_task_of_a_run_that_is_not_below_his_own(world: World) -> None:
    asks = TaskSeen("ok", "ok", "IN_PROGRESS", "t1", "HUMAN")
    world.conductor.runs["theirs"] = RunSeen(
        "theirs", "other.secret", 1, "RUNNING", parent_id="someone", tasks=(asks,)
    )
    world.cluster.objects[world.key]["status"]["approvals"] = [
        {"task": "a/ok", "decision": "Approve", "by": "eve", "at": "2026-01-01T00:01:00Z"}
    ]
    tell(world, tasks=(sub_workflow("a", "theirs", "IN_PROGRESS"),))
    assert world.conductor.calls["answer"] == 0
    world.conductor.runs["theirs"] = replace(world.conductor.runs["theirs"], parent_id="w1")
    world.live(10)
    assert world.conductor.calls["answer"] > 0


def test_a_run_with_hundreds_of_open_sub_workflows_ends_all_the_same(world: World) -> None:
    tasks = [sub_workflow(f"s{number}", f"c{number}", "CANCELED") for number in range(400)]
    tasks += [sub_workflow(f"f{number}", f"d{number}") for number in range(400)]
    for task in tasks:
        world.conductor.runs[task.sub_workflow_id] = RunSeen(
            task.sub_workflow_id, "sub", 1, "FAILED", parent_id="w1", reason="no more room"
        )
    tell(world, state="FAILED", tasks=tuple(tasks))
    assert world.status["phase"] == "Failed"
    assert world.status["message"] == "f0 failed: no more room"


def test_a_failure_run_is_shown_until_it_ends_or_conductor_no_longer_has_it(world: World) -> None:
    world.conductor.runs["f1"] = RunSeen("f1", "undo", 1, "RUNNING")
    tell(world, state="FAILED", output={"conductor.failure_workflow": "f1"})
    assert world.status["failureRun"] == {"workflowId": "f1", "phase": "Running"}
    del world.conductor.runs["f1"]
    world.live(10)
    assert world.status["failureRun"] == {
        "workflowId": "f1",
        "phase": "Failed",
        "message": "it no longer exists in Conductor",
    }


def test_a_run_that_fails_before_its_id_is_written_says_why() -> None:
    world = World(lasts=1e9)
    while not world.conductor.started:
        world.step()
        world.clock.advance(0.01)
    assert "workflowId" not in world.status["conductor"]
    world.conductor.runs["c"] = RunSeen("c", "sub", 1, "FAILED", parent_id="w1", reason="no more room")
    run = replace(world.conductor.runs["w1"], state="FAILED", tasks=(sub_workflow("a", "c"),))
    world.conductor.runs["w1"] = run
    world.tracker.read()
    world.live(10)
    assert (world.status["phase"], world.status["message"]) == ("Failed", "a failed: no more room")


@pytest.mark.parametrize(
    ("fate", "reason"), [("not registered", "WorkflowNotReady"), ("not sent", "ConductorUnavailable")]
)
def test_a_start_that_came_to_nothing_has_a_rest_whatever_wakes_the_run(fate: Fate, reason: str) -> None:
    """The news of what was written for a try came before its answer once, and made the next try at once."""
    world = World([(fate, 0.0)] * 2)
    for _ in range(20):
        world.step()
        world.cluster.touch(world.key)
        world.watch()
    assert world.conductor.calls["start"] == 1
    ready = next(item for item in world.status["conditions"] if item["type"] == "Ready")
    assert (world.status["phase"], ready["reason"]) == ("Pending", reason)
    world.live(30)
    assert world.status["phase"] == "Succeeded"
    assert world.conductor.calls["start"] == 3


def test_an_action_that_was_not_sent_has_a_rest_too() -> None:
    world = World(lasts=1.0)
    world.live_until_finished()
    world.conductor.action_fates = itertools.chain(
        [("not sent", 0.0)] * 2, itertools.repeat(("answered", 0.0))
    )
    spec = world.cluster.objects[world.key]["spec"] | {"action": {"id": "1", "type": "Restart"}}
    world.cluster.put("WorkflowRun", "v1", {"spec": spec})
    for _ in range(20):
        world.step()
        world.cluster.touch(world.key)
        world.watch()
    assert world.conductor.calls["Restart"] == 1
    world.live(30)
    assert (world.conductor.calls["Restart"], world.status["lastAction"]["result"]) == (3, "Done")
