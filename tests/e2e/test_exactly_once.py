"""Exactly one run in Conductor per WorkflowRun: through crashes, cut answers and kill -9."""

import asyncio
import contextlib
import os
import random
import signal
import subprocess
from collections import Counter
from pathlib import Path

import aiohttp
import pytest

from podium.local import Conductor, ControlPlane
from support.bed import Bed, Crashed, workflow, workflow_run
from support.cutting_proxy import CuttingProxy
from support.eventually import eventually

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

LONG = bool(os.environ.get("PODIUM_LONG"))


async def starts_per_run(bed: Bed, name: str) -> Counter[str]:
    """How many runs Conductor has for each correlation id that still count: not ended as duplicates."""
    rows = await bed.conductor._search("/workflow/search", f"workflowType={bed.namespace}.{name}")
    return Counter(row["correlationId"] for row in rows)


# Every boundary at which the operator can be gone, in the order in which a run passes them.
BOUNDARIES = (
    "before SetFinalizers",
    "after SetFinalizers",
    "before WriteIntent",
    "after WriteIntent",
    "before Start",
    "after Start was answered",
    "after Start",
    "before LookUp",
    "after LookUp",
    "before ReadRun",
    "after ReadRun",
    "before the report",
    "after the report",
)
LANES = 3
# Longer than a start that was sent can take inside a Conductor that shares two cores with all of this:
# with 1 s a busy machine once made a second start too early.
START_WAIT = 4.0


async def crash_and_restart(bed: Bed, crashes: int, dice: random.Random) -> tuple[int, Counter[str]]:
    """Crash the operator so often, each life at a boundary drawn evenly; how many runs were made."""
    points: Counter[str] = Counter()
    made = 0
    while points.total() < crashes:
        target, passes = dice.choice(BOUNDARIES), dice.randint(1, 4)

        def crash(point: str) -> None:
            nonlocal passes
            if point == target:  # noqa: B023 - each life has a hook of its own
                passes -= 1
                if passes <= 0:
                    points[point] += 1
                    raise Crashed(point)

        await bed.start_operator(crash=crash, unknown_start_wait=START_WAIT, listen="127.0.0.1:0")
        fresh = range(made, made + dice.randint(4, 8))
        made = fresh.stop
        await bed.apply(*(workflow_run(f"r{number}", "once") for number in fresh))
        # A life that never comes to its boundary ends by itself once its runs are over.
        ending = asyncio.create_task(bed.crashed())
        over = asyncio.create_task(until_all_over(bed, fresh))
        await asyncio.wait({ending, over}, return_when=asyncio.FIRST_COMPLETED)
        over.cancel()
        await asyncio.gather(over, return_exceptions=True)
        if not ending.done():
            await bed.stop_operator_of(ending)
    await bed.start_operator(unknown_start_wait=START_WAIT, listen="127.0.0.1:0")
    await until_all_over(bed, range(made))
    return made, points


async def until_all_over(bed: Bed, numbers: range) -> None:
    for number in numbers:
        await bed.until_phase(f"r{number}", "Succeeded", within=180)


async def test_a_crash_at_any_effect_boundary_ends_with_one_run(
    cluster: ControlPlane, conductor: Conductor, notices: tuple[str, str], tmp_path: Path
) -> None:
    """A hundred crashes and more in three namespaces at once, at every boundary, many runs in flight."""
    seed = random.randrange(2**32)
    wanted = 1000 if LONG else 102
    async with contextlib.AsyncExitStack() as stack:
        beds = [
            await stack.enter_async_context(Bed(cluster, conductor, notices, tmp_path)) for _ in range(LANES)
        ]
        for bed in beds:
            await bed.start_worker("a")
            await bed.apply(workflow("once", "a"))
        lanes = await asyncio.gather(
            *(
                crash_and_restart(bed, wanted // LANES, random.Random(seed + number))
                for number, bed in enumerate(beds)
            )
        )
        points = sum((points for _, points in lanes), Counter[str]())
        print(f"seed {seed}: {points.total()} crashes, {sum(made for made, _ in lanes)} runs: {dict(points)}")
        for bed, (made, _) in zip(beds, lanes, strict=True):
            counts = await starts_per_run(bed, "once")
            assert len(counts) == made
            assert set(counts.values()) == {1}, f"seed {seed}: {[key for key, n in counts.items() if n > 1]}"
        assert points.total() >= wanted
        assert points["after Start was answered"] > 0


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
    address, _ = bed._notices
    await bed.start_worker("a")
    process: subprocess.Popen[bytes] | None = None

    def begin() -> subprocess.Popen[bytes]:
        return bed.start_operator_process(PODIUM_UNKNOWN_START_WAIT="2")

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
