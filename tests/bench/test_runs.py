"""Runs through the operator, beside a plain client that starts and follows the same runs itself."""

import asyncio
import json
import os
import time
from statistics import quantiles
from typing import Any

import aiohttp
import pytest

from podium.ports import Json, StartRequest
from support.bed import Bed, workflow, workflow_run
from support.machine import machine

pytestmark = [pytest.mark.bench, pytest.mark.timeout(1800)]

RUNS = int(os.environ.get("PODIUM_BENCH_RUNS", "500"))
AT_ONCE = 16
OFFERED_PER_SECOND = 5.0
PACED = f"{OFFERED_PER_SECOND:g} a second, tasks of 1 s"
OFFERED = int(os.environ.get("PODIUM_BENCH_OFFERED", "150"))


def percentiles(values: list[float]) -> dict[str, float]:
    """p50 and p95, rounded to milliseconds."""
    cuts = quantiles(values, n=100, method="inclusive")
    return {"p50": round(cuts[49], 3), "p95": round(cuts[94], 3)}


async def follow(bed: Bed, ids: list[str], within: float = 1200.0) -> dict[str, Json]:
    """What a plain client does: reads all its open runs in bulk until all have ended."""
    views: dict[str, Any] = {}
    deadline = time.monotonic() + within
    while len(views) < len(ids):
        assert time.monotonic() < deadline
        left = [workflow_id for workflow_id in ids if workflow_id not in views]
        for part in (left[index : index + 50] for index in range(0, len(left), 50)):
            found = await bed.conductor.get_runs(part)
            views |= {run.workflow_id: run for run in found.values() if run is not None and run.end_ms}
        await asyncio.sleep(0.1)
    return views


async def by_client(bed: Bed, name: str, count: int, pace: float | None) -> tuple[float, list[float]]:
    """Wall seconds, and each run's own from the moment it was offered to its end."""
    turns = asyncio.Semaphore(AT_ONCE)

    async def start(number: int) -> tuple[str, float]:
        if pace:
            await asyncio.sleep(number / pace)
        offered = time.time()
        async with turns:
            request = StartRequest(
                f"{bed.namespace}.{name}", 1, f"client-{number}", {}, 0, {"*": bed.namespace}
            )
            return await bed.conductor.start(request), offered

    began = time.monotonic()
    started = await asyncio.gather(*(start(number) for number in range(count)))
    views = await follow(bed, [workflow_id for workflow_id, _ in started])
    wall = time.monotonic() - began
    return wall, [views[workflow_id].end_ms / 1000 - offered for workflow_id, offered in started]


async def by_operator(
    bed: Bed, name: str, prefix: str, count: int, pace: float | None
) -> tuple[float, list[float], list[float], float]:
    """Wall seconds; each run's seconds to its end in Conductor, and on to its status; writes a run."""
    turns = asyncio.Semaphore(AT_ONCE)
    offered: dict[str, float] = {}

    async def create(number: int) -> None:
        if pace:
            await asyncio.sleep(number / pace)
        key = f"{prefix}{number}"
        offered[key] = time.time()
        async with turns:
            await bed.cluster._objects.create_namespaced_custom_object(
                "podium.dev", "v1alpha1", bed.namespace, "workflowruns", workflow_run(key, name)
            )

    before = await status_writes(bed)
    began = time.monotonic()
    watching = asyncio.create_task(watch_ends(bed, prefix, count))
    await asyncio.gather(*(create(number) for number in range(count)))
    ends = await watching
    wall = time.monotonic() - began
    writes = (await status_writes(bed) - before) / count
    views = await follow(bed, [workflow_id for workflow_id, _ in ends.values()])
    in_conductor = {key: views[workflow_id].end_ms / 1000 for key, (workflow_id, _) in ends.items()}
    seconds = [in_conductor[key] - offered[key] for key in ends]
    return wall, seconds, [seen - in_conductor[key] for key, (_, seen) in ends.items()], writes


async def watch_ends(bed: Bed, prefix: str, count: int) -> dict[str, tuple[str, float]]:
    """Name → (Conductor's id, when a watcher saw the end in the status), for so many runs."""
    ends: dict[str, tuple[str, float]] = {}
    configuration = bed.cluster._configuration
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None)) as session:
        url = f"{configuration.host}/apis/podium.dev/v1alpha1/namespaces/{bed.namespace}/workflowruns"
        async with session.get(
            url,
            params={"watch": "true"},
            ssl=bed.cluster._api.rest_client.pool_manager.connector._ssl,
            read_bufsize=2**20,
        ) as answer:
            async for line in answer.content:
                body = json.loads(line)["object"]
                name, status = body["metadata"]["name"], body.get("status") or {}
                if name.startswith(prefix) and status.get("finishedAt") and name not in ends:
                    assert status["phase"] == "Succeeded"
                    ends[name] = (status["conductor"]["workflowId"], time.time())
                    if len(ends) == count:
                        break
    return ends


async def status_writes(bed: Bed) -> float:
    """Writes to WorkflowRuns, as the API server itself counts them."""
    text = await bed.kubectl("get", "--raw", "/metrics")
    total = 0.0
    for line in text.splitlines():
        if (
            line.startswith("apiserver_request_total{")
            and 'resource="workflowruns"' in line
            and ('verb="APPLY"' in line or 'verb="PATCH"' in line or 'verb="PUT"' in line)
        ):
            total += float(line.rsplit(" ", 1)[1])
    return total


async def test_runs(bed: Bed) -> None:
    """500 at once, and 5 a second with tasks of one second: the operator beside a plain client."""
    process = bed.start_operator_process()
    try:
        await measure(bed)
    finally:
        process.terminate()
        await asyncio.to_thread(process.wait, 20)


async def measure(bed: Bed) -> None:
    """Print the figures, as a table in JSON and one line at the end."""
    types = [f"{bed.namespace}-{letter}" for letter in "abc"]
    worker = await bed.start_worker(*types)
    await bed.apply(workflow("three", *types))
    await bed.until_ready("three")
    await by_client(bed, "three", 20, None)  # warm up
    client_wall, _ = await by_client(bed, "three", RUNS, None)
    operator_wall, _, _, writes_burst = await by_operator(bed, "three", "burst-", RUNS, None)

    worker.seconds = 1.0
    _, client_seconds = await by_client(bed, "three", OFFERED, OFFERED_PER_SECOND)
    _, seconds, delays, writes = await by_operator(bed, "three", "paced-", OFFERED, OFFERED_PER_SECOND)
    client, operator = percentiles(client_seconds), percentiles(seconds)
    result: Json = {
        "machine": machine(),
        "runs": RUNS,
        "all at once": {
            "client wall s": round(client_wall, 1),
            "operator wall s": round(operator_wall, 1),
            "ratio": round(operator_wall / client_wall, 2),
            "writes per run": round(writes_burst, 2),
        },
        PACED: {
            "client end-to-end s": client,
            "operator end-to-end s": operator,
            "ratio of p50 (goal 1.1)": round(operator["p50"] / client["p50"], 3),
            "added start latency p50 ms (goal 100)": round((operator["p50"] - client["p50"]) * 1000),
            "writes per run (goal 6)": round(writes, 2),
            "end in Conductor to status s (goal p95 1.0)": percentiles(delays),
        },
    }
    print("\n" + json.dumps(result, indent=2))
    paced = result[PACED]
    print(
        f"runs: all at once {result['all at once']['ratio']}x the client's wall time; "
        f"paced {paced['ratio of p50 (goal 1.1)']}x, +{paced['added start latency p50 ms (goal 100)']} ms, "
        f"{paced['writes per run (goal 6)']} writes a run, "
        f"status p95 {paced['end in Conductor to status s (goal p95 1.0)']['p95']} s after the end"
    )
