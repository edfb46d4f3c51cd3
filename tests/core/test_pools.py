"""What is decided about a WorkerPool: its objects, who goes first, and what people are told."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from podium.core import effects as do
from podium.core.effects import Report, Unknown
from podium.core.objects import WorkerPool, project_worker_pool
from podium.core.pools.decide import Applied, Assessment, Depths, Seen, decide_pool
from podium.core.pools.demand import TaskLimit, TypeFacts, gather_facts, needs_workers, split_depth
from podium.core.pools.manifests import Surroundings, build_owned, drain_time, hash_manifest
from podium.core.pools.pods import OwnedSeen, PodSeen, project_pod
from podium.core.pools.report import build_report, report_conditions
from podium.core.pools.scaling import Memory
from podium.ports import RunSeen, TaskSeen, WorkerLoad

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
LONG_AGO = NOW - timedelta(hours=1)
Json = dict[str, Any]


def pool(**spec: Any) -> WorkerPool:
    return project_worker_pool(
        {
            "metadata": {
                "name": "media",
                "namespace": "studio",
                "uid": "u1",
                "creationTimestamp": "2026-01-01T00:00:00Z",
            },
            "spec": {
                "taskTypes": ["resize"],
                "template": {"spec": {"containers": [{"name": "worker", "image": "w:1"}]}},
                "scaling": {},
                **spec,
            },
        }
    )


def pod(name: str, **more: Any) -> PodSeen:
    return PodSeen(
        "studio", name, f"uid-{name}", "media", "1", ip="10.0.0.1", running=True, ready=True, **more
    )


def load(busy: int, at: datetime = NOW) -> WorkerLoad:
    return WorkerLoad(busy, at)


def seen(
    replicas: int = 0, pods: tuple[PodSeen, ...] = (), busy: Json | None = None, depth: int = 0, **more: Any
) -> Seen:
    """A pool whose objects are as they shall be with `replicas`."""
    that = more.pop("pool", None) or pool(**more.pop("spec", {}))
    around = Surroundings("http://conductor:8080/api", "studio")
    owned, applied = {}, {}
    for manifest in build_owned(that, replicas, around):
        kind = manifest["kind"]
        owned[kind] = OwnedSeen(kind, "studio", "media", f"uid-{kind}", "u1", "1", 1, replicas=replicas)
        applied[kind] = Applied(hash_manifest(manifest), 1)
    return Seen(
        **{
            "pool": that,
            "memory": Memory(since=LONG_AGO, begun=LONG_AGO),
            "around": around,
            "replicas": replicas,
            "owned": owned,
            "applied": applied,
            "pods": pods,
            "loads": {f"uid-{name}": load(tasks) for name, tasks in (busy or {}).items()},
            "depths": Depths({"resize": depth}, NOW),
            **more,
        }
    )


def report(of: Seen) -> tuple[Report, Json, Json]:
    """The report, the status that would be written, and its conditions by type."""
    found = decide_pool(of, NOW)
    assert isinstance(found, Assessment), found
    made = build_report(of, found, NOW)
    status = report_conditions(of, made, NOW)
    return made, status, {item["type"]: item for item in status["conditions"]}


def test_a_new_pool_makes_its_objects_one_after_the_other() -> None:
    of = replace(seen(), owned={}, applied={}, replicas=None)
    for kind in ("ServiceAccount", "PodDisruptionBudget", "Deployment"):
        step = decide_pool(of, NOW)
        assert isinstance(step, do.Make)
        assert step.manifest["kind"] == kind
        assert step.manifest["metadata"]["ownerReferences"][0]["uid"] == "u1"
        of = replace(of, done=of.done | {kind})
    assert isinstance(decide_pool(of, NOW), Assessment)


def test_what_is_as_it_shall_be_is_left_alone_and_what_someone_changed_is_not() -> None:
    of = seen(replicas=0)
    assert isinstance(decide_pool(of, NOW), Assessment)
    moved = {**of.owned, "Deployment": replace(of.owned["Deployment"], generation=2)}
    step = decide_pool(replace(of, owned=moved), NOW)
    assert isinstance(step, do.Apply)
    assert step.uid == "uid-Deployment"


def test_a_backlog_is_applied_at_once() -> None:
    step = decide_pool(seen(depth=30), NOW)
    assert isinstance(step, do.Apply)
    assert step.manifest["spec"]["replicas"] == 8


def test_before_anyone_goes_the_pods_are_asked_and_only_idle_ones_are_marked() -> None:
    pods = (pod("a"), pod("b"), pod("c"), pod("d"))
    old = {item.uid: load(0, NOW - timedelta(seconds=8)) for item in pods}
    of = replace(seen(4, pods), loads=old)
    step = decide_pool(of, NOW)
    assert step == do.ReadLoads(pods)
    told = {item.uid: load(3 if item.name == "a" else 0) for item in pods}
    of = replace(of, loads=told, done=frozenset({"loads"}))
    marked = []
    while isinstance(step := decide_pool(of, NOW), do.MarkPod):
        assert step.cost < 0
        marked.append(step.pod.name)
        pods = tuple(replace(item, cost=step.cost) if item == step.pod else item for item in of.pods)
        of = replace(of, pods=pods, done=of.done | {f"mark {step.pod.uid}"})
    assert marked == ["b", "c", "d"]
    assert isinstance(step, do.Apply)
    assert step.manifest["spec"]["replicas"] == 1


def test_where_pods_cannot_be_marked_none_goes_and_it_is_told_and_the_rest_goes_on() -> None:
    pods = (pod("a"), pod("b"))
    of = seen(2, pods, {"a": 0, "b": 1}, done=frozenset({"loads"}))
    assert isinstance(decide_pool(of, NOW), do.MarkPod)
    of = replace(of, unmarked="Pod a: it cannot be marked: no")
    found = decide_pool(of, NOW)
    assert isinstance(found, Assessment)
    assert (found.verdict.replicas, found.verdict.why) == (2, None)
    made, _, conditions = report(of)
    assert conditions["Ready"]["reason"] == "PodsRefused"
    assert made.requeue_after is not None, "it is tried again"
    step = decide_pool(replace(of, pool=pool(concurrency=7)), NOW)
    assert isinstance(step, do.Apply)
    assert step.manifest["spec"]["replicas"] == 2, "another template is applied all the same"
    step = decide_pool(replace(of, pool=pool(suspend=True)), NOW)
    assert isinstance(step, do.MarkPod | do.Apply), "where all go, none has to be first"


def test_it_shrinks_by_no_more_than_the_idle_pods() -> None:
    """Ten tasks fit into three pods, and are spread over five."""
    pods = tuple(pod(name) for name in "abcdef")
    of = seen(6, pods, dict.fromkeys("abcde", 1) | {"f": 0}, done=frozenset({"loads"}))
    step = decide_pool(of, NOW)
    assert isinstance(step, do.MarkPod)
    assert step.pod.name == "f"
    of = replace(of, pods=(*pods[:5], replace(pods[5], cost=-100)))
    step = decide_pool(of, NOW)
    assert isinstance(step, do.Apply)
    assert step.manifest["spec"]["replicas"] == 5


def test_while_a_pod_that_is_not_ready_has_tasks_no_ready_one_goes() -> None:
    """Kubernetes would take that one before all that are ready, whatever its cost."""
    just_begun = replace(pod("new"), ready=False)
    pods = (pod("a"), pod("b"), just_begun)
    busy = {"a": 0, "b": 0, "new": 1}
    found = decide_pool(seen(3, pods, busy, done=frozenset({"loads"})), NOW)
    assert isinstance(found, Assessment)
    assert found.verdict.replicas == 3
    other = replace(pod("newer"), running=False, ready=False)
    step = decide_pool(seen(4, (*pods, other), busy, done=frozenset({"loads"})), NOW)
    assert isinstance(step, do.Apply)
    assert step.manifest["spec"]["replicas"] == 3, "one that does not run yet may go"
    pods = (*pods[:2], replace(just_begun, ready=True))
    assert isinstance(decide_pool(seen(3, pods, busy, done=frozenset({"loads"})), NOW), do.MarkPod)


def test_a_pod_that_got_a_task_after_it_was_marked_is_no_longer_first() -> None:
    pods = (pod("a", cost=-100), pod("b"))
    of = seen(2, pods, {"a": 2, "b": 0}, done=frozenset({"loads"}))
    marks = {}
    while isinstance(step := decide_pool(of, NOW), do.MarkPod):
        marks[step.pod.name] = step.cost
        of = replace(of, done=of.done | {f"mark {step.pod.uid}"})
    assert marks == {"a": 0, "b": -100}


def test_a_pod_that_does_not_answer_keeps_the_pool_as_it_is() -> None:
    pods = (pod("a"), pod("b"))
    found = decide_pool(seen(2, pods, {"a": 0}), NOW)
    assert isinstance(found, Assessment)
    assert found.verdict.why is None
    assert found.need.unseen_pods == 1


def test_pods_that_leave_count_neither_as_workers_nor_as_work() -> None:
    pods = (pod("a"), pod("b", leaving=True))
    found = decide_pool(seen(1, pods, {"a": 1, "b": 5}), NOW)
    assert isinstance(found, Assessment)
    assert found.need.busy == 1
    _, status, _ = report(seen(1, pods, {"a": 1, "b": 5}))
    assert (status["replicas"], status["draining"]) == (1, 1)


def test_tasks_above_the_limit_of_their_type_make_no_pods() -> None:
    limits = {"resize": TaskLimit(at_once=6)}
    step = decide_pool(seen(depth=100, limits=limits), NOW)
    assert isinstance(step, do.Apply)
    assert step.manifest["spec"]["replicas"] == 2
    of = replace(seen(depth=100, limits=limits), done=frozenset({"Deployment"}))
    _, _, conditions = report(of)
    assert conditions["Limited"]["reason"] == "TaskLimit"


def test_a_decision_stands_in_the_status_and_is_an_event() -> None:
    of = replace(
        seen(replicas=2, pods=(pod("a"), pod("b")), busy={"a": 5, "b": 5}, depth=6),
        done=frozenset({"Deployment"}),
    )
    made, status, _ = report(of)
    assert status["desiredReplicas"] == 4
    assert status["decisions"] == [
        {
            "at": "2026-01-01T12:00:00Z",
            "from": 2,
            "to": 4,
            "reason": "Backlog",
            "message": "10 busy + 6 queued at 5 a pod, 80%",
        }
    ]
    assert [note.reason for note in made.notes] == ["ScaledUp"]


def test_a_dry_run_says_what_it_would_do_once_and_does_nothing() -> None:
    of = seen(1, (pod("a"),), {"a": 5}, depth=15, spec={"scaling": {"dryRun": True}})
    made, status, _ = report(of)
    assert status["desiredReplicas"] == 5
    assert [note.reason for note in made.notes] == ["WouldScale"]
    again = replace(of, pool=replace(of.pool, status=status))
    made, after, _ = report(again)
    assert not made.notes
    assert after["decisions"] == status["decisions"]


def test_ten_decisions_are_kept_and_the_status_stays_small() -> None:
    old = [{"at": "2026-01-01T11:00:00Z", "from": 1, "to": 2, "reason": "Backlog", "message": "x" * 100}] * 10
    that = replace(pool(), status={"decisions": old})
    _, status, _ = report(replace(seen(depth=9, pool=that), done=frozenset({"Deployment"})))
    assert len(status["decisions"]) == 10
    assert status["decisions"][0]["to"] == 3


@pytest.mark.parametrize(
    ("given", "reason", "stalled"),
    [
        ({"rival": "resize belongs to WorkerPool old"}, "TaskTypeTaken", True),
        (
            {"around": Unknown("there is no ConductorConnection x here", "ConnectionNotFound")},
            "ConnectionNotFound",
            False,
        ),
        ({"taken": "Deployment"}, "NameTaken", True),
        ({"refusal": "Deployment: spec.template: bad"}, "InvalidTemplate", True),
        ({"failure": "Deployment: forbidden"}, "PodsRefused", False),
        ({"depths": Unknown("Conductor is away")}, "ConductorUnavailable", False),
    ],
)
def test_what_is_wrong_is_said_and_changes_no_pod(given: Json, reason: str, stalled: bool) -> None:
    of = seen(3, tuple(pod(name) for name in "abc"), dict.fromkeys("abc", 0), **given)
    made, status, conditions = report(of)
    assert (conditions["Ready"]["status"], conditions["Ready"]["reason"]) == ("False", reason)
    assert ("Stalled" in conditions) == stalled
    assert "decisions" not in status
    assert [note.reason for note in made.notes] == [reason]


@pytest.mark.parametrize(
    ("trouble", "message"),
    [("ImagePullFailed", "w:1: not found"), ("CrashLooping", "exit code 1: no such function")],
)
def test_pods_that_cannot_run_are_told_in_the_kubelets_words(trouble: Any, message: str) -> None:
    bad = replace(pod("a"), running=False, ready=False, trouble=trouble, message=message)
    of = seen(1, (bad,), depth=1)
    _, _, conditions = report(of)
    assert conditions["Ready"]["reason"] == trouble
    assert conditions["Ready"]["message"] == f"pod a: {message}"


def test_a_quota_is_told() -> None:
    of = seen(1, depth=1)
    deployment = replace(of.owned["Deployment"], failure='pods "x" is forbidden: exceeded quota: small')
    _, _, conditions = report(replace(of, owned={**of.owned, "Deployment": deployment}))
    assert conditions["Ready"]["reason"] == "QuotaExceeded"
    assert conditions["Limited"]["reason"] == "QuotaExceeded"


def test_tasks_that_wait_while_nobody_asks_for_them_are_told() -> None:
    old = int((NOW - timedelta(seconds=75)).timestamp() * 1000)
    of = seen(
        1,
        (pod("a"),),
        {"a": 0},
        depth=3,
        facts={"resize": TypeFacts(ready=3, oldest_ms=old)},
        polled={"resize": NOW - timedelta(seconds=70)},
    )
    _, _, conditions = report(of)
    assert conditions["Ready"]["reason"] == "Starved"
    assert conditions["Ready"]["message"] == (
        "3 tasks of resize wait, the oldest for 1m, and nobody has asked for them for 1m"
    )
    _, _, conditions = report(replace(of, polled={"resize": NOW - timedelta(seconds=5)}))
    assert conditions["Ready"]["reason"] == "Serving"


@pytest.mark.parametrize(("waited", "again"), [(0, 60), (50, 10), (58, 5), (600, 5)])
def test_that_tasks_wait_too_long_is_found_by_the_time_alone(waited: int, again: int) -> None:
    of = seen(1, (pod("a"),), {"a": 1}, depth=2, polled={})
    depths = Depths({"resize": 2}, NOW, {"resize": NOW - timedelta(seconds=waited)})
    decided, _, conditions = report(replace(of, depths=depths))
    assert decided.requeue_after == timedelta(seconds=again)
    assert conditions["Ready"]["reason"] == ("Starved" if waited >= 60 else "Serving")
    rest, _, _ = report(seen(0, depth=0, polled={}))
    assert rest.requeue_after is None


# --- what waits ---------------------------------------------------------------------------------------


def task(state: Any = "SCHEDULED", **more: Any) -> TaskSeen:
    return TaskSeen("t", "resize", state, domain="studio", scheduled_ms=1_000, **more)


def run(*tasks: TaskSeen, state: Any = "RUNNING") -> RunSeen:
    return RunSeen("w", "studio.video", 1, state, tasks=tasks)


def test_delayed_tasks_and_those_of_paused_runs_are_no_backlog() -> None:
    now_ms = int(NOW.timestamp() * 1000)
    facts = gather_facts(
        [
            run(task(), task("IN_PROGRESS")),
            run(task(update_ms=now_ms - 1_000, callback_s=10)),
            run(task(update_ms=now_ms - 11_000, callback_s=10)),
            run(task(), state="PAUSED"),
        ],
        NOW,
    )["resize", "studio"]
    assert (facts.ready, facts.delayed, facts.running) == (2, 2, 1)
    queue = split_depth(6, facts)
    assert (queue.waiting, queue.delayed, queue.foreign) == (4, 2, 2)
    assert split_depth(1, facts).waiting == 0, "older views never make less than nothing"


@pytest.mark.parametrize(
    ("active", "needs"),
    [
        (run(task("IN_PROGRESS")), True),
        (run(task("COMPLETED")), True),
        (run(), True),
        (run(task("COMPLETED"), task("IN_PROGRESS", system_type="HUMAN")), False),
        (run(task("IN_PROGRESS", system_type="WAIT")), False),
        (run(task("IN_PROGRESS", system_type="HUMAN"), task("IN_PROGRESS", system_type="JOIN")), False),
        (run(task("IN_PROGRESS", system_type="HUMAN"), task("IN_PROGRESS", system_type="DO_WHILE")), False),
        (run(task("IN_PROGRESS", system_type="HUMAN"), task("SCHEDULED")), True),
        (run(task("COMPLETED"), task("IN_PROGRESS", system_type="JOIN")), True),
        (run(task(), state="PAUSED"), False),
    ],
)
def test_a_run_that_waits_for_people_or_is_paused_needs_no_workers(active: RunSeen, needs: bool) -> None:
    assert needs_workers(active) == needs


# --- the pods -----------------------------------------------------------------------------------------


def deployment_of(that: WorkerPool, around: Surroundings | None = None) -> Json:
    around = around or Surroundings("http://conductor:8080/api", "studio")
    return build_owned(that, 1, around)[-1]


def test_the_pods_pass_the_restricted_standard_and_know_their_conductor() -> None:
    spec = deployment_of(pool())["spec"]["template"]["spec"]
    assert spec["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    worker = spec["containers"][0]
    assert worker["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert worker["securityContext"]["readOnlyRootFilesystem"] is True
    env = {item["name"]: item.get("value") for item in worker["env"]}
    assert env["CONDUCTOR_SERVER_URL"] == "http://conductor:8080/api"
    assert (env["WORKER_TASKS"], env["WORKER_NAMESPACES"], env["WORKER_CONCURRENCY"]) == (
        "resize",
        "studio",
        "5",
    )
    assert spec["terminationGracePeriodSeconds"] == 615
    assert spec["shareProcessNamespace"] is True, "process 1 does not hear a signal while it starts"


def test_a_variable_stands_before_those_that_refer_to_it_whatever_the_template_has() -> None:
    field = {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}
    container = {"name": "worker", "image": "w:1", "env": [field]}
    spec = deployment_of(pool(template={"spec": {"containers": [container]}}))["spec"]["template"]["spec"]
    env = spec["containers"][0]["env"]
    listen = next(item["value"] for item in env if item["name"] == "WORKER_LISTEN")
    assert listen == "$(PODIUM_POD_IP):9464"
    before = [item["name"] for item in env][: [item["name"] for item in env].index("WORKER_LISTEN")]
    assert "PODIUM_POD_IP" in before
    assert field in env


def test_a_pod_that_has_not_answered_when_its_pool_may_shrink_is_asked_again() -> None:
    late = {"uid-a": load(0, NOW - timedelta(seconds=10))}
    of = seen(1, (pod("a"),), loads=late, done=frozenset({"loads"}))
    assert isinstance(found := decide_pool(of, NOW), Assessment)
    assert (found.verdict.replicas, found.verdict.look_again) == (1, timedelta(seconds=5))


def test_what_the_template_says_wins() -> None:
    containers = [
        {"name": "proxy", "image": "p:1"},
        {
            "name": "worker",
            "image": "w:1",
            "env": [{"name": "WORKER_CONCURRENCY", "value": "9"}],
            "securityContext": {"readOnlyRootFilesystem": False},
        },
    ]
    template = {
        "spec": {
            "containers": containers,
            "serviceAccountName": "mine",
            "priorityClassName": "high",
            "shareProcessNamespace": False,
        }
    }
    made = build_owned(pool(template=template), 1, Surroundings("http://c/api", ""))
    assert [item["kind"] for item in made] == ["PodDisruptionBudget", "Deployment"]
    spec = made[-1]["spec"]["template"]["spec"]
    assert (spec["serviceAccountName"], spec["priorityClassName"]) == ("mine", "high")
    assert spec["shareProcessNamespace"] is False
    proxy, worker = spec["containers"]
    assert "env" not in proxy
    assert worker["securityContext"]["readOnlyRootFilesystem"] is False
    env = [item for item in worker["env"] if item["name"].startswith("WORKER_")]
    assert {"name": "WORKER_CONCURRENCY", "value": "9"} in env
    assert len([item for item in env if item["name"] == "WORKER_CONCURRENCY"]) == 1
    assert {"name": "WORKER_NAMESPACES", "value": "-"} in env
    named = {"name": "POD_NAMESPACE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}}
    assert named in worker["env"], "nothing else tells whose Secrets it has"


def test_another_sdk_gets_its_variables_and_no_probes() -> None:
    worker = deployment_of(pool(runtime="Other"))["spec"]["template"]["spec"]["containers"][0]
    env = {item["name"]: item.get("value") for item in worker["env"]}
    assert env["CONDUCTOR_WORKER_ALL_DOMAIN"] == "studio"
    assert "readinessProbe" not in worker
    assert "readOnlyRootFilesystem" not in worker["securityContext"]


def test_a_pod_has_the_time_of_its_longest_task_to_end_and_keeps_it_while_there_are_pods() -> None:
    spec = pool().spec
    assert spec is not None
    around = Surroundings("u", "studio", longest_task=timedelta(hours=1))
    assert drain_time(spec, around) == timedelta(hours=1)
    later = Surroundings("u", "studio", grace=timedelta(seconds=3615))
    assert drain_time(spec, later) == timedelta(hours=1), "another time would replace every pod"
    fixed = pool(drainTimeout="90s").spec
    assert fixed is not None
    assert drain_time(fixed, around) == timedelta(seconds=90)


def test_a_pod_tells_what_is_the_matter_with_it() -> None:
    body: Json = {
        "metadata": {"name": "p", "namespace": "studio", "uid": "u", "labels": {"podium.dev/pool": "media"}},
        "status": {
            "containerStatuses": [
                {
                    "name": "worker",
                    "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                    "lastState": {
                        "terminated": {"exitCode": 1, "message": "a\nError: no function for resise\n"}
                    },
                }
            ]
        },
    }
    found = project_pod(body)
    assert (found.trouble, found.message) == ("CrashLooping", "exit code 1: Error: no function for resise")
    assert not found.running
