"""The operator with many objects: memory, time to work after a restart, and what it asks at rest.

Kubernetes is real. Conductor is a stand-in (tests/support/stand_in.py): here only its volume matters.
"""

import asyncio
import json
import os
import time

import pytest

from podium.ports import Json
from support.bed import Bed, workflow, workflow_run
from support.eventually import eventually
from support.operator_process import cpu_seconds, create, metric, resident, works
from support.stand_in import StandIn

pytestmark = [pytest.mark.bench, pytest.mark.timeout(3600)]

RUNS = int(os.environ.get("PODIUM_BENCH_VOLUME", "10000"))
ACTIVE = RUNS // 10
WORKFLOWS = RUNS // 20
REST_SECONDS = 60.0


async def count(bed: Bed, *phases: str) -> int:
    bodies = await bed.cluster.list("WorkflowRun", bed.namespace)
    return sum((body.get("status") or {}).get("phase") in phases for body in bodies)


async def test_volume(bed: Bed) -> None:
    async with StandIn() as conductor:
        bed.server = conductor  # type: ignore[assignment]
        process = bed.start_operator_process()
        try:
            await eventually(lambda: works(bed), bool, within=60)
            await create(bed, [workflow(f"w{number}", "idle") for number in range(WORKFLOWS)])
            began = time.monotonic()
            runs = [
                workflow_run(f"r{number}", f"w{number % WORKFLOWS}", input={"active": number < ACTIVE})
                for number in range(RUNS)
            ]
            await create(bed, runs)
            # Listing ten thousand objects takes this process seconds, in which the stand-in answers nobody.
            await eventually(lambda: _length(conductor), lambda n: n == RUNS, within=1800, every=0.5)
            await eventually(
                lambda: metric(bed, "podium_active_runs"), lambda n: n == ACTIVE, within=600, every=1.0
            )
            assert await count(bed, "Running", "Succeeded") == RUNS
            filled = time.monotonic() - began
            first = resident(process)
            process.terminate()
            await asyncio.to_thread(process.wait, 30)
            asked = conductor.requests.total()
            began = time.monotonic()
            process = bed.start_operator_process()
            await eventually(lambda: works(bed), bool, within=300)
            ready = time.monotonic() - began

            async def busy() -> float:
                return await metric(bed, "podium_due_keys")

            await eventually(busy, lambda n: n == 0, within=300, every=0.2)
            settled = time.monotonic() - began
            restart_requests = conductor.requests.total() - asked
            await asyncio.sleep(10.0)
            before, written = conductor.requests.copy(), await metric(bed, "podium_status_writes")
            cpu = cpu_seconds(process)
            await asyncio.sleep(REST_SECONDS)
            cpu = cpu_seconds(process) - cpu
            asked_at_rest = conductor.requests - before
            figures = {
                "runs": RUNS,
                "active": ACTIVE,
                "workflows": WORKFLOWS,
                "conductor": "a stand-in",
                "filled_seconds": round(filled, 1),
                "resident_mib_after_filling": first,
                "restart": {
                    "ready_seconds": round(ready, 1),
                    "all_looked_at_seconds": round(settled, 1),
                    "requests_to_conductor": restart_requests,
                },
                "resident_mib_at_rest": resident(process),
                "at_rest_per_minute": {
                    "requests_to_conductor": round(asked_at_rest.total() * 60 / REST_SECONDS, 1),
                    "by_path": dict(asked_at_rest),
                    "writes_to_the_api_server": await metric(bed, "podium_status_writes") - written,
                    "cpu_seconds": round(cpu * 60 / REST_SECONDS, 2),
                },
            }
        finally:
            process.kill()
            await asyncio.to_thread(process.wait, 30)
    print(json.dumps(figures, indent=2))
    rest = figures["at_rest_per_minute"]
    assert isinstance(rest, dict)
    print(
        f"volume: {RUNS} runs ({ACTIVE} active), {WORKFLOWS} workflows, Conductor a stand-in: "
        f"{resident_words(figures)} (goal 300), ready {ready:.1f} s and all looked at {settled:.1f} s "
        f"after a restart (goal 60), at rest {rest['requests_to_conductor']} requests a minute (goal 60), "
        f"{rest['writes_to_the_api_server']:.0f} writes (goal 0)"
    )


async def _length(conductor: StandIn) -> int:
    return conductor.started


def resident_words(figures: Json) -> str:
    memory = figures["resident_mib_at_rest"]
    return f"{memory['now']} MiB resident, {memory['peak']} at most"
