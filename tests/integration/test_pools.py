"""WorkerPools on the real servers; their pods run as processes on the stand-in node."""

import json
import time
from typing import Any

import pytest

from support.bed import Bed, condition, workflow, workflow_run
from support.eventually import eventually

Json = dict[str, Any]
pytestmark = pytest.mark.slow


def pool(bed: Bed, name: str, *types: str, **spec: Any) -> Json:
    """A WorkerPool of podium-worker."""
    container: Json = {
        "name": "worker",
        "image": spec.pop("image", "podium-worker"),
        "command": ["podium-worker"],
        "env": [{"name": "CONDUCTOR_SERVER_URL", "value": bed.server.url}, *spec.pop("env", [])],
    }
    return {
        "apiVersion": "podium.dev/v1alpha1",
        "kind": "WorkerPool",
        "metadata": {"name": name},
        "spec": {"taskTypes": list(types), "template": {"spec": {"containers": [container]}}, **spec},
    }


QUICK = {"maxReplicas": 4, "cooldownPeriod": "4s", "scaleDown": {"stabilizationWindow": "2s"}}


def sleeping(name: str, seconds: float) -> Json:
    """A Workflow of one task that takes so long."""
    nodes = [{"id": "nap", "type": "wait", "config": {"seconds": seconds}}]
    return {
        "apiVersion": "podium.dev/v1alpha1",
        "kind": "Workflow",
        "metadata": {"name": name},
        "spec": {"flow": {"nodes": nodes}},
    }


async def deployment(bed: Bed, name: str) -> Json:
    found: Json = json.loads(
        await bed.kubectl("get", "deployment", name, "-n", bed.namespace, "-o", "json")
    )
    return found


async def test_a_pool_goes_from_zero_to_what_a_burst_needs_and_back_to_zero(bed: Bed) -> None:
    await bed.start_process_node()
    await bed.start_operator()
    await bed.apply(sleeping("nap", 2), pool(bed, "sleepers", "wait", concurrency=2, scaling=QUICK))
    await bed.until_ready("nap")
    body = await bed.until("WorkerPool", "sleepers", lambda item: condition(item, "Ready").get("status") == "True")
    assert body["status"]["replicas"] == 0
    await bed.until("Workflow", "nap", lambda item: condition(item, "WorkersAvailable").get("reason") == "Pooled")
    await bed.apply(*(workflow_run(f"nap-{number}", "nap") for number in range(6)))
    await bed.until("WorkerPool", "sleepers", lambda item: item["status"].get("desiredReplicas") == 4)
    for number in range(6):
        run = await bed.until_phase(f"nap-{number}", "Succeeded", within=60)
        assert [task["attempts"] for task in run["status"]["tasks"]] == [1], "no task was lost"
    body = await bed.until("WorkerPool", "sleepers", lambda item: item["status"]["replicas"] == 0, within=60)
    told = [(item["reason"], item["to"]) for item in reversed(body["status"]["decisions"])]
    assert told[0][0] in ("NeededSoon", "Backlog")
    assert told[-1] == ("Idle", 0)
    print(told)
