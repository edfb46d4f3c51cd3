"""Exactly one run in Conductor per WorkflowRun: through crashes, cut answers and kill -9."""

import asyncio
import os
import random
import signal
import subprocess
import sys
from collections import Counter

import aiohttp
import pytest

from support.bed import Bed, Crashed, workflow, workflow_run
from support.cutting_proxy import CuttingProxy
from support.eventually import eventually

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

LONG = bool(os.environ.get("PODIUM_LONG"))


async def starts_per_run(bed: Bed, name: str) -> Counter[str]:
    """How many runs Conductor has for each correlation id that still count: not ended as duplicates."""
    rows = await bed.conductor._search("/workflow/search", f"workflowType={bed.namespace}.{name}")
    return Counter(row["correlationId"] for row in rows)


async def test_a_crash_at_any_effect_boundary_ends_with_one_run(bed: Bed) -> None:
    """The operator is crashed at every boundary that it passes, at random, a hundred times and more."""
    seed = random.randrange(2**32)
    dice = random.Random(seed)
    wanted, runs = (1000, 150) if LONG else (100, 40)
    crashes = 0
    points: Counter[str] = Counter()
    armed = True

    def crash(point: str) -> None:
        nonlocal crashes
        if armed and dice.random() < 0.1:
            crashes += 1
            points[point] += 1
            raise Crashed(point)

    await bed.start_worker("a")
    await bed.start_operator()
    await bed.apply(workflow("once", "a"))
    await bed.until_ready("once")
    await bed.stop_operator()
    made = 0
    while crashes < wanted:
        if not bed.is_operating:
            await bed.start_operator(crash=crash, unknown_start_wait=1.0, reconcilers=4)
        fresh = [workflow_run(f"r{made + n}", "once") for n in range(runs)]
        await bed.apply(*fresh)
        made += runs
        for _ in range(wanted):
            if crashes >= wanted:
                break
            done, _ = await asyncio.wait({asyncio.create_task(bed.crashed())}, timeout=6)
            if not done:
                break
            await bed.start_operator(crash=crash, unknown_start_wait=1.0, reconcilers=4)
    armed = False
    if not bed.is_operating:
        await bed.start_operator(unknown_start_wait=1.0)
    for n in range(made):
        await bed.until_phase(f"r{n}", "Succeeded", within=120)
    counts = await starts_per_run(bed, "once")
    print(f"seed {seed}: {crashes} crashes at {dict(points)}, {made} runs")
    assert crashes >= wanted
    assert len(counts) == made
    assert set(counts.values()) == {1}, f"seed {seed}: {[key for key, n in counts.items() if n > 1]}"
    assert any("Start" in point for point in points)


async def test_answers_that_are_cut_off_end_with_one_run(bed: Bed) -> None:
    """A proxy takes starts and drops the answer, or the request: the operator never knows which."""
    runs = 200 if LONG else 30
    async with CuttingProxy(bed.server.url) as proxy:
        await bed.start_worker("a")
        await bed.start_operator(conductor_url=proxy.url, unknown_start_wait=1.5)
        await bed.apply(workflow("cut", "a"))
        await bed.until_ready("cut")
        proxy.cut("POST", "/api/workflow", every=["answer", "request", "none"])
        await bed.apply(*(workflow_run(f"c{n}", "cut") for n in range(runs)))
        for n in range(runs):
            await bed.until_phase(f"c{n}", "Succeeded", within=120)
        counts = await starts_per_run(bed, "cut")
        print(f"{proxy.cuts} starts were cut")
        assert proxy.cuts["answer"] >= runs // 6
        assert proxy.cuts["request"] >= runs // 6
        assert len(counts) == runs
        assert set(counts.values()) == {1}


async def test_kill_9_at_random_moments(bed: Bed) -> None:
    """A real operator process, killed ten times while runs start and end."""
    kills, batch = (40, 20) if LONG else (10, 8)
    dice = random.Random()
    address, token = bed._notices
    environment = os.environ | {
        "KUBECONFIG": str(bed.plane.kubeconfig),
        "PODIUM_CONDUCTOR_URL": bed.server.url,
        "PODIUM_NAMESPACES": bed.namespace,
        "PODIUM_LISTEN": address,
        "PODIUM_NOTICE_TOKEN": token,
        "PODIUM_UNKNOWN_START_WAIT": "2",
    }
    await bed.start_worker("a")
    process: subprocess.Popen[bytes] | None = None

    def begin() -> subprocess.Popen[bytes]:
        log = (bed.folder / "operator.log").open("ab")
        return subprocess.Popen([sys.executable, "-m", "podium"], env=environment, stdout=log, stderr=log)

    async def works() -> bool:
        try:
            async with aiohttp.ClientSession() as session, session.get(f"http://{address}/readyz") as answer:
                return answer.status == 200
        except aiohttp.ClientError:
            return False

    process = begin()
    try:
        await bed.apply(workflow("killed", "a", "a"))
        await bed.until_ready("killed")
        for kill in range(kills):
            await eventually(works, bool)
            await bed.apply(*(workflow_run(f"k{kill}-{n}", "killed") for n in range(batch)))
            # A moment anywhere in the second in which the batch starts.
            await asyncio.sleep(dice.uniform(0.0, 0.7))
            process.send_signal(signal.SIGKILL)
            process.wait()
            process = begin()
        for kill in range(kills):
            for n in range(batch):
                await bed.until_phase(f"k{kill}-{n}", "Succeeded", within=120)
        counts = await starts_per_run(bed, "killed")
        assert len(counts) == kills * batch
        assert set(counts.values()) == {1}
        process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(process.wait, 20) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
