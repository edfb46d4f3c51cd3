"""`spec.action` and `status.approvals`: what is done, what is refused and why, what is never done twice."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from podium.api.v1alpha1 import FINALIZER
from podium.core import effects as do
from podium.core.effects import Report, Unknown
from podium.core.objects import project_workflow_run
from podium.core.runs import ActionOutcome, DefinitionFacts, Policy, Seen, WorkflowFacts, decide_run
from podium.core.runs.shape import shape_of, why_not_rerun, why_not_skip
from podium.ports import Json, Polled, RunSeen, RunState, TaskSeen

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
MS = int(NOW.timestamp() * 1000)
POLICY = Policy("cluster")
READY = WorkflowFacts("studio.video", 3, suspended=False)


def task(ref: str, kind: str = "SIMPLE", **more: Any) -> Json:
    return {"name": ref, "taskReferenceName": ref, "type": kind, **more}


DEFINITION: Json = {
    "tasks": [
        task("a"),
        task("fork", "FORK_JOIN", forkTasks=[[task("left"), task("left2")], [task("right")]]),
        task("join", "JOIN"),
        task("choose", "SWITCH", decisionCases={"x": [task("case"), task("case2")]}, defaultCase=[]),
        task("loop", "DO_WHILE", loopOver=[task("turn")]),
        task("child", "SUB_WORKFLOW"),
        task("node_9"),
    ]
}
SHAPE = shape_of(DEFINITION)
FACTS = DefinitionFacts(3, shape=SHAPE)


def view(state: RunState = "FAILED", tasks: tuple[TaskSeen, ...] = (), **more: Any) -> RunSeen:
    more.setdefault("create_ms", MS - 60_000)
    return RunSeen(
        "w1", "studio.video", 3, state, "cluster.uid-1", tasks=tasks, nodes={"node_9": "node-9"}, **more
    )


def seen_of(conductor: RunSeen, action: Json | None = None, status: Json | None = None, **spec: Any) -> Seen:
    body: Json = {
        "metadata": {
            "name": "v1",
            "namespace": "studio",
            "uid": "uid-1",
            "generation": 2,
            "resourceVersion": "7",
            "creationTimestamp": (NOW - timedelta(minutes=2)).isoformat(),
            "finalizers": [FINALIZER],
        },
        "spec": {"workflow": "video", **spec, **({"action": action} if action else {})},
        "status": {
            "phase": "Failed" if conductor.state == "FAILED" else "Running",
            "conductor": {
                "name": "studio.video",
                "version": 3,
                "correlationId": "cluster.uid-1",
                "workflowId": "w1",
            },
            **(status or {}),
        },
    }
    return Seen(project_workflow_run(body), READY, POLICY, conductor=conductor, definition=FACTS, fresh=True)


def last_action(seen: Seen, now: datetime = NOW) -> Json:
    effect = decide_run(seen, now)
    assert isinstance(effect, Report), effect
    assert effect.status is not None
    answered: Json = effect.status["lastAction"]
    return answered


RETRY = {"id": "1", "type": "Retry"}


# --- where tasks stand -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ref", "skip", "rerun"),
    [
        ("a", True, True),
        ("left", False, False),
        ("left2", True, False),
        ("right", False, False),
        ("join", False, False),
        ("fork", False, False),
        ("choose", True, False),
        ("case", False, True),
        ("case2", True, True),
        ("loop", True, False),
        ("turn", False, False),
        ("child", True, False),
        ("node_9", True, True),
    ],
)
def test_only_what_conductor_survives_is_allowed(ref: str, skip: bool, rerun: bool) -> None:
    """As tried on the real server: tests/contract/test_actions.py."""
    assert (not why_not_skip(SHAPE, ref), not why_not_rerun(SHAPE, ref)) == (skip, rerun)


# --- once --------------------------------------------------------------------------------------------


def test_an_action_is_preceded_by_its_intent_with_a_mark_of_the_run() -> None:
    effect = decide_run(seen_of(view(retried_ms=5), RETRY), NOW)
    assert isinstance(effect, do.WriteIntent)
    assert effect.status["pendingAction"] == {
        "id": "1",
        "type": "Retry",
        "at": "2026-01-01T12:00:00.000000Z",
        "mark": "5",
        "attempt": 1,
    }


def intended(conductor: RunSeen, action: Json, mark: str, ago: float = 0.0) -> Seen:
    pending = {
        "id": action["id"],
        "type": action["type"],
        "at": (NOW - timedelta(seconds=ago)).isoformat(),
        "mark": mark,
        "attempt": 1,
    }
    return seen_of(conductor, action, {"pendingAction": pending})


def test_it_is_sent_only_behind_an_intent_of_the_same_pass() -> None:
    fresh = replace(intended(view(), RETRY, "0"), intent_fresh=True)
    assert decide_run(fresh, NOW) == do.Retry("w1", resume_children=True)
    found = intended(view(), RETRY, "0")
    effect = decide_run(found, NOW)
    assert isinstance(effect, Report), "a life before this one may have sent it"
    assert effect.status is not None
    assert effect.status["pendingAction"]["id"] == "1"


@pytest.mark.parametrize(
    ("action", "mark", "after"),
    [
        (RETRY, "0", view("RUNNING", retried_ms=7)),
        (RETRY, "0", view("FAILED", retried_ms=7)),
        ({"id": "1", "type": "Restart"}, "1", view("RUNNING")),
        (
            {"id": "1", "type": "Rerun", "fromTask": "a"},
            "t1@5",
            view("RUNNING", (TaskSeen("a", "a", "SCHEDULED", "t1", scheduled_ms=9),)),
        ),
        (
            {"id": "1", "type": "Skip", "task": "node-9"},
            "node_9",
            view("RUNNING", (TaskSeen("node_9", "x", "SKIPPED"), TaskSeen("a", "a", "SCHEDULED"))),
        ),
    ],
    ids=["retried and runs", "retried and failed again", "restarted", "run again", "skipped"],
)
def test_after_a_crash_the_run_itself_tells_that_it_was_done(action: Json, mark: str, after: RunSeen) -> None:
    answered = last_action(intended(after, action, mark))
    assert (answered["id"], answered["result"]) == ("1", "Done")


def test_what_did_not_come_through_is_sent_again_only_after_the_wait() -> None:
    early = intended(view(), RETRY, "0", ago=80)
    assert isinstance(decide_run(early, NOW), Report)
    late = intended(view(), RETRY, "0", ago=91)
    effect = decide_run(late, NOW)
    assert isinstance(effect, do.WriteIntent)
    assert effect.status["pendingAction"]["attempt"] == 2


def test_an_answered_action_is_not_looked_at_again() -> None:
    status = {"lastAction": {"id": "1", "type": "Retry", "result": "Done", "at": "x"}}
    effect = decide_run(seen_of(view(), RETRY, status), NOW)
    assert isinstance(effect, Report)
    assert effect.status is not None
    assert effect.status["lastAction"] == status["lastAction"]
    assert effect.notes == ()


@pytest.mark.parametrize(
    ("outcome", "result", "message"),
    [
        (ActionOutcome("Sent"), "Done", None),
        (ActionOutcome("Refused", "it is still running"), "Refused", "it is still running"),
    ],
)
def test_the_answer_is_told(outcome: ActionOutcome, result: str, message: str | None) -> None:
    answered = last_action(replace(intended(view(), RETRY, "0"), acted=outcome))
    assert (answered["result"], answered.get("message")) == (result, message)


def test_one_that_was_certainly_not_sent_begins_anew() -> None:
    effect = decide_run(replace(intended(view(), RETRY, "0"), acted=ActionOutcome("NotSent")), NOW)
    assert isinstance(effect, Report)
    assert effect.status is not None
    assert "pendingAction" not in effect.status
    assert "lastAction" not in effect.status
    assert effect.requeue_after is not None


# --- no, and why -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("action", "conductor", "why"),
    [
        (
            RETRY,
            view("RUNNING"),
            "the run has not ended: wait for its end; Restart ends it and begins anew",
        ),
        (RETRY, view("COMPLETED"), "the run succeeded, so nothing is to be retried"),
        ({"id": "1", "type": "Rerun", "fromTask": "a"}, view("RUNNING"), "the run has not ended"),
        (
            {"id": "1", "type": "Rerun", "fromTask": "node-8"},
            view(),
            "there is no task 'node-8' in this run; did you mean 'node-9'?",
        ),
        ({"id": "1", "type": "Rerun", "fromTask": "a"}, view(), "a has not run in this run"),
        (
            {"id": "1", "type": "Rerun", "fromTask": "left"},
            view(tasks=(TaskSeen("left", "left", "FAILED"),)),
            "left cannot be run again: it runs in parallel with others",
        ),
        ({"id": "1", "type": "Skip", "task": "a"}, view(), "the run has ended"),
        (
            {"id": "1", "type": "Skip", "task": "a"},
            view("RUNNING", (TaskSeen("a", "a", "SCHEDULED"),)),
            "a has begun already",
        ),
        ({"id": "1", "type": "Skip", "task": "left"}, view("RUNNING"), "it is the first task of a branch"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_done_says_why(action: Json, conductor: RunSeen, why: str) -> None:
    seen = seen_of(conductor, action)
    answered = last_action(seen)
    assert answered["result"] == "Refused"
    assert why in answered["message"]
    effect = decide_run(seen, NOW)
    assert isinstance(effect, Report)
    assert next(note.reason for note in effect.notes if note.kind == "Warning") == "ActionRefused"


def test_a_terminated_wish_wins_over_any_action() -> None:
    seen = seen_of(view(), {"id": "1", "type": "Restart"}, desiredState="Terminated")
    assert "desiredState is Terminated" in last_action(seen)["message"]


# --- sub-workflows -----------------------------------------------------------------------------------


def failed_parent(attempt: int) -> RunSeen:
    child = TaskSeen("child", "child", "FAILED", "t", "SUB_WORKFLOW", attempt, sub_workflow_id="c1")
    return view(tasks=(child,))


@pytest.mark.parametrize(
    ("attempt", "child", "resume"),
    [(0, view(), True), (1, view(), False), (0, "Absent", False)],
    ids=["failed once", "begun anew before", "removed"],
)
def test_a_sub_workflow_goes_on_only_where_conductor_finds_it(attempt: int, child: Any, resume: bool) -> None:
    seen = seen_of(failed_parent(attempt), RETRY)
    assert decide_run(seen, NOW) == do.ReadChildren(("c1",))
    read = replace(seen, children={"c1": child}, read_children=frozenset({"c1"}))
    assert isinstance(decide_run(read, NOW), do.WriteIntent)
    sent = replace(
        intended(failed_parent(attempt), RETRY, "0"),
        intent_fresh=True,
        children={"c1": child},
        read_children=frozenset({"c1"}),
    )
    assert decide_run(sent, NOW) == do.Retry("w1", resume_children=resume)


# --- runs that Conductor does not have ---------------------------------------------------------------


def test_a_vanished_run_can_only_be_restarted_and_is_looked_for_once_more() -> None:
    gone = replace(seen_of(view(), {"id": "1", "type": "Restart"}), conductor="Absent")
    effect = decide_run(gone, NOW)
    assert isinstance(effect, Report)
    assert effect.status is not None
    assert effect.status["phase"] == "Starting"
    assert "workflowId" not in effect.status["conductor"]
    assert effect.status["conductor"]["correlationId"] == "cluster.uid-1"
    refused = replace(seen_of(view(), RETRY), conductor="Absent")
    assert last_action(refused)["message"] == "Conductor no longer has the run; Restart starts it again"


def test_a_run_that_was_lost_with_conductors_data_is_started_anew_by_restart() -> None:
    lost = seen_of(view(), {"id": "1", "type": "Restart"})
    conductor = {
        **lost.run.status["conductor"],
        "store": "old",
        "attempt": 1,
        "requestedAt": "2026-01-01T10:00:00Z",
    }
    lost = replace(lost, run=replace(lost.run, status={"phase": "Running", "conductor": conductor}))
    first = decide_run(replace(lost, conductor="Absent", store="new", store_fresh=True), NOW)
    assert isinstance(first, Report)
    assert first.status is not None
    assert first.status["lastAction"]["result"] == "Done"
    begun = replace(lost, run=replace(lost.run, status=first.status), conductor=None, store="new")
    assert isinstance(decide_run(begun, NOW), do.LookUp)
    effect = decide_run(replace(begun, lookup=()), NOW)
    assert isinstance(effect, do.WriteIntent)
    assert (effect.status["conductor"]["store"], effect.status["conductor"]["attempt"]) == ("new", 2)


def test_restart_of_a_run_that_goes_on_ends_it_first() -> None:
    seen = replace(intended(view("RUNNING"), {"id": "1", "type": "Restart"}, "1"), intent_fresh=True)
    assert isinstance(decide_run(seen, NOW), do.Terminate)
    ended = replace(seen, conductor=view("TERMINATED"), done=frozenset({"Terminate"}))
    assert decide_run(ended, NOW) == do.Restart("w1")


# --- approvals ---------------------------------------------------------------------------------------


def waiting(attempt: int = 0, began_ms: int = MS - 10_000, **more: Any) -> RunSeen:
    human = TaskSeen("node_9", "ok", "IN_PROGRESS", "t9", "HUMAN", attempt, start_ms=began_ms, **more)
    return view("RUNNING", (human,))


def approval(**more: Any) -> Json:
    said = {
        "task": "node-9",
        "attempt": 1,
        "decision": "Approve",
        "by": "alex",
        "at": "2026-01-01T11:59:55Z",
        "note": "fine",
        "output": {"size": 3},
    }
    return {"approvals": [said | more]}


def test_an_approval_answers_the_task_that_waits_with_who_and_why() -> None:
    effect = decide_run(seen_of(waiting(), None, approval()), NOW)
    assert isinstance(effect, do.Answer)
    assert (effect.task, effect.answer.task_id, effect.answer.approved) == ("node-9", "t9", True)
    assert effect.answer.output == {
        "size": 3,
        "approval": {"decision": "Approve", "by": "alex", "at": "2026-01-01T11:59:55Z", "note": "fine"},
    }


def test_a_rejection_fails_the_task_with_its_reason() -> None:
    effect = decide_run(seen_of(waiting(), None, approval(decision="Reject", note="too dark")), NOW)
    assert isinstance(effect, do.Answer)
    assert (effect.answer.approved, effect.answer.reason) == (False, "rejected by alex: too dark")


@pytest.mark.parametrize(
    ("story", "conductor", "more"),
    [
        ("of another attempt", waiting(attempt=1), {}),
        ("older than the wait: the run was restarted", waiting(began_ms=MS), {"at": "2026-01-01T11:59:50Z"}),
        ("of another task", waiting(), {"task": "other"}),
        ("a task that is done", view("RUNNING", (TaskSeen("node_9", "ok", "COMPLETED", "t9", "HUMAN"),)), {}),
    ],
)
def test_an_approval_counts_only_for_what_it_was_given(story: str, conductor: RunSeen, more: Json) -> None:
    effect = decide_run(seen_of(conductor, None, approval(**more)), NOW)
    assert not isinstance(effect, do.Answer), story


@pytest.mark.parametrize("kind", ["Restart", "Rerun"])
def test_what_was_said_before_a_run_began_anew_is_no_answer_any_more(kind: str) -> None:
    # The wait began a moment after the answer to the one before: no clock tells these two apart.
    status = approval(at="2026-01-01T11:59:55Z")
    last = {"id": "1", "type": kind, "result": "Done", "at": "2026-01-01T11:59:55Z"}
    asked_again = seen_of(waiting(began_ms=MS - 4_000), None, status | {"lastAction": last})
    assert not isinstance(decide_run(asked_again, NOW), do.Answer)
    later = approval(at="2026-01-01T11:59:56Z") | {"lastAction": last}
    assert isinstance(decide_run(seen_of(waiting(began_ms=MS - 4_000), None, later), NOW), do.Answer)


def test_a_wait_for_a_time_waits_for_nobody() -> None:
    timed = TaskSeen("node_9", "w", "IN_PROGRESS", "t9", "WAIT", start_ms=MS - 9_000, timed=True)
    seen = seen_of(view("RUNNING", (timed,)), None, approval())
    assert not isinstance(decide_run(seen, NOW), do.Answer)


def test_a_task_inside_a_sub_workflow_is_named_by_its_path() -> None:
    child = TaskSeen("node_9", "sub", "IN_PROGRESS", "t1", "SUB_WORKFLOW", sub_workflow_id="c1")
    inner = RunSeen(
        "c1",
        "studio.inner",
        1,
        "RUNNING",
        tasks=(TaskSeen("ok", "ok", "IN_PROGRESS", "t9", "HUMAN", start_ms=MS - 9_000),),
    )
    seen = seen_of(view("RUNNING", (child,)), None, approval(task="node-9/ok"))
    effect = decide_run(replace(seen, children={"c1": inner}), NOW)
    assert isinstance(effect, do.Answer)
    assert (effect.answer.workflow_id, effect.answer.task_id) == ("c1", "t9")


# --- no progress -------------------------------------------------------------------------------------


OLD = MS - 11 * 60_000


def stalled(*tasks: TaskSeen, pollers: tuple[Polled, ...] | Unknown = (), **more: Any) -> Seen:
    seen = seen_of(view("RUNNING", tasks, create_ms=OLD))
    return replace(seen, pollers=pollers, **more)


@pytest.mark.parametrize(
    ("seen", "cause"),
    [
        (
            stalled(TaskSeen("a", "make", "SCHEDULED", scheduled_ms=OLD, domain="studio")),
            "no worker polls make in domain studio, which a needs",
        ),
        (
            stalled(
                TaskSeen("a", "make", "SCHEDULED", scheduled_ms=OLD),
                pollers=(Polled("make", "", NOW - timedelta(seconds=5)),),
            ),
            "a waits in the queue of make: its workers are busy with others",
        ),
        (
            stalled(TaskSeen("node_9", "ok", "IN_PROGRESS", "t", "HUMAN", start_ms=OLD)),
            "node-9 waits for an approval",
        ),
        (
            stalled(TaskSeen("a", "make", "SCHEDULED", scheduled_ms=OLD, callback_s=3600)),
            "a is to be tried again in 2940 s",
        ),
        (
            stalled(
                TaskSeen("s", "s", "IN_PROGRESS", "t", "SUB_WORKFLOW", start_ms=OLD, sub_workflow_id="c1"),
                children={"c1": "Absent"},
            ),
            "the run of sub-workflow s (c1) was removed from Conductor",
        ),
        (
            stalled(
                TaskSeen("a", "make", "IN_PROGRESS", start_ms=OLD, update_ms=OLD, response_timeout_s=60),
                done=frozenset({"Nudge"}),
            ),
            "the worker of a is silent for longer than the responseTimeout",
        ),
        (
            stalled(TaskSeen("a", "make", "COMPLETED", end_ms=OLD), done=frozenset({"Nudge"})),
            "no task is open: Conductor's sweeper is behind",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_run_that_nothing_moves_says_since_when_and_why(seen: Seen, cause: str) -> None:
    effect = decide_run(seen, NOW)
    assert isinstance(effect, Report)
    [word] = [word for word in effect.words if word.type == "Progressing"]
    assert (word.status, word.reason) == ("False", "NoProgress")
    assert word.message.startswith("nothing has moved since 2026-01-01T11:49:00Z: ")
    assert cause in word.message
    assert effect.status is not None
    assert effect.status["phase"] == "Running", "it has not failed"


def test_a_silent_worker_is_doubted_only_after_the_run_was_read_anew() -> None:
    """Its last sign of life is 20 s old, and 10 s are allowed; nobody tells of signs of life."""
    last = MS - 20_000
    working = TaskSeen("a", "make", "IN_PROGRESS", start_ms=last, update_ms=last, response_timeout_s=10)
    seen = seen_of(view("RUNNING", (working,)), status={"phase": "Running"})
    assert decide_run(seen, NOW) == do.Refresh("w1", last)
    asked = replace(seen, refreshed=(last, NOW - timedelta(seconds=1)))
    waits = decide_run(asked, NOW)
    assert isinstance(waits, Report)
    assert waits.requeue_after == timedelta(seconds=2)
    asked = replace(seen, refreshed=(last, NOW - timedelta(seconds=3)))
    assert decide_run(asked, NOW) == do.Nudge("w1")
    alive = replace(working, update_ms=MS - 5_000)
    lives = decide_run(replace(asked, conductor=view("RUNNING", (alive,))), NOW)
    assert isinstance(lives, Report)
    assert lives.requeue_after == timedelta(seconds=9), "ten, and four for Conductor itself"


def test_conductor_is_nudged_when_it_is_late_itself() -> None:
    assert decide_run(stalled(TaskSeen("a", "make", "COMPLETED", end_ms=OLD)), NOW) == do.Nudge("w1")


def test_a_run_whose_last_task_ended_is_not_left_to_conductors_sweeper() -> None:
    ended = TaskSeen("a", "make", "COMPLETED", end_ms=MS - 16_000)
    seen = seen_of(view("RUNNING", (ended,)))
    assert decide_run(seen, NOW) == do.Nudge("w1")
    after = decide_run(replace(seen, done=frozenset({"Nudge"})), NOW)
    assert isinstance(after, Report)
    assert after.requeue_after == timedelta(seconds=15)
    fresh = decide_run(seen_of(view("RUNNING", (replace(ended, end_ms=MS - 1_000),))), NOW)
    assert isinstance(fresh, Report)
    assert fresh.requeue_after == timedelta(seconds=14)


def test_a_worker_that_gives_signs_of_life_is_progress() -> None:
    alive = TaskSeen("a", "make", "IN_PROGRESS", start_ms=OLD, update_ms=MS - 5_000, response_timeout_s=60)
    effect = decide_run(stalled(alive), NOW)
    assert isinstance(effect, Report)
    [word] = [word for word in effect.words if word.type == "Progressing"]
    assert (word.status, effect.requeue_after) == ("True", timedelta(seconds=59))


def test_a_run_that_no_worker_takes_is_given_up_after_its_pending_timeout() -> None:
    queued = view("RUNNING", (TaskSeen("a", "make", "SCHEDULED", scheduled_ms=MS - 60_000),))
    effect = decide_run(seen_of(queued, pendingTimeout="45s"), NOW)
    assert isinstance(effect, do.Terminate)
    assert effect.reason == "PendingTimeout: no worker took make within 45s"
    ended = view("TERMINATED", queued.tasks, reason=effect.reason)
    report = decide_run(seen_of(ended, pendingTimeout="45s"), NOW)
    assert isinstance(report, Report)
    assert report.status is not None
    assert (report.status["phase"], report.status["message"]) == ("Failed", "no worker took make within 45s")
    assert {word.reason for word in report.words if word.type == "Ready"} == {"PendingTimeout"}
    early = decide_run(seen_of(queued, pendingTimeout="90s"), NOW)
    assert isinstance(early, Report)
    assert early.requeue_after == timedelta(seconds=30)
    taken = view("RUNNING", (TaskSeen("a", "make", "IN_PROGRESS", start_ms=MS - 50_000),))
    assert isinstance(decide_run(seen_of(taken, pendingTimeout="90s"), NOW), Report)


@pytest.mark.parametrize(
    ("state", "wanted"), [("PAUSED", "Paused"), ("RUNNING", "Paused"), ("PAUSED", "Running")]
)
def test_a_run_that_rests_by_wish_is_not_given_up(state: RunState, wanted: str) -> None:
    queued = view(state, (TaskSeen("a", "make", "SCHEDULED", scheduled_ms=MS - 60_000),))
    effect = decide_run(seen_of(queued, pendingTimeout="45s", desiredState=wanted), NOW)
    assert not isinstance(effect, do.Terminate)


def test_restart_of_a_run_that_cannot_be_ended_now_is_not_used_up() -> None:
    """A passing error of Conductor is no answer to the action."""
    goes_on = view("RUNNING")
    seen = replace(intended(goes_on, {"id": "1", "type": "Restart"}, "0"), intent_fresh=True)
    assert isinstance(decide_run(seen, NOW), do.Terminate)
    failed = replace(seen, done=frozenset({"Terminate", "Terminate w1"}), failure="HTTP 503")
    effect = decide_run(failed, NOW)
    assert isinstance(effect, Report)
    assert effect.status is not None
    assert "lastAction" not in effect.status
    assert "pendingAction" not in effect.status
    assert effect.requeue_after == timedelta(seconds=5)


@pytest.mark.parametrize(
    ("newer", "answered", "again"),
    [
        (None, ("1", "Refused"), None),
        ({"id": "2", "type": "Retry"}, ("1", "Refused"), timedelta(0)),
        ({"id": "2", "type": "Restart"}, ("2", "Done"), timedelta(0)),
    ],
)
def test_an_action_whose_run_is_gone_is_answered_and_pends_no_longer(
    newer: Json | None, answered: tuple[str, str], again: timedelta | None
) -> None:
    seen = intended(view(), RETRY, "0")
    if newer is not None:
        seen = replace(seen, run=seen_of(view(), newer, dict(seen.run.status)).run)
    gone = replace(seen, conductor="Absent", intent_fresh=False, fresh=True, store="s1", store_fresh=True)
    effect = decide_run(gone, NOW)
    assert isinstance(effect, Report)
    assert effect.status is not None
    assert "pendingAction" not in effect.status
    last = effect.status["lastAction"]
    assert ((last["id"], last["result"]), effect.requeue_after) == (answered, again)


def test_an_approval_at_a_time_that_is_none_stops_nothing() -> None:
    [good], [bad] = approval()["approvals"], approval(at="2026-01-01T12:00:00+99:00", by="eve")["approvals"]
    effect = decide_run(seen_of(waiting(), status={"approvals": [bad, good]}), NOW)
    assert isinstance(effect, do.Answer)
    assert effect.answer.by == "alex"
