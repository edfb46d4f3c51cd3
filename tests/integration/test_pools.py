"""WorkerPools on the real servers; their pods run as processes on the stand-in node."""

import json
import re
from datetime import timedelta
from typing import Any

import pytest

from podium.core.pools import report
from support.bed import Bed, condition, workflow_run
from support.eventually import eventually
from support.outage_proxy import OutageProxy
from support.pools import pool, sleeping

Json = dict[str, Any]
pytestmark = pytest.mark.slow
QUICK = {"maxReplicas": 4, "cooldownPeriod": "4s", "scaleDown": {"stabilizationWindow": "2s"}}


async def deployment(bed: Bed, name: str) -> Json:
    found: Json = json.loads(await bed.kubectl("get", "deployment", name, "-n", bed.namespace, "-o", "json"))
    return found


async def test_a_pool_goes_from_zero_to_what_a_burst_needs_and_back_to_zero(bed: Bed) -> None:
    await bed.start_process_node()
    await bed.start_operator()
    await bed.apply(sleeping("nap", 2), pool(bed, "sleepers", "wait", concurrency=2, scaling=QUICK))
    await bed.until_ready("nap")
    body = await bed.until(
        "WorkerPool", "sleepers", lambda item: condition(item, "Ready").get("status") == "True"
    )
    assert body["status"]["replicas"] == 0
    await bed.until(
        "Workflow", "nap", lambda item: condition(item, "WorkersAvailable").get("reason") == "Pooled"
    )
    await bed.apply(*(workflow_run(f"nap-{number}", "nap") for number in range(6)))
    await bed.until("WorkerPool", "sleepers", lambda item: item["status"].get("desiredReplicas") == 4)
    for number in range(6):
        run = await bed.until_phase(f"nap-{number}", "Succeeded", within=60)
        assert [task["attempts"] for task in run["status"]["tasks"]] == [1], "no task was lost"
    body = await bed.until("WorkerPool", "sleepers", lambda item: item["status"]["replicas"] == 0, within=60)
    told = [(item["reason"], item["to"]) for item in reversed(body["status"]["decisions"])]
    assert told[0][0] in ("NeededSoon", "Backlog")
    assert told[-1] == ("Idle", 0)


async def test_what_is_taken_out_of_a_template_goes_and_what_is_changed_is_not_both(bed: Bed) -> None:
    await bed.start_operator()
    env = [
        {"name": "GONE", "value": "1"},
        {"name": "TOKEN", "value": "plain"},
        {"name": "KEPT", "value": "2"},
    ]
    probe = {"httpGet": {"path": "/mine", "port": 9464}}
    container = {"name": "worker", "image": "w:1", "env": env, "livenessProbe": probe}
    template = {"containers": [container], "nodeSelector": {"gpu": "yes"}}
    made = pool(bed, "sleepers", "wait", scaling=QUICK)
    made["spec"]["template"] = {"spec": template}
    await bed.apply(sleeping("nap", 2), made)
    await bed.until("WorkerPool", "sleepers", lambda item: condition(item, "Ready").get("status") == "True")
    secret = {"secretKeyRef": {"name": "s", "key": "k"}}
    container["env"] = [{"name": "TOKEN", "valueFrom": secret}, {"name": "KEPT", "value": "2"}]
    container["livenessProbe"] = {"exec": {"command": ["true"]}}
    made["spec"]["template"] = {"spec": {"containers": [container]}}
    await bed.apply(made)

    async def pod_spec() -> Json:
        found: Json = (await deployment(bed, "sleepers"))["spec"]["template"]["spec"]
        return found

    found = await eventually(pod_spec, lambda found: "exec" in found["containers"][0]["livenessProbe"])
    worker = found["containers"][0]
    named = {item["name"]: item.get("valueFrom") or item.get("value") for item in worker["env"]}
    assert (named["TOKEN"], named["KEPT"], "GONE" in named) == (secret, "2", False)
    assert "httpGet" not in worker["livenessProbe"]
    assert "nodeSelector" not in found
    body = await bed.get("WorkerPool", "sleepers")
    assert condition(body, "Ready")["reason"] == "Serving"


async def test_a_pod_with_tasks_outlives_the_shrinking_of_its_pool(bed: Bed) -> None:
    """Long and short tasks are mixed: idle pods go, busy ones stay, no task is begun twice."""
    await bed.start_process_node()
    await bed.start_operator()
    quick = {**QUICK, "maxReplicas": 5, "cooldownPeriod": "2s", "scaleDown": {"stabilizationWindow": "1s"}}
    await bed.apply(
        sleeping("short", 0.2), sleeping("long", 12), pool(bed, "mixed", "wait", concurrency=1, scaling=quick)
    )
    await bed.until_ready("short")
    await bed.until_ready("long")
    names = [f"long-{number}" for number in range(2)] + [f"short-{number}" for number in range(8)]
    await bed.apply(*(workflow_run(name, name.split("-")[0]) for name in names))
    await bed.until("WorkerPool", "mixed", lambda item: item["status"].get("replicas", 0) >= 4)
    body = await bed.until("WorkerPool", "mixed", lambda item: item["status"]["replicas"] < 4, within=60)
    assert body["status"]["busy"] == 2, "it shrank while the long ones ran"
    for name in names:
        run = await bed.until_phase(name, "Succeeded", within=60)
        assert [task["attempts"] for task in run["status"]["tasks"]] == [1]
    await bed.until("WorkerPool", "mixed", lambda item: item["status"]["replicas"] == 0, within=60)


async def test_a_pool_deleted_while_tasks_run_loses_none_of_them(bed: Bed) -> None:
    await bed.start_process_node()
    await bed.start_operator()
    await bed.apply(
        sleeping("nap", 8), pool(bed, "sleepers", "wait", scaling=QUICK), workflow_run("nap-1", "nap")
    )
    await bed.until("WorkerPool", "sleepers", lambda item: item["status"].get("busy") == 1, within=60)
    await bed.kubectl("delete", "workerpool", "sleepers", "-n", bed.namespace)
    run = await bed.until_phase("nap-1", "Succeeded", within=30)
    assert [task["attempts"] for task in run["status"]["tasks"]] == [1]
    await eventually(
        lambda: bed.kubectl("get", "deploy,pdb,sa,pods", "-n", bed.namespace),
        lambda told: "sleepers" not in told,
    )


async def test_a_pool_that_is_made_anew_waits_for_the_old_one_to_go(bed: Bed) -> None:
    await bed.start_operator()
    again = pool(bed, "media", "wait", replicas=1)
    await bed.apply(again)
    await bed.until("WorkerPool", "media", lambda item: item["status"].get("desiredReplicas") == 1)
    first = await deployment(bed, "media")
    await bed.kubectl("delete", "workerpool", "media", "-n", bed.namespace)
    await bed.apply(again)
    body = await bed.until("WorkerPool", "media", lambda item: item["status"].get("desiredReplicas") == 1)
    await eventually(
        lambda: deployment(bed, "media"),
        lambda item: item["metadata"]["ownerReferences"][0]["uid"] == body["metadata"]["uid"],
    )
    assert (await deployment(bed, "media"))["metadata"]["uid"] != first["metadata"]["uid"]
    events = await bed.kubectl("get", "events", "-n", bed.namespace)
    assert "NameTaken" not in events


async def test_an_outage_of_conductor_shrinks_no_pool(bed: Bed) -> None:
    await bed.start_process_node()
    async with OutageProxy(bed.server.url) as proxy:
        await bed.start_operator(conductor_url=proxy.url, worker_conductor_url=bed.server.url)
        scaling = {
            **QUICK,
            "minReplicas": 0,
            "cooldownPeriod": "1s",
            "scaleDown": {"stabilizationWindow": "1s"},
        }
        await bed.apply(sleeping("nap", 3), pool(bed, "sleepers", "wait", concurrency=1, scaling=scaling))
        await bed.until_ready("nap")
        await bed.apply(*(workflow_run(f"nap-{number}", "nap") for number in range(3)))
        await bed.until("WorkerPool", "sleepers", lambda item: item["status"].get("replicas", 0) >= 3)
        await proxy.go("refuse")
        body = await bed.until(
            "WorkerPool",
            "sleepers",
            lambda item: condition(item, "Ready").get("reason") == "ConductorUnavailable",
        )
        pods = body["status"]["replicas"]
        # All three are done, and ten times what would be calm and cooldown is over.
        await eventually(
            lambda: bed.get("WorkerPool", "sleepers"), lambda item: item["status"].get("busy") == 0, within=40
        )
        found = await deployment(bed, "sleepers")
        assert found["spec"]["replicas"] == pods
        await proxy.go("pass")
        await bed.until("WorkerPool", "sleepers", lambda item: item["status"]["replicas"] == 0, within=60)


async def test_kubectl_scale_sets_a_pool_without_scaling_and_is_refused_by_one_with(bed: Bed) -> None:
    await bed.start_process_node()
    await bed.start_operator()
    await bed.apply(pool(bed, "by-hand", "wait"), pool(bed, "by-queue", "echo", scaling=QUICK))
    await bed.until("WorkerPool", "by-hand", lambda item: item["status"].get("readyReplicas") == 1)
    await bed.kubectl("scale", "workerpool", "by-hand", "--replicas=2", "-n", bed.namespace)
    body = await bed.until("WorkerPool", "by-hand", lambda item: item["status"].get("readyReplicas") == 2)
    assert body["status"]["decisions"][0]["reason"] == "Manual"
    with pytest.raises(Exception, match="replicas cannot be set while scaling is"):
        await bed.kubectl("scale", "workerpool", "by-queue", "--replicas=2", "-n", bed.namespace)
    patch = '{"spec": {"suspend": true}}'
    await bed.kubectl("patch", "workerpool", "by-hand", "-n", bed.namespace, "--type=merge", "-p", patch)
    body = await bed.until("WorkerPool", "by-hand", lambda item: item["status"].get("replicas") == 0)
    assert condition(body, "Ready")["reason"] == "Suspended"


async def test_drift_of_the_deployment_is_healed(bed: Bed) -> None:
    await bed.start_operator()
    await bed.apply(pool(bed, "media", "wait", replicas=1))
    await bed.until("WorkerPool", "media", lambda item: item["status"].get("desiredReplicas") == 1)
    await bed.kubectl("scale", "deployment", "media", "--replicas=5", "-n", bed.namespace)
    await eventually(lambda: deployment(bed, "media"), lambda item: item["spec"]["replicas"] == 1)
    await bed.kubectl("set", "image", "deployment/media", "worker=other:1", "-n", bed.namespace)
    await eventually(
        lambda: deployment(bed, "media"),
        lambda item: item["spec"]["template"]["spec"]["containers"][0]["image"] == "podium-worker",
    )
    await bed.kubectl("delete", "deployment,pdb,sa", "media", "-n", bed.namespace)
    await eventually(
        lambda: bed.kubectl("get", "deploy,pdb,sa", "-n", bed.namespace),
        lambda told: told.count("/media") == 3,
    )


async def test_mistakes_are_told_in_the_status(bed: Bed) -> None:
    await bed.start_process_node()
    await bed.start_operator()
    foreign = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "taken"},
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": {"app": "x"}},
            "template": {
                "metadata": {"labels": {"app": "x"}},
                "spec": {"containers": [{"name": "x", "image": "x"}]},
            },
        },
    }
    bad = pool(bed, "bad-template", "transform", replicas=1)
    bad["spec"]["template"]["spec"]["volumes"] = [{"name": "Not A Name", "emptyDir": {}}]
    await bed.apply(foreign)
    await bed.apply(
        pool(bed, "taken", "caption", replicas=1),
        pool(bed, "no-image", "resize", replicas=1, image="missing/worker:1"),
        pool(bed, "no-function", "resise", replicas=1),
        bad,
        pool(bed, "first", "wait", replicas=0),
        sleeping("nap", 1),
    )
    await bed.until_ready("nap")
    await bed.until("WorkerPool", "first", lambda item: condition(item, "Ready").get("status") == "True")
    await bed.apply(pool(bed, "second", "wait", replicas=1))

    async def ready(name: str, reason: str) -> Json:
        body = await bed.until(
            "WorkerPool", name, lambda item: condition(item, "Ready").get("reason") == reason
        )
        return condition(body, "Ready")

    assert (
        "there is a Deployment taken here that is not this pool's"
        in (await ready("taken", "NameTaken"))["message"]
    )
    assert "missing/worker:1" in (await ready("no-image", "ImagePullFailed"))["message"]
    told = await ready("no-function", "CrashLooping")
    assert "no function for resise" in told["message"]
    body = await bed.until("WorkerPool", "no-function", lambda item: condition(item, "TaskTypesKnown"))
    assert "resise" in condition(body, "TaskTypesKnown")["message"]
    assert "volumes" in (await ready("bad-template", "InvalidTemplate"))["message"]
    assert "wait belongs to WorkerPool first" in (await ready("second", "TaskTypeTaken"))["message"]
    assert "second" not in await bed.kubectl("get", "deployments", "-n", bed.namespace)
    assert (await deployment(bed, "taken"))["spec"]["template"]["metadata"]["labels"] == {"app": "x"}


async def test_tasks_that_nobody_asks_for_are_told_on_the_pool_and_on_the_workflow(
    bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "STARVED_AFTER", timedelta(seconds=5))
    await bed.start_process_node()
    await bed.start_operator()
    # Its pod is well, and no worker: it asks Conductor for nothing.
    asleep = pool(bed, "asleep", "wait", runtime="Other", replicas=1)
    asleep["spec"]["template"]["spec"]["containers"][0]["command"] = ["sleep", "900"]
    await bed.apply(asleep, sleeping("nap", 1))
    await bed.until_ready("nap")
    await bed.until("WorkerPool", "asleep", lambda item: item["status"].get("readyReplicas") == 1)
    await bed.apply(workflow_run("r", "nap"))
    body = await bed.until(
        "WorkerPool", "asleep", lambda item: condition(item, "Ready").get("reason") == "Starved"
    )
    told = condition(body, "Ready")["message"]
    assert re.fullmatch(r"1 task of wait waits, the oldest for \d+s, and nobody ever asked for them", told)
    body = await bed.until(
        "Workflow", "nap", lambda item: condition(item, "WorkersAvailable").get("reason") == "PoolNotReady"
    )
    told = condition(body, "WorkersAvailable")["message"]
    assert told == "no worker polls wait: WorkerPool asleep is not ready (Starved)"
    for reason in ("Starved", "PoolNotReady"):
        await eventually(lambda: bed.events(reason), bool)  # noqa: B023 - awaited within this turn


async def test_a_quota_is_named_and_lifted_it_goes_on(bed: Bed) -> None:
    await bed.start_process_node()
    await bed.start_operator()
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "small"},
        "spec": {"hard": {"pods": "0"}},
    }
    await bed.apply(quota)
    # What the quota's controller would write: this control plane runs without it.
    status = '{"status": {"hard": {"pods": "0"}, "used": {"pods": "0"}}}'
    await bed.kubectl(
        "patch", "quota", "small", "-n", bed.namespace, "--subresource=status", "--type=merge", "-p", status
    )
    await bed.apply(pool(bed, "media", "wait", replicas=1))
    body = await bed.until(
        "WorkerPool", "media", lambda item: condition(item, "Limited").get("reason") == "QuotaExceeded"
    )
    assert "exceeded quota: small" in condition(body, "Ready")["message"]
    await bed.kubectl("delete", "resourcequota", "small", "-n", bed.namespace)
    await bed.until("WorkerPool", "media", lambda item: item["status"].get("readyReplicas") == 1, within=60)
