"""Actions and deletions are done once, through crashes at every boundary of an effect and through kill -9."""

import asyncio
import contextlib
import itertools
import os
import random
import signal
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from podium.local import Conductor, ControlPlane
from podium.ports import Json
from support.bed import Bed, Crashed, workflow, workflow_run
from support.eventually import eventually

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

LONG = bool(os.environ.get("PODIUM_LONG"))
LANES, AT_ONCE = 3, 5
# Longer than what was sent can take inside a Conductor that shares two cores with all of this.
WAIT = 4.0
BOUNDARIES = (
    "before WriteIntent",
    "after WriteIntent",
    "before Retry",
    "after Retry was answered",
    "after Retry",
    "before Restart",
    "after Restart was answered",
    "after Restart",
    "before Terminate",
    "after Terminate was answered",
    "before ReadRun",
    "after ReadRun",
    "before SetFinalizers",
    "after SetFinalizers",
    "before the report",
    "after the report",
)
COMMON = ("before ReadRun", "after ReadRun", "before the report", "after the report")


def fails_at_first(task: Json) -> Json:
    """The first attempt fails, the one after a Retry succeeds."""
    ok = task.get("retryCount")
    return {"status": "COMPLETED" if ok else "FAILED", "reasonForIncompletion": None if ok else "first"}


class Lives:
    """Runs that live through everything, one after the other, whatever the operator does meanwhile."""

    def __init__(self, bed: Bed) -> None:
        self.bed = bed
        self.enough = False
        self.lived = 0
        self._numbers = itertools.count()

    async def prepare(self) -> None:
        self.worker = await self.bed.start_worker("a", answer=fails_at_first)
        await self.bed.apply(
            workflow("w", "a", taskDefaults={"retries": 0}), workflow("open", "nobody-polls-this")
        )

    async def live(self) -> None:
        """Start, fail, retry, succeed, restart, fail, retry, succeed; and one deleted while it runs."""
        while not self.enough:
            number = next(self._numbers)
            name, short = f"r{number}", f"d{number}"
            await self.create(workflow_run(name, "w"))
            await self.create(workflow_run(short, "open"))
            await self.bed.until_phase(name, "Failed", within=180)
            await self.act(name, "1", "Retry", "Succeeded")
            await self.act(name, "2", "Restart", "Failed")
            await self.act(name, "3", "Retry", "Succeeded")
            body = await self.bed.until_phase(short, "Running", within=180)
            await self.bed.cluster.delete(self.bed.key("WorkflowRun", short), uid=body["metadata"]["uid"])
            await self.bed.until("WorkflowRun", short, lambda body: not body, within=180)
            workflow_id = body["status"]["conductor"]["workflowId"]
            view = (await self.bed.conductor.get_runs([workflow_id]))[workflow_id]
            assert view is not None
            assert view.state not in ("RUNNING", "PAUSED"), "a deleted run is ended before its object goes"
            self.lived += 1

    # Not by kubectl: a process for each would take the two cores from what is tested.

    async def create(self, body: Json) -> None:
        metadata = {**body["metadata"], "namespace": self.bed.namespace}
        await self.bed.cluster.create({**body, "metadata": metadata})

    async def act(self, name: str, action_id: str, kind: str, phase: str) -> None:
        key = self.bed.key("WorkflowRun", name)
        uid = (await self.bed.cluster.get(key))["metadata"]["uid"]
        await self.bed.cluster.patch(key, {"spec": {"action": {"id": action_id, "type": kind}}}, uid=uid)

        def answered(body: Json) -> bool:
            status = body["status"]
            return status.get("lastAction", {}).get("id") == action_id and status["phase"] == phase

        body = await self.bed.until("WorkflowRun", name, answered, within=180)
        assert body["status"]["lastAction"]["result"] == "Done", body["status"]["lastAction"]

    async def law(self) -> None:
        """Each run's task was given out exactly four times: nothing was done twice, nothing left out."""
        given: defaultdict[str, list[int]] = defaultdict(list)
        for task in self.worker.seen:
            given[task["workflowInstanceId"]].append(task["retryCount"])
        assert set(map(tuple, given.values())) <= {(0, 1, 0, 1)}
        assert len(given) == self.lived
        rows = await self.bed.conductor._search("/workflow/search", f"workflowType={self.bed.namespace}.w")
        assert Counter(Counter(row["correlationId"] for row in rows).values()) == {1: self.lived}


@contextlib.asynccontextmanager
async def lives_in(bed: Bed) -> AsyncIterator[Lives]:
    """Several at once; on the way out, until each has come to the end of its round."""
    lives = Lives(bed)
    await lives.prepare()
    async with asyncio.TaskGroup() as tasks:
        for _ in range(AT_ONCE):
            tasks.create_task(lives.live())
        yield lives
        lives.enough = True
    await lives.law()


async def crash_again_and_again(bed: Bed, crashes: int, dice: random.Random) -> Counter[str]:
    points: Counter[str] = Counter()
    order = list(BOUNDARIES)
    dice.shuffle(order)
    targets = itertools.cycle(order)
    async with lives_in(bed):
        while points.total() < crashes:
            target = next(targets)
            # Passes of the common ones are varied; an action passes its own boundaries seldom enough.
            passes = dice.randint(1, 3) if target in COMMON else 1

            def crash(point: str) -> None:
                nonlocal passes
                if point == target:  # noqa: B023 - each life has a hook of its own
                    passes -= 1
                    if passes <= 0:
                        points[point] += 1
                        raise Crashed(point)

            await bed.start_operator(crash=crash, unknown_start_wait=WAIT, listen="127.0.0.1:0")
            # A life that does not come to its boundary soon is ended politely.
            ending = asyncio.create_task(bed.crashed())
            await asyncio.wait({ending}, timeout=4.0)
            if not ending.done():
                await bed.stop_operator_of(ending)
        await bed.start_operator(unknown_start_wait=WAIT, listen="127.0.0.1:0")
    return points


async def test_crashes_at_every_boundary_of_actions_and_deletions(
    cluster: ControlPlane, conductor: Conductor, notices: tuple[str, str], tmp_path: Path
) -> None:
    seed = random.randrange(2**32)
    wanted = 1500 if LONG else 210
    async with contextlib.AsyncExitStack() as stack:
        beds = [
            await stack.enter_async_context(Bed(cluster, conductor, notices, tmp_path)) for _ in range(LANES)
        ]
        lanes = await asyncio.gather(
            *(
                crash_again_and_again(bed, wanted // LANES, random.Random(seed + number))
                for number, bed in enumerate(beds)
            )
        )
        points = sum(lanes, Counter[str]())
        print(f"seed {seed}: {points.total()} crashes: {dict(points)}")
        assert points.total() >= wanted
        assert min(points[f"after {kind} was answered"] for kind in ("Retry", "Restart", "Terminate")) > 0


async def test_kill_9_while_runs_are_acted_on_and_deleted(bed: Bed) -> None:
    kills = 40 if LONG else 10
    dice = random.Random()
    process = bed.start_operator_process(PODIUM_UNKNOWN_START_WAIT=str(WAIT))
    try:
        async with lives_in(bed) as lives:
            for _ in range(kills):
                # A moment anywhere in its first second of work: it needs two to begin.
                await asyncio.sleep(dice.uniform(2.0, 4.0))
                process.send_signal(signal.SIGKILL)
                process.wait()
                process = bed.start_operator_process(PODIUM_UNKNOWN_START_WAIT=str(WAIT))

            async def lived() -> int:
                return lives.lived

            await eventually(lived, lambda lived: lived >= AT_ONCE, within=180)
    finally:
        process.terminate()
        await asyncio.to_thread(process.wait, 20)
