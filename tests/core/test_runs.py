"""What happens to a WorkflowRun in each situation: the next effect, and what its conditions say."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from podium.api.v1alpha1 import FINALIZER
from podium.core import effects as do
from podium.core.effects import Report, RunEffect, Unknown
from podium.core.objects import WorkflowRun, project_workflow_run
from podium.core.runs import (
    DefinitionFacts,
    Policy,
    Seen,
    StartOutcome,
    WorkflowFacts,
    decide_run,
    report_conditions,
)
from podium.ports import Json, RunSeen, RunState, TaskSeen

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
POLICY = Policy("cluster")
READY = WorkflowFacts("studio.video", 3, suspended=False)
SCHEMA = {"type": "object", "properties": {"size": {"type": "integer"}}}
DEFINITION = DefinitionFacts(3, SCHEMA, {"colour": "red"})
INTENT = {
    "name": "studio.video",
    "version": 3,
    "correlationId": "cluster.uid-1",
    "attempt": 1,
    "requestedAt": "2026-01-01T11:59:59.000000Z",
}
STARTED = {**INTENT, "workflowId": "w1"}
AWAY = Unknown("Conductor is away")


def ago(seconds: float) -> str:
    return (NOW - timedelta(seconds=seconds)).isoformat()


def run_of(
    status: Json | None = None, *, age: float = 60, deleted: float | None = None, **spec: Any
) -> WorkflowRun:
    metadata: Json = {
        "name": "v1",
        "namespace": "studio",
        "uid": "uid-1",
        "generation": 2,
        "resourceVersion": "7",
        "creationTimestamp": ago(age),
        "finalizers": spec.pop("finalizers", [FINALIZER]),
    }
    if deleted is not None:
        metadata["deletionTimestamp"] = ago(deleted)
    return project_workflow_run(
        {"metadata": metadata, "spec": {"workflow": "video", **spec}, "status": status or {}}
    )


def new(**spec: Any) -> Seen:
    """Nothing was done yet, and nothing stands in the way."""
    return Seen(run_of(**spec), READY, POLICY, definition=DEFINITION)


def starting(attempt: int = 1, requested: float = 1, **spec: Any) -> Seen:
    """The intent stands in the status."""
    conductor = {**INTENT, "attempt": attempt, "requestedAt": ago(requested)}
    return Seen(
        run_of({"phase": "Starting", "conductor": conductor}, **spec), READY, POLICY, definition=DEFINITION
    )


def running(
    state: RunState = "RUNNING", *, phase: str = "Running", conductor: Json = STARTED, **spec: Any
) -> Seen:
    """The status says Running; Conductor shows the run in this state."""
    status = {"phase": phase, "conductor": conductor, "observedGeneration": 2}
    return Seen(run_of(status, **spec), READY, POLICY, conductor=view(state))


def view(state: RunState = "RUNNING", workflow_id: str = "w1", **more: Any) -> RunSeen:
    return RunSeen(
        workflow_id, "studio.video", 3, state, "cluster.uid-1", int(NOW.timestamp() * 1000) - 5_000, **more
    )


def reason_of(effect: RunEffect) -> str:
    assert isinstance(effect, Report)
    return next((word.reason for word in effect.words if word.type == "Ready"), "")


# --- before it is started ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("story", "seen", "phase", "reason", "message"),
    [
        ("no Workflow", replace(new(), workflow=None), "Pending", "WorkflowNotFound", "no Workflow video"),
        (
            "Workflow not registered",
            replace(new(), workflow=WorkflowFacts("", None, False, "node n2: unknown reference")),
            "Pending",
            "WorkflowNotReady",
            "unknown reference",
        ),
        (
            "suspended",
            replace(new(), workflow=replace(READY, suspended=True)),
            "Pending",
            "WorkflowSuspended",
            "",
        ),
        ("paused before start", new(desiredState="Paused"), "Pending", "Paused", "desiredState"),
        ("terminated before start", new(desiredState="Terminated"), "Terminated", "Terminated", "before it"),
        ("bad input", new(input={"size": "big"}), "Failed", "InvalidInput", "spec.input.size: 'big'"),
        ("Conductor away", replace(new(), definition=AWAY), "Pending", "ConductorUnavailable", "is away"),
        (
            "version being restored",
            replace(new(), definition="Absent"),
            "Pending",
            "WorkflowNotReady",
            "restored",
        ),
        (
            "no such version",
            replace(new(version=9), definition="Absent"),
            "Failed",
            "VersionNotFound",
            "no version 9",
        ),
        (
            "patience at an end",
            replace(new(pendingTimeout="30s"), workflow=None),
            "Failed",
            "PendingTimeout",
            "30s",
        ),
        (
            "patience left",
            replace(new(pendingTimeout="90s"), workflow=None),
            "Pending",
            "WorkflowNotFound",
            "",
        ),
        (
            "unreadable spec",
            Seen(run_of(priority="high"), READY, POLICY),
            "Failed",
            "InvalidSpec",
            "spec.priority",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_before_the_start(story: str, seen: Seen, phase: str, reason: str, message: str) -> None:
    effect = decide_run(seen, NOW)
    assert reason_of(effect) == reason
    assert isinstance(effect, Report)
    assert effect.status is not None
    assert effect.status["phase"] == phase
    assert message in effect.words[0].message


def test_patience_ends_on_time() -> None:
    effect = decide_run(replace(new(pendingTimeout="90s"), workflow=None), NOW)
    assert isinstance(effect, Report)
    assert effect.requeue_after == timedelta(seconds=30)


@pytest.mark.parametrize(
    ("created", "scheduled", "left"), [(40, 40, 0), (40, 10, 20), (10, 40, 20), (10, 0, 20)]
)
def test_patience_with_workers_counts_from_when_a_task_could_be_taken(
    created: float, scheduled: float, left: float
) -> None:
    """So it begins anew with a run that is begun anew, however old its object is."""
    ms = int(NOW.timestamp() * 1000)
    task = TaskSeen("a", "encode", "SCHEDULED", scheduled_ms=int(ms - scheduled * 1000) if scheduled else 0)
    waiting = replace(view(tasks=(task,)), create_ms=int(ms - created * 1000))
    run = run_of(
        {"phase": "Running", "conductor": STARTED, "observedGeneration": 2}, age=3600, pendingTimeout="30s"
    )
    effect = decide_run(Seen(run, READY, POLICY, conductor=waiting, fresh=True), NOW)
    if not left:
        assert isinstance(effect, do.Terminate)
    else:
        assert isinstance(effect, Report)
        assert effect.requeue_after == timedelta(seconds=left)


def test_a_run_that_was_made_paused_is_started_however_long_that_was() -> None:
    paused = replace(new(age=3600, pendingTimeout="30s", desiredState="Paused"), definition=None)
    effect = decide_run(paused, NOW)
    assert (reason_of(effect), isinstance(effect, Report)) == ("Paused", True)
    resumed = replace(new(age=3600, pendingTimeout="30s"), definition=None)
    assert decide_run(resumed, NOW) == do.FetchDefinition("studio.video", 3)


def test_one_that_is_started_again_has_its_patience_anew() -> None:
    again = {
        "phase": "Pending",
        "lastAction": {"id": "1", "type": "Restart", "result": "Done", "at": ago(20)},
    }
    effect = decide_run(Seen(run_of(again, age=3600, pendingTimeout="30s"), None, POLICY), NOW)
    assert isinstance(effect, Report)
    assert effect.requeue_after == timedelta(seconds=10)


@pytest.mark.parametrize("ready", [True, False])
def test_an_action_in_a_new_manifest_has_the_same_answer_whenever_the_run_can_start(ready: bool) -> None:
    """Nothing has run yet that could be restarted: the order of an apply must not decide."""
    seen = new(action={"id": "1", "type": "Restart"})
    effect = decide_run(seen if ready else replace(seen, workflow=None), NOW)
    if isinstance(effect, do.ReadStore):
        effect = decide_run(replace(seen, store=""), NOW)
    assert isinstance(effect, do.WriteIntent if ready else Report)
    assert effect.status is not None
    assert effect.status["lastAction"]["result"] == "Refused"


@pytest.mark.parametrize("state", ["RUNNING", "PAUSED"])
def test_a_wish_that_conductor_did_not_carry_out_is_tried_again(state: RunState) -> None:
    """A resume that is answered 500 is no news to anyone: nothing else would wake the run."""
    wanted = {"RUNNING": "Paused", "PAUSED": "Running"}[state]
    seen = replace(running(state, desiredState=wanted), done=frozenset({"Pause", "Resume"}), fresh=True)
    effect = decide_run(seen, NOW)
    assert isinstance(effect, Report)
    assert effect.requeue_after == timedelta(seconds=5)


def test_waiting_a_moment_is_no_news() -> None:
    fresh, later = (decide_run(replace(new(age=age), workflow=None), NOW) for age in (2, 20))
    assert isinstance(fresh, Report)
    assert isinstance(later, Report)
    assert (fresh.notes, fresh.requeue_after) == ((), timedelta(seconds=8))
    assert [note.reason for note in later.notes] == ["WorkflowNotFound"]


def test_the_order_of_a_start_is_finalizer_definition_intent_start() -> None:
    seen = replace(new(finalizers=[]), definition=None)
    assert decide_run(seen, NOW) == do.SetFinalizers((FINALIZER,))
    seen = replace(seen, run=run_of(input={"size": 1}))
    assert decide_run(seen, NOW) == do.FetchDefinition("studio.video", 3)
    seen = replace(seen, definition=DEFINITION)
    intent = decide_run(seen, NOW)
    assert isinstance(intent, do.WriteIntent)
    assert intent.status["phase"] == "Starting"
    assert intent.status["conductor"] == {**INTENT, "requestedAt": "2026-01-01T12:00:00.000000Z"}
    seen = replace(seen, run=run_of(intent.status, input={"size": 1}), intent_fresh=True)
    start = decide_run(seen, NOW)
    assert isinstance(start, do.Start)
    assert start.request.input == {"size": 1, "colour": "red"}
    assert start.request.task_to_domain == {"*": "studio"}
    assert start.request.correlation_id == "cluster.uid-1"
    seen = replace(seen, intent_fresh=False, outcome=StartOutcome("Started", "w1"))
    end = decide_run(seen, NOW)
    assert isinstance(end, Report)
    assert end.status is not None
    assert (end.status["phase"], end.status["conductor"]["workflowId"]) == ("Running", "w1")


def test_without_isolation_any_worker_may_take_the_tasks() -> None:
    seen = replace(starting(), intent_fresh=True, isolated=False)
    effect = decide_run(seen, NOW)
    assert isinstance(effect, do.Start)
    assert effect.request.task_to_domain is None


# --- a start, and what came of it -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("story", "seen", "phase", "reason", "keeps_intent"),
    [
        (
            "refused",
            replace(starting(), outcome=StartOutcome("Refused", "", "no")),
            "Failed",
            "StartRefused",
            True,
        ),
        (
            "not sent",
            replace(starting(), outcome=StartOutcome("NotSent", "", "down")),
            "Pending",
            "ConductorUnavailable",
            False,
        ),
        (
            "its sub-workflow is not registered",
            replace(starting(), outcome=StartOutcome("NotRegistered", "", "no definition of inner")),
            "Pending",
            "WorkflowNotReady",
            False,
        ),
        (
            "not registered any more the second time",
            replace(starting(attempt=2), outcome=StartOutcome("NotRegistered", "", "gone")),
            "Starting",
            "ConductorUnavailable",
            True,
        ),
        (
            "not sent the second time",
            replace(starting(attempt=2), outcome=StartOutcome("NotSent", "", "down")),
            "Starting",
            "ConductorUnavailable",
            True,
        ),
        (
            "unknown",
            replace(starting(), outcome=StartOutcome("Unknown", "", "cut")),
            "Starting",
            "StartUnconfirmed",
            True,
        ),
        ("not found yet", replace(starting(), lookup=()), "Starting", "StartUnconfirmed", True),
        ("cannot look", replace(starting(), lookup=AWAY), "Starting", "ConductorUnavailable", True),
        ("found", replace(starting(), lookup=(view(),)), "Running", "Running", True),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_came_of_a_start(story: str, seen: Seen, phase: str, reason: str, keeps_intent: bool) -> None:
    effect = decide_run(seen, NOW)
    assert reason_of(effect) == reason
    assert isinstance(effect, Report)
    assert effect.status is not None
    assert (effect.status["phase"], "conductor" in effect.status) == (phase, keeps_intent)


@pytest.mark.parametrize(("age", "pause"), [(1, 5), (50, 5), (300, 30), (86_400, 60)])
def test_what_is_not_registered_is_asked_for_less_and_less_often(age: float, pause: float) -> None:
    """Each try writes to the object twice."""
    seen = starting(age=age)
    effect = decide_run(replace(seen, outcome=StartOutcome("NotRegistered", "", "inner")), NOW)
    assert isinstance(effect, Report)
    assert effect.requeue_after == timedelta(seconds=pause)


def test_after_a_restart_it_looks_before_it_sends() -> None:
    assert decide_run(starting(), NOW) == do.LookUp("studio.video", "cluster.uid-1")


def test_another_start_is_intended_after_the_wait_and_not_before() -> None:
    wait = POLICY.unknown_start_wait.total_seconds()
    early = decide_run(replace(starting(requested=wait - 0.5), lookup=()), NOW)
    assert isinstance(early, Report)
    assert early.requeue_after == timedelta(seconds=0.51)
    late = decide_run(replace(starting(requested=wait), lookup=()), NOW)
    assert isinstance(late, do.WriteIntent)
    assert late.status["conductor"]["attempt"] == 2


def test_a_run_that_nobody_wants_any_more_is_not_started_again() -> None:
    effect = decide_run(replace(starting(requested=100, desiredState="Terminated"), lookup=()), NOW)
    assert reason_of(effect) == "Terminated"


def test_of_duplicates_the_oldest_is_kept() -> None:
    found = tuple(view(workflow_id=name) for name in ("w1", "w2", "w3"))
    seen = replace(starting(attempt=2), lookup=found)
    ended = []
    while isinstance(effect := decide_run(seen, NOW), do.Terminate):
        assert effect.duplicate
        ended.append(effect.workflow_id)
        seen = replace(seen, done=seen.done | {f"Terminate {effect.workflow_id}"})
    assert ended == ["w2", "w3"]
    assert isinstance(effect, Report)
    assert effect.status is not None
    assert effect.status["conductor"]["workflowId"] == "w1"


def test_after_a_repeated_start_a_late_twin_is_ended() -> None:
    seen = running(conductor={**STARTED, "attempt": 2, "requestedAt": ago(100)})
    assert isinstance(decide_run(seen, NOW), do.LookUp)
    twin = replace(seen, lookup=(view(workflow_id="w0"), view()))
    effect = decide_run(twin, NOW)
    assert isinstance(effect, do.Terminate)
    assert (effect.workflow_id, effect.duplicate) == ("w0", True)
    ended = replace(seen, lookup=(view("COMPLETED", "w0"), view()))
    assert isinstance(decide_run(ended, NOW), Report)
    long_ago = running(conductor={**STARTED, "attempt": 2, "requestedAt": ago(200)})
    assert isinstance(decide_run(long_ago, NOW), Report)


# --- while it runs ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "state", "verb"),
    [
        ("Paused", "RUNNING", do.Pause),
        ("Running", "PAUSED", do.Resume),
        ("Terminated", "RUNNING", do.Terminate),
        ("Terminated", "PAUSED", do.Terminate),
    ],
)
def test_it_is_changed_only_after_a_fresh_look_and_once(wanted: str, state: RunState, verb: type) -> None:
    seen = running(state, desiredState=wanted)
    assert decide_run(seen, NOW) == do.ReadRun("w1")
    seen = replace(seen, fresh=True)
    assert isinstance(decide_run(seen, NOW), verb)
    assert isinstance(decide_run(replace(seen, done=frozenset({verb.__name__})), NOW), Report)


@pytest.mark.parametrize("state", ["COMPLETED", "FAILED", "TIMED_OUT", "TERMINATED"])
@pytest.mark.parametrize("wanted", ["Running", "Paused", "Terminated"])
def test_what_has_ended_is_never_changed(wanted: str, state: RunState) -> None:
    effect = decide_run(replace(running(state, desiredState=wanted), fresh=True), NOW)
    assert isinstance(effect, Report)
    assert any(word.type == "Finished" for word in effect.words)


def test_a_change_that_fails_is_said_and_tried_again() -> None:
    seen = replace(running(desiredState="Paused"), fresh=True, done=frozenset({"Pause"}), failure="too busy")
    effect = decide_run(seen, NOW)
    assert isinstance(effect, Report)
    assert effect.words[0].message == "too busy"
    assert effect.requeue_after is not None


def test_a_run_removed_in_conductor_is_looked_at_twice_before_it_is_called_vanished() -> None:
    seen = replace(running(), conductor="Absent")
    assert decide_run(seen, NOW) == do.ReadRun("w1")
    effect = decide_run(replace(seen, fresh=True), NOW)
    assert reason_of(effect) == "Vanished"
    assert isinstance(effect, Report)
    assert effect.status is not None
    assert effect.status["phase"] == "Failed"


def test_a_finished_run_stays_as_it_is_when_conductor_forgets_it() -> None:
    seen = replace(running(phase="Succeeded"), conductor="Absent", fresh=True)
    effect = decide_run(seen, NOW)
    assert isinstance(effect, Report)
    assert effect.status == seen.run.status


def test_conductor_away_keeps_what_is_known() -> None:
    effect = decide_run(replace(running(), conductor=AWAY, fresh=True), NOW)
    assert reason_of(effect) == "ConductorUnavailable"
    assert isinstance(effect, Report)
    assert effect.status is not None
    assert (effect.status["phase"], effect.status["conductor"]) == ("Running", STARTED)


def test_a_run_that_was_retried_in_conductor_goes_on_here() -> None:
    effect = decide_run(running("RUNNING", phase="Failed"), NOW)
    assert isinstance(effect, Report)
    assert effect.status is not None
    assert effect.status["phase"] == "Running"
    assert [note.reason for note in effect.notes] == ["Running"]


# --- deletion ---------------------------------------------------------------------------------------

LET_GO = do.SetFinalizers(("someone/else",))
OURS = [FINALIZER, "someone/else"]


def deleted(status: Json, *, since: float = 1, **more: Any) -> Seen:
    spec = more.pop("spec", {})
    return replace(Seen(run_of(status, deleted=since, finalizers=OURS, **spec), READY, POLICY), **more)


RUNNING = {"phase": "Running", "conductor": STARTED}
STARTING = {"phase": "Starting", "conductor": {**INTENT, "requestedAt": ago(5)}}
FORGOTTEN = {"phase": "Starting", "conductor": {**INTENT, "requestedAt": ago(100)}}
DONE = frozenset({"Terminate", "Terminate w1"})


@pytest.mark.parametrize(
    ("story", "seen", "wanted"),
    [
        ("never started", deleted({"phase": "Pending"}), LET_GO),
        ("no status", deleted({}), LET_GO),
        ("finished", deleted({**RUNNING, "phase": "Succeeded"}), LET_GO),
        ("orphan", deleted(RUNNING, spec={"deletionPolicy": "Orphan"}), LET_GO),
        ("orphan, unconfirmed", deleted(STARTING, spec={"deletionPolicy": "Orphan"}), LET_GO),
        ("running, not looked at", deleted(RUNNING, conductor=view()), do.ReadRun("w1")),
        (
            "running",
            deleted(RUNNING, conductor=view(), fresh=True),
            do.Terminate("w1", "its WorkflowRun was deleted"),
        ),
        ("ended meanwhile", deleted(RUNNING, conductor=view("FAILED"), fresh=True), LET_GO),
        ("terminated now", deleted(RUNNING, conductor=view(), fresh=True, done=DONE), LET_GO),
        (
            "not terminated",
            deleted(RUNNING, conductor=view(), fresh=True, done=DONE, failure="busy"),
            "Deleting",
        ),
        (
            "not terminated, overdue",
            deleted(RUNNING, since=60, conductor=view(), fresh=True, done=DONE, failure="busy"),
            LET_GO,
        ),
        ("vanished", deleted(RUNNING, conductor="Absent", fresh=True), LET_GO),
        ("Conductor down", deleted(RUNNING, since=59, conductor=AWAY, fresh=True), "Deleting"),
        ("Conductor down, overdue", deleted(RUNNING, since=60, conductor=AWAY, fresh=True), LET_GO),
        ("unconfirmed", deleted(STARTING), do.LookUp("studio.video", "cluster.uid-1")),
        ("unconfirmed, Conductor down", deleted(STARTING, lookup=AWAY), "Deleting"),
        ("unconfirmed, Conductor down, overdue", deleted(STARTING, since=60, lookup=AWAY), LET_GO),
        ("unconfirmed, not found yet", deleted(STARTING, lookup=()), "Deleting"),
        ("unconfirmed, not found in time", deleted(FORGOTTEN, lookup=()), LET_GO),
        (
            "unconfirmed, found",
            deleted(STARTING, lookup=(view(),)),
            do.Terminate("w1", "its WorkflowRun was deleted"),
        ),
        ("unconfirmed, found and ended", deleted(STARTING, lookup=(view(),), done=DONE), LET_GO),
        (
            "unconfirmed, found, not ended",
            deleted(STARTING, lookup=(view(),), done=DONE, failure="busy"),
            "Deleting",
        ),
        ("unconfirmed, found, over by itself", deleted(STARTING, lookup=(view("COMPLETED"),)), LET_GO),
        (
            "id known, not written",
            deleted(STARTING, outcome=StartOutcome("Started", "w1")),
            do.ReadRun("w1"),
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_deletion(story: str, seen: Seen, wanted: RunEffect | str) -> None:
    effect = decide_run(seen, NOW)
    if isinstance(wanted, str):
        assert reason_of(effect) == wanted
        assert isinstance(effect, Report)
        assert effect.requeue_after is not None
    else:
        assert effect == wanted


def test_once_let_go_nothing_is_done() -> None:
    assert decide_run(Seen(run_of(RUNNING, deleted=1, finalizers=[]), READY, POLICY), NOW) == Report(None)


# --- how kstatus, Flux, Helm and `kubectl wait` read it ----------------------------------------------

ACTIVE = {"Ready": "False", "Reconciling": "True", "Succeeded": "Unknown"}
SUCCEEDED = {"Ready": "True", "Succeeded": "True", "Finished": "True"}
ENDED_BADLY = {"Ready": "False", "Stalled": "True", "Succeeded": "False", "Finished": "True"}


@pytest.mark.parametrize(
    ("state", "seen", "conditions"),
    [
        ("waiting", replace(new(), workflow=None), ACTIVE),
        ("starting", replace(starting(), lookup=()), ACTIVE),
        ("active", running(), {**ACTIVE, "Progressing": "True"}),
        ("paused", running("PAUSED", desiredState="Paused"), ACTIVE),
        ("Conductor away", replace(running(), conductor=AWAY), ACTIVE),
        ("succeeded", running("COMPLETED"), SUCCEEDED),
        ("failed", running("FAILED"), ENDED_BADLY),
        ("timed out", running("TIMED_OUT"), ENDED_BADLY),
        ("terminated", running("TERMINATED"), ENDED_BADLY),
        ("vanished", replace(running(), conductor="Absent", fresh=True), ENDED_BADLY),
        ("invalid input", new(input={"size": "big"}), ENDED_BADLY),
        ("invalid spec", Seen(run_of(priority="high"), READY, POLICY), ENDED_BADLY),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_conditions_in_each_state(state: str, seen: Seen, conditions: dict[str, str]) -> None:
    report = decide_run(seen, NOW)
    assert isinstance(report, Report)
    status = report_conditions(seen, report, NOW)
    assert {item["type"]: item["status"] for item in status["conditions"]} == conditions
    assert status["observedGeneration"] == seen.run.generation
    assert all(item["reason"] for item in status["conditions"])


def test_a_report_that_is_made_again_is_the_same_status() -> None:
    for state in ("RUNNING", "COMPLETED", "FAILED", "TERMINATED"):
        seen = running(state)  # type: ignore[arg-type]
        first = decide_run(seen, NOW)
        assert isinstance(first, Report)
        written = report_conditions(seen, first, NOW)
        again = replace(seen, run=replace(seen.run, status=written))
        later = NOW + timedelta(minutes=5)
        second = decide_run(again, later)
        assert isinstance(second, Report)
        assert report_conditions(again, second, later) == written
        assert second.notes == ()


def test_what_people_wrote_is_not_written_back() -> None:
    seen = running("COMPLETED")
    report = Report({"phase": "Running", "approvals": [{"task": "a"}]})
    assert "approvals" not in report_conditions(seen, report, NOW)
