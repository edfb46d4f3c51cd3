"""WorkerPools: how soon they grow, what they cost at rest, and whether a steady load leaves them alone."""

import asyncio
import contextlib
import itertools
import json
import os
import random
import subprocess
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from statistics import quantiles

import aiohttp
import pytest

from podium.ports import Json
from support.bed import Bed, condition
from support.eventually import eventually
from support.keda import VERSION as KEDA_VERSION
from support.keda import keda, scaled
from support.machine import machine
from support.pools import PoolWatch, pool, watch_pools
from support.relay import Relay

pytestmark = [pytest.mark.bench, pytest.mark.timeout(3600)]

SAMPLES = int(os.environ.get("PODIUM_BENCH_POOL_SAMPLES", "25"))
KEDA = bool(os.environ.get("PODIUM_BENCH_KEDA"))
STEADY = float(os.environ.get("PODIUM_BENCH_STEADY", "0"))
# The default stabilization window, and what it takes to shrink.
SETTLING = 360.0
REST_SECONDS = 60.0
POOLS_AT_REST = [int(count) for count in os.environ.get("PODIUM_BENCH_POOLS", "0,1,50,500").split(",")]
# Only what is written for pools; leases and the controllers' own business are not.
WRITTEN = ("workerpools", "deployments", "poddisruptionbudgets", "serviceaccounts", "pods", "events")
MODULE = "naps"


def types_of(prefix: str, count: int = SAMPLES) -> list[str]:
    """A task type for each pool."""
    return [f"{prefix}{number}" for number in range(count)]


class Client:
    """Starts one-task runs by Conductor's own API, in the bed's domain: the operator is told nothing."""

    def __init__(self, bed: Bed, session: aiohttp.ClientSession) -> None:
        self._bed = bed
        self._session = session

    async def call(self, method: str, path: str, body: object = None) -> Json | str:
        async with self._session.request(method, f"{self._bed.server.url}{path}", json=body) as answer:
            text = await answer.text()
            assert answer.status < 300, f"{method} {path}: {answer.status} {text}"
            found: Json | str = json.loads(text) if "json" in answer.content_type else text
            return found

    async def define(self, types: Iterable[str]) -> None:
        """A workflow for each task type, of its name."""
        names = list(types)
        task = {"ownerEmail": "a@example.com", "timeoutSeconds": 0, "responseTimeoutSeconds": 60}
        await self.call("POST", "/metadata/taskdefs", [{"name": name, **task} for name in names])
        await self.call("PUT", "/metadata/workflow", [self._workflow(name) for name in names])

    def _workflow(self, name: str) -> Json:
        seconds = {"seconds": "${workflow.input.seconds}"}
        return {
            "name": name,
            "version": 1,
            "schemaVersion": 2,
            "ownerEmail": "a@example.com",
            "timeoutSeconds": 3600,
            "timeoutPolicy": "ALERT_ONLY",
            "tasks": [
                {"name": name, "taskReferenceName": "nap", "type": "SIMPLE", "inputParameters": seconds}
            ],
        }

    async def start(self, name: str, seconds: float = 0.1) -> str:
        """Its id."""
        body = {
            "name": name,
            "version": 1,
            "input": {"seconds": seconds},
            "taskToDomain": {"*": self._bed.namespace},
        }
        return str(await self.call("POST", "/workflow", body))

    async def task(self, workflow_id: str) -> Json:
        """The run's only one."""
        run = await self.call("GET", f"/workflow/{workflow_id}")
        assert isinstance(run, dict)
        task: Json = run["tasks"][0]
        return task


@contextlib.asynccontextmanager
async def client_of(bed: Bed) -> AsyncIterator[Client]:
    """For a block."""
    async with aiohttp.ClientSession() as session:
        yield Client(bed, session)


@contextlib.asynccontextmanager
async def operating(bed: Bed, **more: str) -> AsyncIterator["subprocess.Popen[bytes]"]:
    """The operator as users run it: a process of its own, with its defaults."""
    process = bed.start_operator_process(**more)
    try:
        yield process
    finally:
        process.terminate()
        await asyncio.to_thread(process.wait, 20)


async def all_ready(bed: Bed, count: int) -> None:
    """All pools of the namespace are in order."""

    async def look() -> list[Json]:
        told = await bed.kubectl("get", "workerpools", "-n", bed.namespace, "-o", "json")
        items: list[Json] = json.loads(told)["items"]
        return [item for item in items if condition(item, "Ready").get("status") == "True"]

    await eventually(look, lambda found: len(found) == count, within=300, every=2)


def shares(values: list[float]) -> Json:
    """p50 and p95 in seconds, and of how many."""
    cuts = quantiles(values, n=100, method="inclusive")
    return {
        "p50": round(cuts[49], 2),
        "p95": round(cuts[94], 2),
        "max": round(max(values), 2),
        "samples": len(values),
    }


async def changed(watch: PoolWatch, name: str, least: int, within: float = 30.0) -> float:
    """When its Deployment was first seen to have so many replicas."""

    async def look() -> list[float]:
        return [item.at for item in watch.changes if item.pool == name and item.after >= least]

    return (await eventually(look, bool, within=within, every=0.01))[0]


# --- how soon ---------------------------------------------------------------------------------------


async def test_pool_reaction(bed: Bed) -> None:
    """From a backlog that appears in Conductor to the Deployment's change, 0→1 and 1→N; no pod runs here."""
    dice = random.Random(5)
    types = types_of(f"{bed.namespace}-r")
    async with client_of(bed) as client, operating(bed), watch_pools(bed) as watch:
        await client.define(types)
        names = [f"p{number}" for number in range(SAMPLES)]
        await bed.apply(*(pool(bed, name, kind, scaling={}) for name, kind in zip(names, types, strict=True)))
        await all_ready(bed, SAMPLES)
        first: list[float] = []
        for name, kind in zip(names, types, strict=True):
            await asyncio.sleep(dice.uniform(0, 2))  # anywhere in the interval between two looks
            began = time.time()
            await client.start(kind)
            first.append(await changed(watch, name, 1) - began)
        more: list[float] = []
        whole: list[float] = []
        for name, kind in zip(names, types, strict=True):
            await asyncio.sleep(dice.uniform(0, 2))
            began = time.time()
            await asyncio.gather(*(client.start(kind) for _ in range(23)))
            more.append(await changed(watch, name, 2) - began)
            # 24 tasks at 5 a pod, 80 %
            whole.append(await changed(watch, name, 6) - began)
    result = {
        "machine": machine(),
        "a backlog appears → the Deployment has other replicas, s (goal p95 5)": {
            "0 → 1": shares(first),
            "1 → more": shares(more),
            "1 → 6, as the backlog wants": shares(whole),
        },
    }
    print("\n" + json.dumps(result, indent=2, ensure_ascii=False))
    worst = max(shares(first)["p95"], shares(whole)["p95"])
    print(f"pool: reaction p95 {worst} s (goal 5)")


@pytest.mark.skipif(not KEDA, reason="KEDA is compiled first, a quarter of an hour: PODIUM_BENCH_KEDA=1")
async def test_pool_beside_keda(bed: Bed, tmp_path: Path) -> None:
    """0 → 1, both with their defaults, for the same backlogs at the same moments."""
    dice = random.Random(13)
    types = types_of(f"{bed.namespace}-k")
    ours, theirs = ([f"{who}{number}" for number in range(SAMPLES)] for who in ("p", "k"))
    async with (
        client_of(bed) as client,
        operating(bed),
        keda(bed, tmp_path),
        watch_pools(bed) as watch,
    ):
        await client.define(types)
        for our, their, kind in zip(ours, theirs, types, strict=True):
            await bed.apply(pool(bed, our, kind, scaling={}), *scaled(bed, their, kind))
        await all_ready(bed, SAMPLES)
        await eventually(lambda: followed(bed), lambda names: len(names) == SAMPLES, within=120, every=1)

        async def one(our: str, their: str, kind: str) -> tuple[float, float]:
            await asyncio.sleep(dice.uniform(0, 60))
            began = time.time()
            await client.start(kind)
            quick = await changed(watch, our, 1)
            await eventually(lambda: sizes(bed), lambda found: found[their] > 0, within=120, every=0.5)
            return quick - began, time.time() - began

        turns = [one(*item) for item in zip(ours, theirs, types, strict=True)]
        both = await asyncio.gather(*turns)
    podium, other = shares([first for first, _ in both]), shares([second for _, second in both])
    result = {"a backlog appears → the Deployment has a replica, s": {"Podium": podium, "KEDA": other}}
    print("\n" + json.dumps({"machine": machine(), **result}, indent=2, ensure_ascii=False))
    print(f"pool: 0 → 1 p95 {podium['p95']} s, KEDA {KEDA_VERSION} {other['p95']} s beside it")


async def followed(bed: Bed) -> list[str]:
    """ScaledObjects that KEDA looks after."""
    items = json.loads(await bed.kubectl("get", "scaledobjects", "-n", bed.namespace, "-o", "json"))["items"]
    return [item["metadata"]["name"] for item in items if condition(item, "Ready").get("status") == "True"]


async def sizes(bed: Bed) -> dict[str, int]:
    """Deployment → its replicas."""
    items = json.loads(await bed.kubectl("get", "deployments", "-n", bed.namespace, "-o", "json"))["items"]
    return {item["metadata"]["name"]: item["spec"]["replicas"] for item in items}


async def first_tasks(bed: Bed, client: Client, image: str, env: list[Json]) -> Json:
    """A run comes for a pool that has no pods: when it has one, and when its task is begun."""
    dice = random.Random(7)
    types = types_of(f"{bed.namespace}-f")
    code = f"""
import asyncio
from podium_workers import task

@task(*{types!r})
async def nap(seconds: float) -> dict:
    await asyncio.sleep(seconds)
    return {{}}
"""
    module = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": MODULE},
        "data": {"naps.py": code},
    }
    # So that those that are measured do not live beside those that were.
    scaling = {"cooldownPeriod": "3s", "scaleDown": {"stabilizationWindow": "1s"}}
    names = [f"p{number}" for number in range(SAMPLES)]
    await client.define(types)
    await bed.apply(
        module,
        *(
            pool(bed, name, kind, image=image, functions=MODULE, env=env, scaling=scaling)
            for name, kind in zip(names, types, strict=True)
        ),
    )
    await all_ready(bed, SAMPLES)
    patched: list[float] = []
    begun: list[float] = []
    async with watch_pools(bed) as watch:
        for name, kind in zip(names, types, strict=True):
            await asyncio.sleep(dice.uniform(0, 2))
            began = time.time()
            run = await client.start(kind)
            patched.append(await changed(watch, name, 1))
            task = await eventually(
                lambda: client.task(run),  # noqa: B023 - awaited within this turn
                lambda seen: seen["status"] == "COMPLETED",
                within=60,
                every=0.2,
            )
            begun.append(task["startTime"] / 1000)
            patched[-1], begun[-1] = patched[-1] - began, begun[-1] - patched[-1]
    return {
        "a backlog appears → the Deployment's change, s": shares(patched),
        "from there → its first task is begun, s": shares(begun),
    }


async def test_pool_first_task_in_a_process(bed: Bed) -> None:
    """On the stand-in node, where a pod is a process."""
    await bed.start_process_node()
    path = {"name": "PYTHONPATH", "value": f"/app/:{os.environ.get('PYTHONPATH', '')}"}
    async with client_of(bed) as client, operating(bed):
        found = await first_tasks(bed, client, "podium-worker", [path])
    print("\n" + json.dumps({"machine": machine(), "stand-in node": found}, indent=2, ensure_ascii=False))


async def test_pool_first_task_in_a_pod(bed_on_node: Bed, worker_image: str) -> None:
    """On the node, where a pod is one."""
    async with client_of(bed_on_node) as client, operating(bed_on_node):
        found = await first_tasks(bed_on_node, client, worker_image, [])
    print("\n" + json.dumps({"machine": machine(), "node": found}, indent=2, ensure_ascii=False))


# --- at rest ----------------------------------------------------------------------------------------


async def test_pool_rest(bed: Bed) -> None:
    """What pools without work cost: requests to Conductor, writes to the API server, memory."""
    relay = Relay(bed.server.url)
    url = await relay.listen()
    found: Json = {}
    made = 0
    async with client_of(bed) as client, operating(bed, PODIUM_CONDUCTOR_URL=url) as process:
        types = types_of(f"{bed.namespace}-q", max(POOLS_AT_REST))
        await client.define(types)
        for count in POOLS_AT_REST:
            began = time.monotonic()
            if count > made:
                await bed.apply(
                    *(pool(bed, f"p{number}", types[number], scaling={}) for number in range(made, count))
                )
            await all_ready(bed, count)
            made, seconds = count, time.monotonic() - began
            await asyncio.sleep(20)  # until what was new is written and read
            seen, writes = len(relay.seen), await written(bed)
            await asyncio.sleep(REST_SECONDS)
            paths = Counter(relay.seen[seen:])
            found[f"{count} pools"] = {
                "requests to Conductor per minute": round(paths.total() * 60 / REST_SECONDS),
                "of them": dict(paths.most_common(6)),
                "writes to the API server per minute (goal 0)": dict(await written(bed) - writes),
                "operator RSS MB": round(resident(process.pid)),
                "until all were in order s": round(seconds, 1),
            }
    await relay.close()
    print("\n" + json.dumps({"machine": machine(), "at rest": found}, indent=2))
    print(
        "pool: "
        + ", ".join(f"{name} {one['requests to Conductor per minute']}/min" for name, one in found.items())
    )


async def written(bed: Bed) -> Counter[str]:
    """Kind of object → writes so far, as the API server itself counts them."""
    text = await bed.kubectl("get", "--raw", "/metrics")
    writes: Counter[str] = Counter()
    for line in text.splitlines():
        if not line.startswith("apiserver_request_total{"):
            continue
        if not any(f'verb="{verb}"' in line for verb in ("APPLY", "PATCH", "PUT", "POST", "DELETE")):
            continue
        for kind in WRITTEN:
            if f'resource="{kind}"' in line:
                writes[kind] += int(float(line.rsplit(" ", 1)[1]))
    return writes


def resident(pid: int) -> float:
    """Megabytes."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) / 1000


# --- a steady load ----------------------------------------------------------------------------------


@pytest.mark.skipif(not STEADY, reason="a steady load takes its time: PODIUM_BENCH_STEADY=1200")
async def test_pool_steady(bed: Bed) -> None:
    """Four tasks of 5 s a second, a fifth more or fewer from second to second: it must not turn round.

    What waits until the first pods run asks for more of them than the load does. Those go after the
    stabilization window; what is counted begins then.
    """
    dice = random.Random(11)
    await bed.start_process_node()
    kind = "wait"
    async with client_of(bed) as client, operating(bed), watch_pools(bed) as watch:
        await client.define([kind])
        await bed.apply(pool(bed, "steady", kind, concurrency=5, scaling={}))
        await all_ready(bed, 1)
        ids: list[str] = []
        began = time.monotonic()
        settled = None
        while time.monotonic() - began < SETTLING + STEADY:
            second = time.monotonic()
            if settled is None and second - began >= SETTLING:
                settled = len(watch.changes)
            count = round(4 * dice.uniform(0.8, 1.2) + dice.uniform(-0.5, 0.5))
            ids += await asyncio.gather(*(client.start(kind, 5.0) for _ in range(count)))
            await asyncio.sleep(max(0.0, 1.0 - (time.monotonic() - second)))
        steps = [(change.before, change.after) for change in watch.changes]
        for run in ids[-20:]:
            await eventually(
                lambda: client.task(run),  # noqa: B023 - awaited within this turn
                lambda seen: seen["status"] == "COMPLETED",
                within=60,
            )
    directions = [after > before for before, after in steps[settled:]]
    turns = sum(one != other for one, other in itertools.pairwise(directions))
    told = {"machine": machine(), "seconds": STEADY, "runs": len(ids)}
    print("\n" + json.dumps({**told, "settling": steps[:settled], "steps": steps[settled:]}))
    print(f"pool: {turns} changes of direction in {STEADY:g} s (goal 0)")
