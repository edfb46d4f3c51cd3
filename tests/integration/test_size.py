"""A run of thousands of tasks: its status stays small, and it keeps nobody else waiting."""

import asyncio
import json

import pytest

from podium.ports import Json
from support.bed import Bed, workflow, workflow_run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

TASKS = 3_000


def many(count: int) -> Json:
    """A fork of so many tasks, all at once."""
    branches = [
        [{"name": "crowd", "taskReferenceName": f"t{number}", "type": "SIMPLE", "inputParameters": {}}]
        for number in range(count)
    ]
    return {
        "tasks": [
            {"name": "f", "taskReferenceName": "f", "type": "FORK_JOIN", "forkTasks": branches},
            {"name": "j", "taskReferenceName": "j", "type": "JOIN", "joinOn": ["t0"]},
        ]
    }


async def test_three_thousand_tasks_in_eight_kilobytes_and_others_go_on(bed: Bed) -> None:
    await bed.start_operator()
    await bed.start_worker("crowd")
    await bed.start_worker("a")
    big = workflow("big", definition=many(TASKS))
    # Client-side apply would put the manifest into an annotation, which has less room.
    await bed.cluster.create({**big, "metadata": {"name": "big", "namespace": bed.namespace}})
    await bed.apply(workflow("small", "a"))
    await bed.until_ready("big")
    await bed.apply(workflow_run("b", "big"))
    await bed.until_phase("b", "Running", within=90)
    loop, longest, waits = asyncio.get_running_loop(), 0.0, []

    async def watch_the_loop() -> None:
        nonlocal longest
        while True:
            before = loop.time()
            await asyncio.sleep(0.02)
            longest = max(longest, loop.time() - before - 0.02)

    watching = asyncio.create_task(watch_the_loop())
    for number in range(5):
        began = loop.time()
        await bed.apply(workflow_run(f"s{number}", "small"))
        await bed.until_phase(f"s{number}", "Succeeded", within=60)
        waits.append(round(loop.time() - began, 2))
    body = await bed.until("WorkflowRun", "b", lambda body: body["status"]["counts"]["completed"] > 20)
    watching.cancel()
    print(f"small runs beside it took {waits} s; the operator's loop stood still for {longest:.2f} s at most")
    status = body["status"]
    assert len(json.dumps(status)) <= 8192
    assert sum(status["counts"].values()) >= TASKS
    assert len(status["tasks"]) <= 16
    await bed.kubectl("delete", "workflowrun", "b", "-n", bed.namespace, "--timeout=90s")
