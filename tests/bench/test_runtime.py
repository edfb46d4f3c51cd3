"""podium-worker beside conductor-python's TaskHandler: the same functions, the same Conductor, in turns."""

import asyncio
import contextlib
import json
import os
import secrets
import signal
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import aiohttp
import pytest

from podium.local import Conductor
from support.eventually import eventually
from support.machine import machine
from support.pids import family_of
from support.relay import Relay

pytestmark = [pytest.mark.bench, pytest.mark.timeout(1800)]

HERE = Path(__file__).parent
TYPES = tuple(f"shop_{number}" for number in range(10))
RUNS = int(os.environ.get("PODIUM_BENCH_RUNTIME_RUNS", "60"))
ROUNDS = int(os.environ.get("PODIUM_BENCH_ROUNDS", "3"))
THREADS = 5
IDLE_SECONDS = 20.0
MAKES = ("podium-worker", "TaskHandler")


@dataclass(frozen=True)
class Figures:
    """Seconds, megabytes."""

    first: float
    """From the start of the process to the first task's start, by Conductor's clock."""
    rate: float
    """Tasks a second, from the first one's start to the last one's end."""
    pss: float
    """At its highest, of all its processes: shared memory is divided among those that share it."""
    rss: float
    processes: int


class Shop:
    """Starts runs of ten tasks, one of each type, in a domain of their own."""

    def __init__(self, url: str, folder: Path, session: aiohttp.ClientSession) -> None:
        self.url = url
        self.domain = f"b{secrets.token_hex(4)}"
        self.count = folder / f"count-{self.domain}"
        self._session = session

    async def call(self, method: str, path: str, **more: Any) -> Any:
        async with self._session.request(method, f"{self.url}{path}", **more) as answer:
            text = await answer.text()
            assert answer.status < 300, f"{method} {path}: {answer.status} {text}"
            return json.loads(text) if "json" in answer.content_type else text

    async def open(self, runs: int) -> list[str]:
        tasks = [
            {"name": name, "taskReferenceName": name, "type": "SIMPLE", "inputParameters": {"n": 1000}}
            for name in TYPES
        ]
        fork = {
            "name": "fork",
            "taskReferenceName": "fork",
            "type": "FORK_JOIN",
            "forkTasks": [[t] for t in tasks],
        }
        join = {"name": "join", "taskReferenceName": "join", "type": "JOIN", "joinOn": list(TYPES)}
        definition = {
            "name": f"{self.domain}.shop",
            "version": 1,
            "schemaVersion": 2,
            "ownerEmail": "a@example.com",
            "timeoutSeconds": 1800,
            "timeoutPolicy": "ALERT_ONLY",
            "tasks": [fork, join],
        }
        await self.call("PUT", "/metadata/workflow", json=[definition])
        body = {"name": definition["name"], "version": 1, "taskToDomain": {"*": self.domain}}
        return [str(await self.call("POST", "/workflow", json=body)) for _ in range(runs)]

    async def tasks(self, ids: list[str]) -> list[dict[str, Any]]:
        """Those of the runs, which must all have been completed at the first attempt."""

        async def read() -> list[dict[str, Any]]:
            return [await self.call("GET", f"/workflow/{run_id}") for run_id in ids]

        runs = await eventually(
            read, lambda seen: {run["status"] for run in seen} == {"COMPLETED"}, within=60
        )
        tasks = [task for run in runs for task in run["tasks"] if task["taskType"] in TYPES]
        assert {(task["status"], task["retryCount"]) for task in tasks} == {("COMPLETED", 0)}
        assert len(tasks) == len(ids) * len(TYPES)
        return tasks

    @contextlib.asynccontextmanager
    async def worker(self, make: str, url: str | None = None) -> AsyncIterator[asyncio.subprocess.Process]:
        command: tuple[str, ...]
        if make == "podium-worker":
            command = (
                *("-m", "podium_workers", "--no-builtin", "--functions", "shop_podium"),
                *("--namespaces", self.domain, "--concurrency", str(THREADS * len(TYPES))),
                *("--data-dir", str(self.count.parent)),
            )
        else:
            command = ("shop.py", self.domain, str(THREADS))
        with (self.count.parent / f"{make}.log").open("ab") as sink:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, *command),
                cwd=HERE,
                stdout=sink,
                stderr=sink,
                start_new_session=True,
                env={**os.environ, "CONDUCTOR_SERVER_URL": url or self.url, "SHOP_COUNT": str(self.count)},
            )
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()

    def counted(self) -> int:
        return self.count.stat().st_size if self.count.exists() else 0


def memory(pid: int) -> tuple[float, float, int]:
    """(PSS, RSS, how many) of a process and its descendants, in megabytes."""
    pss = rss = 0
    family = family_of(pid)
    for member in family:
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{member}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    pss += int(line.split()[1])
                elif line.startswith("Rss:"):
                    rss += int(line.split()[1])
    return pss / 1000, rss / 1000, len(family)


async def measure(shop: Shop, make: str) -> Figures:
    """All runs wait when the worker begins."""
    ids = await shop.open(RUNS)
    began = time.time()
    highest = (0.0, 0.0, 0)
    async with shop.worker(make) as process:
        deadline = time.monotonic() + 300
        while shop.counted() < len(ids) * len(TYPES):
            assert time.monotonic() < deadline, f"{make}: {shop.counted()} tasks in time"
            highest = max(highest, await asyncio.to_thread(memory, process.pid))
            await asyncio.sleep(0.5)
        tasks = await shop.tasks(ids)
    first = min(task["startTime"] for task in tasks) / 1000
    last = max(task["endTime"] for task in tasks) / 1000
    return Figures(first - began, len(tasks) / (last - first), *highest)


async def idle(shop: Shop, make: str, relay: Relay, url: str) -> float:
    """Requests a second of a worker for which nothing comes, after a minute."""
    (run,) = await shop.open(1)
    async with shop.worker(make, url):
        await shop.tasks([run])
        await asyncio.sleep(60)  # a rate needs a time, and so does falling asleep
        before = len(relay.seen)
        await asyncio.sleep(IDLE_SECONDS)
        return (len(relay.seen) - before) / IDLE_SECONDS


def shown(figures: list[Figures]) -> dict[str, Any]:
    return {
        "first task after s": [round(item.first, 2) for item in figures],
        "tasks a second": [round(item.rate, 1) for item in figures],
        "PSS MB": [round(item.pss) for item in figures],
        "RSS MB": [round(item.rss) for item in figures],
        "processes": figures[-1].processes,
    }


async def test_runtime(conductor: Conductor, tmp_path: Path) -> None:
    """1000 tasks of ten types, in turns; then a minute without any."""
    async with aiohttp.ClientSession() as session:
        found: dict[str, list[Figures]] = {make: [] for make in MAKES}
        await measure(Shop(conductor.url, tmp_path, session), MAKES[0])  # Conductor warms up
        for _ in range(ROUNDS):
            for make in MAKES:
                found[make].append(await measure(Shop(conductor.url, tmp_path, session), make))
        resting = {}
        for make in MAKES:
            relay = Relay(conductor.url)
            url = await relay.listen()
            resting[make] = await idle(Shop(conductor.url, tmp_path, session), make, relay, url)
            await relay.close()
    ours, theirs = (found[make] for make in MAKES)
    rate = median(item.rate for item in ours) / median(item.rate for item in theirs)
    memory_share = median(item.pss for item in ours) / median(item.pss for item in theirs)
    first = median(item.first for item in ours)
    result = {
        "machine": machine(),
        "tasks": RUNS * len(TYPES),
        "at once": THREADS * len(TYPES),
        **{make: shown(found[make]) | {"idle requests a second": resting[make]} for make in MAKES},
        "tasks a second, ratio (goal 1.0)": round(rate, 2),
        "memory, ratio of PSS (goal 0.25)": round(memory_share, 3),
        "first task after s (goal 2.0)": round(first, 2),
    }
    print("\n" + json.dumps(result, indent=2))
    print(
        f"runtime: {rate:.2f}x the tasks a second of conductor-python's TaskHandler with {memory_share:.2f}x "
        f"its memory; first task after {first:.1f} s"
    )
