"""What is removed with a run: everything that Conductor started because of it, and nothing else."""

from datetime import timedelta

import pytest

from podium.core.effects import FindFamily, Relative, Remove, Unknown
from podium.ports import RetryLater, RunSeen, RunState, TaskSeen
from podium.reconciler.family import find_family, remove_family
from support.fakes import FakeClock, FakeConductor, run_now

CLOCK = FakeClock()
LATER = CLOCK.now() + timedelta(minutes=1)
WANTED = FindFamily(("root",), "studio.video", "c.u", LATER)


def add(
    conductor: FakeConductor,
    workflow_id: str,
    *,
    parent: str = "",
    names: tuple[str, ...] = (),
    state: RunState = "COMPLETED",
    name: str = "studio.sub",
    correlation_id: str = "c.u",
    failure_run: bool = False,
    output: dict[str, str] | None = None,
) -> None:
    tasks = tuple(TaskSeen(item, "SUB_WORKFLOW", "COMPLETED", sub_workflow_id=item) for item in names)
    conductor.runs[workflow_id] = RunSeen(
        workflow_id,
        name,
        1,
        state,
        correlation_id,
        output=dict(output or {}),
        tasks=tasks,
        parent_id=parent,
        failure_run=failure_run,
    )


@pytest.fixture
def conductor() -> FakeConductor:
    return FakeConductor(CLOCK, lasts=1e9)


def found(conductor: FakeConductor, wanted: FindFamily = WANTED) -> list[str]:
    family = run_now(find_family(conductor, CLOCK, wanted))
    assert not isinstance(family, Unknown), family
    return [item.workflow_id for item in family]


def test_sub_workflows_at_any_depth_come_before_what_started_them(conductor: FakeConductor) -> None:
    add(conductor, "root", names=("a", "b"), name="studio.video")
    add(conductor, "b", parent="root")
    add(conductor, "a", parent="root", names=("a1",))
    add(conductor, "a1", parent="a", correlation_id="")
    order = found(conductor)
    assert sorted(order) == ["a", "a1", "b", "root"]
    assert order[-1] == "root"
    assert order.index("a1") < order.index("a")


def test_a_failure_run_is_found_and_so_are_children_that_no_task_names_any_more(
    conductor: FakeConductor,
) -> None:
    add(conductor, "root", name="studio.video", output={"conductor.failure_workflow": "f"})
    add(conductor, "f", failure_run=True, names=("f1",))
    add(conductor, "f1", parent="f")
    add(conductor, "before-the-restart", parent="root")
    add(conductor, "child-of-that", parent="before-the-restart")
    assert set(found(conductor)) == {"root", "f", "f1", "before-the-restart", "child-of-that"}


def test_a_task_that_names_someone_elses_run_removes_nothing_of_theirs(conductor: FakeConductor) -> None:
    add(
        conductor, "root", names=("theirs",), name="studio.video", output={"conductor.failure_workflow": "t2"}
    )
    add(conductor, "theirs", name="other.secret", correlation_id="c.other", names=("t3",))
    add(conductor, "t2", name="other.secret", correlation_id="c.other", failure_run=True)
    add(conductor, "t3", parent="theirs", correlation_id="c.other")
    add(conductor, "started-apart", name="studio.other")  # START_WORKFLOW with our correlation id
    assert found(conductor) == ["root"]


def test_a_duplicate_goes_too(conductor: FakeConductor) -> None:
    add(conductor, "root", name="studio.video")
    add(conductor, "twin", name="studio.video", state="TERMINATED")
    assert found(conductor) == ["twin", "root"]


def test_children_are_found_although_the_run_is_gone_already(conductor: FakeConductor) -> None:
    add(conductor, "a", parent="root")
    assert found(conductor) == ["a"]


def test_a_server_that_cannot_answer_is_unknown_and_nothing_is_removed(conductor: FakeConductor) -> None:
    add(conductor, "root", name="studio.video")
    conductor.away = RetryLater
    assert run_now(find_family(conductor, CLOCK, WANTED)) == Unknown("Conductor is away")


def test_there_is_an_end_to_the_search(conductor: FakeConductor) -> None:
    add(conductor, "root", name="studio.video")
    late = FindFamily(("root",), "studio.video", "c.u", CLOCK.now())
    assert isinstance(run_now(find_family(conductor, CLOCK, late)), Unknown)


def test_what_is_active_is_ended_before_it_is_removed(conductor: FakeConductor) -> None:
    add(conductor, "a", parent="root", state="RUNNING")
    add(conductor, "root", name="studio.video", state="TERMINATED")
    family = (Relative("a", True), Relative("gone", True), Relative("root", False))
    assert run_now(remove_family(conductor, CLOCK, Remove(family, LATER))) == ""
    assert conductor.removed == ["a", "root"]
    assert conductor.calls["terminate"] == 2
    assert run_now(remove_family(conductor, CLOCK, Remove(family, LATER))) == ""


def test_what_could_not_be_removed_is_said(conductor: FakeConductor) -> None:
    family = (Relative("root", False),)
    assert "no time" in run_now(remove_family(conductor, CLOCK, Remove(family, CLOCK.now())))
    conductor.away = RetryLater
    assert run_now(remove_family(conductor, CLOCK, Remove(family, LATER))) == "Conductor is away"
