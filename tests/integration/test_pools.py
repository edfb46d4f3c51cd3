"""WorkerPools on a real API server, controller-manager and Conductor."""

from typing import Any

from support.bed import Bed, workflow, workflow_run

Json = dict[str, Any]


def pool(name: str, *types: str, **spec: Any) -> Json:
    """A WorkerPool whose image nobody pulls here."""
    return {
        "apiVersion": "podium.dev/v1alpha1",
        "kind": "WorkerPool",
        "metadata": {"name": name},
        "spec": {
            "taskTypes": list(types),
            "template": {"spec": {"containers": [{"name": "worker", "image": "podium-worker:test"}]}},
            **spec,
        },
    }


async def test_a_backlog_scales_the_deployment_and_says_why(bed: Bed) -> None:
    await bed.start_operator()
    await bed.apply(workflow("video", "resize"), pool("media", "resize", scaling={"maxReplicas": 4}))
    body = await bed.until("WorkerPool", "media", lambda item: "selector" in item.get("status", {}))
    assert body["status"].get("desiredReplicas", 0) == 0
    await bed.apply(*(workflow_run(f"video-{number}", "video") for number in range(8)))
    body = await bed.until("WorkerPool", "media", lambda item: item["status"].get("desiredReplicas") == 2)
    print(body["status"])
