"""WorkerPools on the node: real pods are scaled, deleted, replaced and evicted, and no task is lost."""

import asyncio
import itertools
import json
import os
import random
from typing import Any

import aiohttp
import pytest

from podium.ports import Json
from support.bed import Bed, condition, workflow_run
from support.eventually import eventually
from support.pools import all_done_once, pool, sleeping, watch_pools
from support.scale_downs import STOPPED_EARLY, restrict, shrink_at_random

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
LONG = bool(os.environ.get("PODIUM_LONG"))
SCALING = {"maxReplicas": 4, "cooldownPeriod": "4s", "scaleDown": {"stabilizationWindow": "2s"}}


async def by_the_books(bed: Bed, names: list[str], within: float = 90) -> None:
    """All runs have succeeded, and each task was given out once, also as Conductor tells it."""
    ids = []
    for name in names:
        body = await bed.until_phase(name, "Succeeded", "Failed", "TimedOut", within=within)
        status = body["status"]
        assert status["phase"] == "Succeeded", status.get("message")
        assert [task["attempts"] for task in status["tasks"]] == [1] * len(status["tasks"])
        ids.append(status["conductor"]["workflowId"])
    async with aiohttp.ClientSession() as session:
        await all_done_once(session, bed.server.url, ids, within=5)


async def test_a_burst_takes_a_pool_of_real_pods_from_zero_to_n_and_back(
    bed_on_node: Bed, worker_image: str
) -> None:
    bed = bed_on_node
    await restrict(bed)
    await bed.start_operator()
    sleepers = pool(bed, "sleepers", "wait", image=worker_image, concurrency=2, scaling=SCALING)
    await bed.apply(sleeping("nap", 3), sleepers)
    await bed.until_ready("nap")
    await bed.until("WorkerPool", "sleepers", lambda item: condition(item, "Ready").get("status") == "True")
    async with watch_pools(bed) as watch:
        names = [f"nap-{number}" for number in range(12)]
        await bed.apply(*(workflow_run(name, "nap") for name in names))
        await bed.until("WorkerPool", "sleepers", lambda item: item["status"].get("readyReplicas") == 4)
        await by_the_books(bed, names)
        body = await bed.until(
            "WorkerPool", "sleepers", lambda item: item["status"]["replicas"] == 0, within=60
        )
        told = [(item["reason"], item["to"]) for item in reversed(body["status"]["decisions"])]
        assert told[0][0] in ("NeededSoon", "Backlog")
        assert told[-1] == ("Idle", 0)
        await eventually(lambda: bed.kubectl("get", "pods", "-n", bed.namespace), lambda told: not told)
    assert max(change.after for change in watch.changes) == 4
    assert set(watch.exits.values()) == {0}, "each pod ended by itself"


async def test_a_pod_that_is_told_to_stop_while_it_starts_is_gone_soon(
    bed_on_node: Bed, worker_image: str
) -> None:
    """A signal for which there is no handler yet is dropped: the pod would take tasks until it is killed."""
    bed = bed_on_node
    await bed.start_operator()
    hasty = pool(bed, "hasty", "wait", image=worker_image, replicas=0)
    # A program of a user's own that imports something large first.
    heavy = pool(bed, "heavy", "echo", image=worker_image, replicas=0)
    program = "import time; time.sleep(1); from podium_workers.runtime.main import main; main()"
    heavy["spec"]["template"]["spec"]["containers"][0]["command"] = ["python3", "-c", program]
    await bed.apply(hasty, heavy)

    async def containers() -> list[Json]:
        pods = json.loads(await bed.kubectl("get", "pods", "-n", bed.namespace, "-o", "json"))["items"]
        states = [state for pod in pods for state in pod["status"].get("containerStatuses", ())]
        return [state for state in states if "running" in state["state"]]

    async def scale(size: int) -> None:
        names = ("workerpool/hasty", "workerpool/heavy")
        await bed.kubectl("scale", *names, f"--replicas={size}", "-n", bed.namespace)

    async with watch_pools(bed) as watch:
        for least in (1, 3, 5):
            await scale(3)
            await eventually(containers, lambda running, least=least: len(running) >= least)
            await scale(0)
            await eventually(
                lambda: bed.kubectl("get", "pods", "-n", bed.namespace), lambda told: not told, within=20
            )
    assert len(watch.drains) == 18
    assert set(watch.exits.values()) <= {0, STOPPED_EARLY}


async def busy_pod(bed: Bed, left: set[str]) -> str:
    """A pod that has tasks just now, as the runs say, and is not one of those that were told to stop."""

    async def look() -> str:
        runs = json.loads(await bed.kubectl("get", "workflowruns", "-n", bed.namespace, "-o", "json"))
        tasks = [task for run in runs["items"] for task in run["status"].get("tasks", ())]
        at_work = (task.get("worker", "") for task in tasks if task["status"] == "Running")
        return next((name for name in at_work if name and name not in left), "")

    return await eventually(look, bool, within=60)


class Load:
    """Runs of one task of 1 to 8 seconds, always about as many as the pool can work on."""

    def __init__(self, bed: Bed, dice: random.Random) -> None:
        self._bed = bed
        self._dice = dice
        self._numbers = itertools.count()
        self.enough = False
        self.names: list[str] = []

    async def keep_up(self) -> None:
        """Until it is enough; then until all have ended."""
        while not self.enough:
            batch = [f"nap-{next(self._numbers)}" for _ in range(4)]
            self.names += batch
            await self._bed.apply(
                *(
                    workflow_run(name, "nap", input={"seconds": round(self._dice.uniform(1, 8), 2)})
                    for name in batch
                )
            )
            for name in batch[:2]:
                await self._bed.until_phase(name, "Succeeded", "Failed", "TimedOut", within=90)


async def test_a_deletion_a_rolling_update_and_a_drained_node_lose_no_task(
    bed_on_node: Bed, worker_image: str
) -> None:
    bed = bed_on_node
    await restrict(bed)
    await bed.start_operator()
    scaling = {**SCALING, "minReplicas": 2, "idleReplicas": 2, "maxReplicas": 3}
    sleepers = pool(bed, "sleepers", "wait", image=worker_image, concurrency=2, scaling=scaling)
    defaults = {"responseTimeout": "5s", "timeout": "10m"}
    await bed.apply(sleeping("nap", "${workflow.input.seconds}", taskDefaults=defaults), sleepers)
    await bed.until_ready("nap")
    await bed.until("WorkerPool", "sleepers", lambda item: item["status"].get("readyReplicas") == 2)
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    load = Load(bed, random.Random(seed))
    async with watch_pools(bed) as watch, asyncio.TaskGroup() as tasks:
        tasks.create_task(load.keep_up())

        # A person deletes a pod that works.
        deleted = await busy_pod(bed, set())
        await bed.kubectl("delete", "pod", deleted, "-n", bed.namespace, "--wait=false")
        await eventually(lambda: drained(watch.drains), lambda gone: deleted in gone, within=60)

        # All pods are replaced by such of another template.
        before = set(json_names(await bed.kubectl("get", "pods", "-n", bed.namespace, "-o", "json")))
        await bed.kubectl(
            *("patch", "workerpool", "sleepers", "-n", bed.namespace, "--type=merge"),
            *("-p", json.dumps({"spec": {"template": {"metadata": {"labels": {"wave": "second"}}}}})),
        )
        await eventually(lambda: drained(watch.drains), lambda gone: before <= gone, within=120)

        # The node is drained; as there is no other, it is open again once the first pod was evicted.
        stay = set(watch.told)
        evicted = await busy_pod(bed, stay)
        node = await bed.kubectl("get", "nodes", "-o", "jsonpath={.items[0].metadata.name}")
        options = ("--pod-selector=podium.dev/pool=sleepers", "--delete-emptydir-data", "--timeout=150s")
        draining = asyncio.create_task(bed.kubectl("drain", node, *options))
        try:
            await eventually(lambda: drained(watch.told), lambda told: bool(told - stay), within=30)
        finally:
            await bed.kubectl("uncordon", node)
        await draining
        assert evicted in watch.drains
        load.enough = True
    await by_the_books(bed, load.names)
    print(f"{len(load.names)} tasks, {len(watch.drains)} pods told to stop")
    assert len(watch.drains) >= 5
    assert set(watch.exits.values()) <= {0, STOPPED_EARLY}, watch


async def drained(pods: dict[str, Any]) -> set[str]:
    """Their names."""
    return set(pods)


def json_names(told: str) -> list[str]:
    """The names of the objects of a list."""
    items: list[Json] = json.loads(told)["items"]
    return [item["metadata"]["name"] for item in items]


@pytest.mark.skipif(not LONG, reason="three minutes of scale-downs: make e2e, or make bench BENCH=drain")
async def test_scale_downs_at_random_moments_lose_no_task(bed_on_node: Bed, worker_image: str) -> None:
    """Several pools at once; 200 of them, with tasks up to a minute: `make bench BENCH=drain`."""
    await shrink_at_random(bed_on_node, worker_image, wanted=15, longest=10, within=180)
