"""A run in Conductor → the status that people read: bounded, whatever the run, and in their words."""

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from podium.core.effects import Report
from podium.core.objects import project_workflow_run
from podium.core.run_status import (
    MOST_OUTPUT_BYTES,
    MOST_TASKS,
    bound_output,
    describe_run,
    explain_end,
    latest_attempts,
    node_of,
)
from podium.core.runs import Policy, Seen, decide_run, report_conditions
from podium.ports import Json, RunSeen, TaskSeen, TaskState

MOST_BYTES = 8192
NOW = datetime(2026, 1, 1, tzinfo=UTC)
FAILURES = ("Failed", "TimedOut")

words = st.one_of(
    st.text(max_size=30), st.text(st.characters(min_codepoint=0x1F300, max_codepoint=0x1F5FF), max_size=400)
)
times = st.integers(0, 2_000_000_000_000)
states: st.SearchStrategy[TaskState] = st.sampled_from(
    [
        "SCHEDULED",
        "IN_PROGRESS",
        "COMPLETED",
        "COMPLETED_WITH_ERRORS",
        "FAILED",
        "FAILED_WITH_TERMINAL_ERROR",
        "CANCELED",
        "TIMED_OUT",
        "SKIPPED",
    ]
)
tasks = st.lists(
    st.builds(
        TaskSeen,
        ref=words,
        task_type=words,
        state=states,
        system_type=st.sampled_from(["SIMPLE", "HTTP", "FORK", "JOIN", "NOOP", "SWITCH"]),
        attempt=st.integers(0, 5),
        seq=st.integers(0, 1000),
        start_ms=times,
        end_ms=times,
        worker=words,
        reason=words,
    ),
    max_size=40,
)
runs = st.builds(
    RunSeen,
    workflow_id=st.just("0f0f0f0f-0f0f-0f0f-0f0f-0f0f0f0f0f0f"),
    name=st.just("studio.video"),
    version=st.just(1),
    state=st.sampled_from(["RUNNING", "PAUSED", "COMPLETED", "FAILED", "TIMED_OUT", "TERMINATED"]),
    create_ms=times,
    end_ms=times,
    reason=words,
    output=st.one_of(st.none(), st.dictionaries(words, words, max_size=4)),
    tasks=tasks.map(tuple),
    nodes=st.one_of(st.just({}), st.dictionaries(words, words, max_size=4)),
)


def status_of(seen: RunSeen) -> Json:
    """The whole status as it is written, conditions and all."""
    conductor = {
        "name": f"{'n' * 63}.{'w' * 63}",
        "version": 1,
        "correlationId": f"{'c' * 36}.{'u' * 36}",
        "attempt": 1,
        "requestedAt": "2026-01-01T00:00:00.000000Z",
        "workflowId": seen.workflow_id,
    }
    run = project_workflow_run(
        {
            "metadata": {
                "name": "v1",
                "namespace": "studio",
                "uid": "u",
                "creationTimestamp": "2026-01-01T00:00:00Z",
            },
            "spec": {"workflow": "video", "desiredState": "Paused" if seen.state == "PAUSED" else "Running"},
            "status": {"phase": "Running", "conductor": conductor},
        }
    )
    children = frozenset(task.sub_workflow_id for task in seen.tasks)
    decided = Seen(
        run,
        None,
        Policy("c"),
        conductor=seen,
        fresh=True,
        pollers=(),
        done=frozenset({"Nudge"}),
        read_children=children,
    )
    report = decide_run(decided, NOW)
    assert isinstance(report, Report)
    return report_conditions(decided, report, NOW)


def size_of(status: Json) -> int:
    return len(json.dumps(status, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace"))


@given(runs)
@settings(max_examples=150, deadline=None)
def test_the_whole_status_is_small_whatever_the_run(seen: RunSeen) -> None:
    status = status_of(seen)
    assert size_of(status) <= MOST_BYTES
    assert len(status["tasks"]) <= MOST_TASKS
    assert len(status.get("message", "")) <= 256


@pytest.mark.parametrize("letter", ["x", "ß", "語", "🎬", '"', "\n"])
@pytest.mark.parametrize("state", ["RUNNING", "COMPLETED", "FAILED"])
def test_the_longest_of_everything_is_small_and_keeps_the_failure(letter: str, state: str) -> None:
    long = letter * 5_000
    done = [
        TaskSeen(f"{n}{long}", long, "COMPLETED", seq=n, start_ms=1, end_ms=1, worker=long)
        for n in range(500)
    ]
    failed = TaskSeen("bad", long, "FAILED", seq=900, start_ms=1, end_ms=1, worker=long, reason=long)
    seen = RunSeen(
        "w1",
        "studio.video",
        1,
        state,  # type: ignore[arg-type]
        create_ms=1,
        end_ms=1,
        reason=long,
        tasks=(*done, failed),
        output={"k": letter * (2000 // len(json.dumps(letter, ensure_ascii=False).encode()))},
    )
    status = status_of(seen)
    assert size_of(status) <= MOST_BYTES
    assert status["tasks"][0]["id"] == "bad"


def test_an_ordinary_run_shows_sixteen_tasks() -> None:
    done = [
        TaskSeen(
            f"render-{n}", "render_image", "COMPLETED", seq=n, start_ms=1, end_ms=1, worker=f"media-7d9-{n}"
        )
        for n in range(30)
    ]
    shown = status_of(RunSeen("w1", "n", 1, "RUNNING", tasks=tuple(done)))["tasks"]
    assert [task["id"] for task in shown] == [f"render-{n}" for n in range(14, 30)]


@given(runs)
@settings(max_examples=100, deadline=None)
def test_failures_come_first_and_are_never_left_out_for_others(seen: RunSeen) -> None:
    status = describe_run(seen)
    shown = [task["status"] in FAILURES for task in status["tasks"]]
    assert shown == sorted(shown, reverse=True)
    if not all(shown):
        hidden = {"FORK", "JOIN", "NOOP"} if seen.nodes else set()
        failed = [
            task
            for task in latest_attempts(seen.tasks)
            if task.state in ("FAILED", "FAILED_WITH_TERMINAL_ERROR", "TIMED_OUT")
            and (task.system_type not in hidden or task.ref in (seen.nodes or {}))
        ]
        assert sum(shown) >= len(failed)


@given(runs)
@settings(max_examples=100, deadline=None)
def test_each_task_counts_once_by_its_latest_attempt(seen: RunSeen) -> None:
    latest = latest_attempts(seen.tasks)
    assert len({task.ref for task in latest}) == len(latest)
    for task in latest:
        assert task.attempt == max(item.attempt for item in seen.tasks if item.ref == task.ref)
    counts = describe_run(seen)["counts"]
    assert sum(counts.values()) <= len(latest)


def test_a_task_that_is_tried_again_is_one_task_with_two_attempts() -> None:
    seen = RunSeen(
        "w1",
        "n",
        1,
        "RUNNING",
        tasks=(
            TaskSeen("a", "make", "IN_PROGRESS", attempt=0, seq=1),  # a read during a decision is not atomic
            TaskSeen("a", "make", "SCHEDULED", attempt=1, seq=2),
        ),
    )
    [task] = describe_run(seen)["tasks"]
    assert (task["id"], task["status"], task["attempts"]) == ("a", "Pending", 2)
    assert describe_run(seen)["counts"] == {"pending": 1, "running": 0, "completed": 0, "failed": 0}


def test_what_the_compiler_added_is_not_shown_and_not_counted() -> None:
    seen = RunSeen(
        "w1",
        "n",
        1,
        "RUNNING",
        tasks=(
            TaskSeen("fork_1", "FORK", "COMPLETED", system_type="FORK", seq=1),
            TaskSeen("a", "make", "COMPLETED", seq=2),
            TaskSeen("a_mark", "NOOP", "COMPLETED", system_type="NOOP", seq=3),
            TaskSeen("b", "make", "IN_PROGRESS", seq=4),
            TaskSeen("join_1", "JOIN", "IN_PROGRESS", system_type="JOIN", seq=5),
        ),
        nodes={"a": "draw it", "b": "show it", "c": "tell it"},
    )
    status = describe_run(seen)
    assert [task["id"] for task in status["tasks"]] == ["draw it", "show it"]
    assert (status["progress"], status["currentTask"]) == ("1/3", "show it")


def test_a_definition_that_podium_did_not_compile_shows_everything() -> None:
    tasks = (TaskSeen("j", "JOIN", "IN_PROGRESS", system_type="JOIN"),)
    assert [task["id"] for task in describe_run(RunSeen("w", "n", 1, "RUNNING", tasks=tasks))["tasks"]] == [
        "j"
    ]


@pytest.mark.parametrize(
    ("ref", "shown"),
    [("a", "draw"), ("a__2", "draw__2"), ("other", "other"), ("other__3", "other__3"), ("b__1", "exact")],
)
def test_people_read_the_ids_that_they_wrote_and_loops_their_turn(ref: str, shown: str) -> None:
    assert node_of(ref, {"a": "draw", "b": "plain", "b__1": "exact"}) == shown


def test_the_turns_of_a_loop_are_tasks_of_their_own() -> None:
    tasks = tuple(TaskSeen(f"a__{n}", "make", "COMPLETED", seq=n) for n in (1, 2, 3))
    status = describe_run(RunSeen("w", "n", 1, "COMPLETED", tasks=tasks, nodes={"a": "draw"}))
    assert [task["id"] for task in status["tasks"]] == ["draw__1", "draw__2", "draw__3"]
    assert status["progress"] == "3/3"


def test_a_branch_not_taken_is_no_debt_once_it_succeeded() -> None:
    tasks = (TaskSeen("a", "make", "COMPLETED"),)
    seen = RunSeen("w", "n", 1, "COMPLETED", tasks=tasks, nodes={"a": "a", "not_taken": "b"})
    assert describe_run(seen)["progress"] == "1/1"


@pytest.mark.parametrize(
    ("story", "seen", "message"),
    [
        (
            "retries used up",
            RunSeen(
                "w",
                "n",
                1,
                "FAILED",
                reason="Task 7c3f failed with status: FAILED and reason: 'no disk'",
                tasks=(
                    TaskSeen("a", "t", "FAILED", attempt=0, reason="no net"),
                    TaskSeen("a", "t", "FAILED", attempt=1, reason="no disk"),
                ),
                nodes={"a": "save"},
            ),
            "save failed after 2 attempts: no disk",
        ),
        (
            "timed out",
            RunSeen("w", "n", 1, "TIMED_OUT", tasks=(TaskSeen("a", "t", "TIMED_OUT", reason="too slow"),)),
            "a timed out: too slow",
        ),
        (
            "terminal error without words",
            RunSeen("w", "n", 1, "FAILED", tasks=(TaskSeen("a", "t", "FAILED_WITH_TERMINAL_ERROR"),)),
            "a failed",
        ),
        (
            "the first of several",
            RunSeen(
                "w",
                "n",
                1,
                "FAILED",
                tasks=(
                    TaskSeen("late", "t", "FAILED", seq=1, end_ms=9),
                    TaskSeen("early", "t", "FAILED", seq=2, end_ms=5, reason="x"),
                    TaskSeen("sibling", "t", "CANCELED", seq=3, end_ms=1),
                ),
            ),
            "early failed: x",
        ),
        (
            "terminated",
            RunSeen("w", "n", 1, "TERMINATED", reason="by hand", tasks=(TaskSeen("a", "t", "CANCELED"),)),
            "by hand",
        ),
        (
            "no reason",
            RunSeen("w", "n", 1, "TIMED_OUT"),
            "the run ended as TimedOut; Conductor gives no reason",
        ),
        (
            "a failure that was retried well",
            RunSeen(
                "w",
                "n",
                1,
                "TERMINATED",
                reason="by hand",
                tasks=(TaskSeen("a", "t", "FAILED", reason="x"), TaskSeen("a", "t", "COMPLETED", attempt=1)),
            ),
            "by hand",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_why_it_ended(story: str, seen: RunSeen, message: str) -> None:
    assert explain_end(seen) == message


@given(st.dictionaries(words, words, max_size=5))
def test_an_output_is_whole_or_not_there(output: Json) -> None:
    bounded = bound_output(output)
    if bounded.get("outputTruncated"):
        assert "output" not in bounded
    elif output:
        assert bounded == {"output": output}
        assert size_of(output) <= MOST_OUTPUT_BYTES
    else:
        assert bounded == {}


def nested(depth: int) -> Json:
    output: Json = {"end": 1}
    for _ in range(depth):
        output = {"a": output}
    return output


@pytest.mark.parametrize(
    ("output", "whole"),
    [
        ({"k" * 900: 1}, True),
        ({"k" * 1100: 1}, False),
        ({"a": [{"b": {"é" * 300: 1}}]}, False),
        (nested(20), True),
        (nested(200), False),
        ({"a": json.loads("[" * 900 + "]" * 900)}, False),
    ],
    ids=["short key", "long key", "escaped key", "shallow", "deep", "deeper than a stack"],
)
def test_an_output_that_no_status_can_hold_is_left_out_as_a_long_one_is(output: Json, whole: bool) -> None:
    assert bound_output(output) == ({"output": output} if whole else {"outputTruncated": True})
