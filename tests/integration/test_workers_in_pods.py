"""Podium's worker in a pod, on the stand-in node: it takes tasks, and drains when its pod is deleted."""

import asyncio

import pytest

from podium.local.processes import is_alive
from support.bed import Bed, workflow, workflow_run

pytestmark = pytest.mark.slow


async def test_a_worker_in_a_pod_does_the_tasks_and_drains(bed: Bed) -> None:
    node = await bed.start_process_node()
    await bed.start_operator()
    container = {
        "name": "worker",
        "image": "podium",
        "args": ["--namespaces", "$(NAMESPACE)", "--listen", "0.0.0.0:8080", "--data-dir", "/data"],
        "env": [
            {"name": "NAMESPACE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}},
            {"name": "CONDUCTOR_SERVER_URL", "value": bed.server.url},
        ],
        "readinessProbe": {"httpGet": {"path": "/readyz", "port": 8080}, "periodSeconds": 1},
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
    }
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "worker", "labels": {"podium.dev/pool": "media"}},
        "spec": {"containers": [container], "volumes": [{"name": "data", "emptyDir": {}}]},
    }
    await bed.apply(pod, workflow("said", "echo"), workflow_run("said-1", "said", input={"a": 1}))
    await bed.kubectl("wait", "pod/worker", "-n", bed.namespace, "--for=condition=Ready", "--timeout=30s")
    await bed.until_phase("said-1", "Succeeded")
    process = node.identify(bed.namespace, "worker")
    assert process is not None
    began = asyncio.get_running_loop().time()
    await bed.kubectl("delete", "pod", "worker", "-n", bed.namespace)
    assert asyncio.get_running_loop().time() - began < 15, (
        "it ended by itself, before its grace period of 30 s"
    )
    assert not is_alive(process)
