"""Which finished runs go: by their time to live, over the limits, and never those that would come again."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podium.api.v1alpha1 import FINALIZER
from podium.api.v1alpha1.schedule import Schedule, ScheduleStatus
from podium.core import effects as do
from podium.core.objects import Workflow, WorkflowRun, project_workflow, project_workflow_run
from podium.core.retention import TRACKING_KEYS, Policy, decide_retention
from podium.core.runs import Policy as RunPolicy
from podium.core.runs import Seen, decide_run
from podium.core.schedules import Ticket
from podium.core.schedules.runs import build_run
from podium.ports import Json, RunSeen

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
POLICY = Policy()
NIGHTLY = {"name": "nightly", "cron": "0 2 * * *"}


def ago(seconds: float) -> str:
    return (NOW - timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


def finished(
    name: str, age: float = 60, *, phase: str = "Succeeded", metadata: Json | None = None, **more: Any
) -> WorkflowRun:
    """A run that ended `age` seconds ago; what people made unless `metadata` says otherwise."""
    status = {"phase": phase, "finishedAt": ago(age), "observedGeneration": 1, **more.pop("status", {})}
    return project_workflow_run(
        {
            "metadata": {
                "name": name,
                "namespace": "studio",
                "uid": f"uid-{name}",
                "generation": 1,
                "creationTimestamp": ago(age + 10),
                **(metadata or {}),
            },
            "spec": {"workflow": "video", **more},
            "status": status,
        }
    )


def scheduled(
    age: float = 60, *, schedule: str = "nightly", name: str | None = None, **more: Any
) -> WorkflowRun:
    """What a schedule made for a time five seconds before; with a `name` of its own it is a copy of that."""
    at = NOW - timedelta(seconds=age + 5)
    return finished(
        name or Ticket(schedule, at).name("video"),
        age,
        metadata={
            "labels": {"podium.dev/schedule": schedule},
            "annotations": {"podium.dev/scheduled-at": ago(age + 5)},
        },
        **more,
    )


def workflow(status: Json | None = None, schedules: tuple[Json, ...] = (), **history: Any) -> Workflow:
    return project_workflow(
        {
            "metadata": {
                "name": "video",
                "namespace": "studio",
                "uid": "w",
                "creationTimestamp": ago(9999),
            },
            "spec": {
                "flow": {"nodes": [{"id": "a", "type": "a"}]},
                "runHistory": history,
                "schedules": list(schedules),
            },
            "status": status or {},
        }
    )


def gone(runs: list[WorkflowRun], of: Workflow | None, policy: Policy = POLICY) -> list[tuple[str, str]]:
    return [(item.key.name, item.why) for item in decide_retention(runs, of, NOW, policy).deletions]


# --- time to live -----------------------------------------------------------------------------------


def test_a_run_goes_when_its_time_is_over_and_not_before() -> None:
    runs = [finished("old", 61), finished("edge", 60), finished("young", 59)]
    verdict = decide_retention(runs, workflow(ttlAfterFinished="60s"), NOW, POLICY)
    assert [item.key.name for item in verdict.deletions] == ["old", "edge"]
    assert {item.uid for item in verdict.deletions} == {"uid-old", "uid-edge"}
    assert verdict.again == timedelta(seconds=1)


def test_the_runs_own_time_wins_over_the_workflows() -> None:
    runs = [finished("short", 20, ttlAfterFinished="10s"), finished("long", 999, ttlAfterFinished="1h")]
    assert gone(runs, workflow(ttlAfterFinished="60s")) == [("short", "ttl")]


def test_a_runs_own_time_counts_after_its_workflow_is_gone_and_nothing_else_does() -> None:
    runs = [finished("own", 20, ttlAfterFinished="10s"), finished("other", 9999)]
    runs += [scheduled(60 * number) for number in range(20)]
    assert gone(runs, None) == [("own", "ttl")]


def test_without_a_rule_what_people_made_stays_for_good() -> None:
    verdict = decide_retention([finished(f"r{n}", 10**7) for n in range(50)], workflow(), NOW, POLICY)
    assert verdict.deletions == ()
    assert verdict.again is None


def test_a_run_whose_end_has_no_time_goes_by_its_condition() -> None:
    when = {"type": "Finished", "status": "True", "lastTransitionTime": ago(100)}
    run = finished("r", status={"finishedAt": None, "conditions": [when]})
    unknown = finished("u", status={"finishedAt": None})
    assert gone([run, unknown], workflow(ttlAfterFinished="60s")) == [("r", "ttl")]


# --- history limits ---------------------------------------------------------------------------------


def test_limits_count_every_run_of_that_outcome_and_the_oldest_go_first() -> None:
    runs = [finished(f"ok{n}", 100 + n) for n in range(4)]
    runs += [finished(f"bad{n}", 100 + n, phase=phase) for n, phase in enumerate(("Failed", "TimedOut"))]
    runs.append(finished("bad2", 102, phase="Terminated"))
    assert gone(runs, workflow(succeeded=2, failed=1)) == [
        ("ok3", "history"),
        ("bad2", "history"),
        ("ok2", "history"),
        ("bad1", "history"),
    ]
    assert gone(runs, workflow(succeeded=0)) == [(f"ok{n}", "history") for n in (3, 2, 1, 0)]


def test_without_limits_only_what_schedules_made_is_limited_to_ten_of_each() -> None:
    place = {"mark": "m", "since": ago(9999), "lastTime": ago(0)}
    status = {"schedules": [{"name": name, **place} for name in ("nightly", "hourly")]}
    runs = [finished(f"by-people{n}", 50 + n) for n in range(30)]
    night = [scheduled(60 * n) for n in range(12)]
    hour = [scheduled(60 * n, schedule="hourly") for n in range(11)]
    bad = [scheduled(60 * n, phase="Failed") for n in range(100, 110)]
    assert gone([*runs, *night, *hour, *bad], workflow(status)) == [
        (night[11].key.name, "history"),
        (hour[10].key.name, "history"),
        (night[10].key.name, "history"),
    ]


def test_a_copy_of_what_a_schedule_made_is_what_people_made() -> None:
    copies = [scheduled(60 * n, name=f"copy{n}") for n in range(20)]
    made = [scheduled(60 * n) for n in range(10)]
    assert gone([*copies, *made], workflow({}, (NIGHTLY,))) == [], "nor does it take the place of one"
    # Where there is a limit, it counts as every run does.
    assert len(gone(copies, workflow({}, (NIGHTLY,), succeeded=15))) == 5


def test_what_goes_by_its_time_does_not_count_in_the_limits() -> None:
    runs = [finished("expired", 100), finished("a", 50), finished("b", 40)]
    assert gone(runs, workflow(ttlAfterFinished="60s", succeeded=2)) == [("expired", "ttl")]


# --- what must stay ---------------------------------------------------------------------------------

EVERYTHING_GOES = {"succeeded": 0, "failed": 0, "ttlAfterFinished": "0s"}
ARGO = [{"manager": "argocd-controller"}]


@pytest.mark.parametrize(
    "metadata",
    [
        {"annotations": {"argocd.argoproj.io/tracking-id": "app:podium.dev/WorkflowRun:studio/r"}},
        {"labels": {"app.kubernetes.io/instance": "app"}, "managedFields": ARGO},
        {"labels": {"app.kubernetes.io/instance": "app"}},  # nobody knows who applied it
        {"labels": {"kustomize.toolkit.fluxcd.io/name": "apps"}},
        {"labels": {"helm.toolkit.fluxcd.io/name": "apps"}},
        {"annotations": {"meta.helm.sh/release-name": "apps"}},
        {"labels": {"fleet.example/bundle": "mine"}},
    ],
)
def test_what_gitops_tracks_is_neither_deleted_nor_counted(metadata: Json) -> None:
    policy = Policy(tracking_keys=TRACKING_KEYS | {"fleet.example/bundle"})
    tracked = finished("tracked", 999, metadata=metadata)
    assert gone([tracked], workflow(**EVERYTHING_GOES), policy) == []
    others = [finished("a", 20), finished("b", 10)]
    assert gone([tracked, *others], workflow(succeeded=2), policy) == []


def test_the_instance_label_alone_is_everyones() -> None:
    labelled = finished(
        "r",
        metadata={
            "labels": {"app.kubernetes.io/instance": "x"},
            "managedFields": [{"manager": "kubectl-client-side-apply"}, {"manager": "podium"}],
        },
    )
    assert gone([labelled], workflow(**EVERYTHING_GOES)) == [("r", "ttl")]


@pytest.mark.parametrize(
    ("story", "run"),
    [
        ("active", finished("r", phase="Running")),
        ("never looked at", finished("r", phase="Pending", status={"finishedAt": None})),
        ("being deleted", finished("r", metadata={"deletionTimestamp": ago(1)})),
        ("an action is asked for", finished("r", action={"id": "2", "type": "Retry"})),
        ("an action is under way", finished("r", status={"pendingAction": {"id": "2"}})),
        ("changed and not looked at", finished("r", metadata={"generation": 2})),
        (
            "a twin may still come",
            finished("r", status={"conductor": {"attempt": 2, "requestedAt": ago(100)}}),
        ),
    ],
)
def test_what_something_goes_on_with_stays(story: str, run: WorkflowRun) -> None:
    assert gone([run], workflow(**EVERYTHING_GOES)) == []


STARTED = {"conductor": {"workflowId": "w1"}}


@pytest.mark.parametrize(
    ("story", "phase", "age", "status", "goes"),
    [
        ("not looked at yet", "Failed", 60, {"failureRun": {"workflowId": "f1"}}, False),
        ("at work", "Failed", 60, {"failureRun": {"workflowId": "f1", "phase": "Running"}}, False),
        ("done", "Failed", 60, {"failureRun": {"workflowId": "f1", "phase": "Succeeded"}}, True),
        ("failed itself", "TimedOut", 60, {"failureRun": {"workflowId": "f1", "phase": "Failed"}}, True),
        ("could not be started", "Failed", 1, {"failureRun": {"message": "no such workflow"}}, True),
        ("perhaps not told of yet", "Failed", 1, {}, False),
        ("perhaps not told of yet", "TimedOut", 29, {}, False),
        ("there is none", "Failed", 31, {}, True),
        ("none after a termination", "Terminated", 1, {}, True),
    ],
)
def test_a_purge_waits_for_the_failure_workflow(
    story: str, phase: str, age: float, status: Json, goes: bool
) -> None:
    run = finished("r", age, phase=phase, status=STARTED | status)
    for of in (workflow(failed=0, purge=True), workflow(ttlAfterFinished="0s", purge=True)):
        verdict = decide_retention([run], of, NOW, POLICY)
        assert [item.key.name for item in verdict.deletions] == (["r"] if goes else [])
        assert verdict.again == (None if goes else timedelta(minutes=1)), "it is looked at again"
    own = finished("r", age, phase=phase, status=STARTED | status, deletionPolicy="Purge")
    assert gone([own], workflow(failed=0)) == ([("r", "history")] if goes else [])
    # What stays in Conductor ends nothing there.
    assert gone([run], workflow(failed=0)) == [("r", "history")]


@pytest.mark.parametrize(
    ("story", "spec", "status", "purge", "goes"),
    [
        ("its Workflow purges", {}, STARTED, True, False),
        ("it is purged", {"deletionPolicy": "Purge"}, STARTED, False, False),
        ("its start was not confirmed", {}, {"conductor": {"name": "studio.video"}}, True, False),
        ("Conductor never heard of it", {}, {}, True, True),
        ("it stays in Conductor", {}, STARTED, False, True),
        ("it stays there whatever its Workflow says", {"deletionPolicy": "Orphan"}, STARTED, True, True),
    ],
)
def test_a_purge_waits_for_a_conductor_that_is_away(
    story: str, spec: Json, status: Json, purge: bool, goes: bool
) -> None:
    runs = [finished("r", status=status, **spec), finished("near", 50, status=STARTED, **spec)]
    of = workflow(succeeded=0, purge=purge)
    verdict = decide_retention(runs, of, NOW, POLICY, is_away=lambda run: run.key.name == "r")
    assert [item.key.name for item in verdict.deletions] == (["r", "near"] if goes else ["near"])
    assert verdict.again == (None if goes else timedelta(minutes=1)), "it is looked at again"


def test_a_run_that_never_began_has_no_failure_workflow_to_wait_for() -> None:
    assert gone([finished("r", 1, phase="Failed")], workflow(failed=0, purge=True)) == [("r", "history")]


def test_an_action_that_was_handled_keeps_nothing() -> None:
    run = finished("r", action={"id": "2", "type": "Retry"}, status={"lastAction": {"id": "2"}})
    assert gone([run], workflow(**EVERYTHING_GOES)) == [("r", "ttl")]


@pytest.mark.parametrize(
    ("story", "stands", "goes"),
    [
        ("its time is dealt with", {"lastTime": ago(65)}, True),
        ("its time is not written down yet", {"lastTime": ago(66)}, False),
        ("the schedule is new, or was changed since", {"since": ago(60)}, True),
        ("none is written down yet", {}, False),
    ],
)
def test_what_a_schedule_could_make_again_stays(story: str, stands: Json, goes: bool) -> None:
    status = {"schedules": [{"name": "nightly", "mark": "m", "since": ago(9999), **stands}]}
    of = workflow(status, (NIGHTLY,), **EVERYTHING_GOES)
    verdict = decide_retention([scheduled(60)], of, NOW, POLICY)
    assert len(verdict.deletions) == (1 if goes else 0)
    assert (verdict.again is not None) is not goes, "what is held back is looked at again"


@pytest.mark.parametrize("schedules", [(), (NIGHTLY,)])
def test_a_schedule_that_begins_anew_or_is_gone_makes_nothing_again(schedules: tuple[Json, ...]) -> None:
    assert len(gone([scheduled()], workflow({}, schedules, **EVERYTHING_GOES))) == 1


# --- not too much at once ---------------------------------------------------------------------------


def test_a_pass_deletes_the_oldest_few_and_says_when_to_go_on() -> None:
    verdict = decide_retention(
        [finished(f"r{n:03}", 1000 - n) for n in range(100)], workflow(ttlAfterFinished="1s"), NOW, POLICY
    )
    assert [item.key.name for item in verdict.deletions] == [f"r{n:03}" for n in range(20)]
    assert verdict.again == timedelta(seconds=1)


def test_a_pass_looks_no_further_than_it_deletes() -> None:
    asked = []
    verdict = decide_retention(
        [finished(f"r{n:03}", 1000 - n, status=STARTED) for n in range(100)],
        workflow(ttlAfterFinished="1s", purge=True),
        NOW,
        POLICY,
        is_away=lambda run: bool(asked.append(run.key.name)),  # type: ignore[func-returns-value]
    )
    assert len(verdict.deletions) == 20
    assert asked == [f"r{n:03}" for n in range(21)]


def test_where_schedules_stand_is_read_once_for_all_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"s{number}" for number in range(32)]
    of = workflow(
        {"schedules": [{"name": name, "mark": "m", "since": ago(9)} for name in names]}, succeeded=0
    )
    runs = [scheduled(n / 100, name=f"r{n:03}", schedule=names[n % 32]) for n in range(200)]
    parse, parsed = ScheduleStatus.model_validate, []
    monkeypatch.setattr(ScheduleStatus, "model_validate", lambda item: parsed.append(item) or parse(item))
    assert decide_retention(runs, of, NOW, POLICY).deletions == ()
    assert len(parsed) == 32


@pytest.mark.parametrize(
    ("by_workflow", "policy", "purged"),
    [
        (False, "Terminate", False),
        (False, "Purge", True),
        (True, "Terminate", True),
        (True, "Purge", True),
        (True, "Orphan", False),
    ],
)
def test_it_is_known_whether_conductor_forgets_it_too(by_workflow: bool, policy: str, purged: bool) -> None:
    of = workflow(ttlAfterFinished="0s", purge=by_workflow)
    [deletion] = decide_retention([finished("r", deletionPolicy=policy)], of, NOW, POLICY).deletions
    assert deletion.purged is purged


# --- with their Workflow ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "purge", "goes_on"),
    [("Delete", False, False), ("Orphan", False, True), ("Orphan", True, False), ("Delete", True, False)],
)
def test_what_schedules_made_goes_on_when_its_workflow_leaves_conductor_as_it_is(
    policy: str, purge: bool, goes_on: bool
) -> None:
    of = workflow(purge=purge)
    assert of.spec is not None
    of = replace(of, spec=of.spec.model_copy(update={"deletion_policy": policy}))
    body = build_run(of, Schedule(name="nightly", cron="0 2 * * *"), Ticket("nightly", NOW))
    assert [owner["uid"] for owner in body["metadata"]["ownerReferences"]] == [of.uid]
    # The garbage collector deletes it.
    body["metadata"] |= {
        "uid": "u",
        "creationTimestamp": ago(60),
        "deletionTimestamp": ago(1),
        "finalizers": [FINALIZER],
    }
    conductor = {"name": "studio.video", "version": 1, "correlationId": "c.u", "workflowId": "w1"}
    body["status"] = {"phase": "Running", "conductor": conductor}
    view = RunSeen("w1", "studio.video", 1, "RUNNING", "c.u")
    run = project_workflow_run(body)
    effect = decide_run(Seen(run, None, RunPolicy("c"), conductor=view, fresh=True), NOW)
    if goes_on:
        assert effect == do.SetFinalizers(())
    else:
        assert effect == do.Terminate("w1", "its WorkflowRun was deleted")


# --- laws -------------------------------------------------------------------------------------------

AGES = st.integers(0, 500)
RUNS = st.lists(
    st.tuples(AGES, st.sampled_from(["Succeeded", "Failed", "Running"]), st.booleans(), st.booleans()),
    max_size=40,
)


@given(RUNS, st.none() | st.integers(0, 5), st.none() | st.integers(0, 300))
def test_what_is_deleted_may_be_and_what_stays_is_within_the_limits(
    shapes: list[tuple[int, str, bool, bool]], limit: int | None, ttl: int | None
) -> None:
    runs = []
    for number, (age, phase, tracked, by_schedule) in enumerate(shapes):
        labels = {"podium.dev/schedule": "nightly"} if by_schedule else {}
        # A time for each: no two runs of a schedule have the same one.
        annotations = {"podium.dev/scheduled-at": ago(60 * number)} if by_schedule else {}
        at = NOW - timedelta(minutes=number)
        name = Ticket("nightly", at).name("video") if by_schedule else f"r{number:02}"
        if tracked:
            annotations["argocd.argoproj.io/tracking-id"] = "x"
        metadata = {"labels": labels, "annotations": annotations}
        runs.append(finished(name, age, phase=phase, metadata=metadata))
    of = workflow(
        {"schedules": [{"name": "nightly", "mark": "m", "since": ago(9999), "lastTime": ago(0)}]},
        succeeded=limit,
        failed=limit,
        ttlAfterFinished=f"{ttl}s" if ttl is not None else None,
    )
    policy = Policy(most=100)
    verdict = decide_retention(runs, of, NOW, policy)
    going = {item.uid for item in verdict.deletions}
    left = [run for run in runs if run.uid not in going]
    for run in runs:
        if run.uid in going:
            assert run.status["phase"] != "Running"
            assert not run.marks & TRACKING_KEYS
    counted = [run for run in left if run.status["phase"] == "Succeeded" and not run.marks & TRACKING_KEYS]
    if limit is not None:
        assert len(counted) <= limit
    else:
        assert len([run for run in counted if run.schedule]) <= 10
        if ttl is None:
            assert all(run in left for run in runs if not run.schedule)
    # A second look over what is left deletes nothing more.
    assert decide_retention(left, of, NOW, policy).deletions == ()
