"""A worker as its own process, and the few calls to Conductor that its tests need."""

import asyncio
import json
import os
import secrets
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from podium.local import Conductor
from support.eventually import eventually
from support.relay import Relay

HERE = Path(__file__).parent


class Worker:
    """`podium-worker` in a process; what it says is in `said()`."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self.process = process
        self.log = log

    def said(self) -> str:
        return self.log.read_text()

    async def says(self, words: str, within: float = 30.0) -> None:
        async def look() -> str:
            return self.said()

        await eventually(look, lambda said: words in said, within=within)

    def signal(self, number: int = signal.SIGTERM) -> None:
        os.kill(self.process.pid, number)

    def interrupt(self) -> None:
        """Ctrl-C at a terminal: all processes in front have the signal."""
        os.killpg(self.process.pid, signal.SIGINT)

    def records(self) -> list[dict[str, Any]]:
        """What it logged, line by line; what is no JSON is left out."""
        lines = (line for line in self.said().splitlines() if line.startswith("{"))
        return [json.loads(line) for line in lines]

    async def exits(self, within: float = 60.0) -> int:
        async with asyncio.timeout(within):
            return await self.process.wait()


class Desk:
    """Starts one-task runs in a domain of this test's own, and reads what became of them."""

    def __init__(self, url: str, folder: Path, session: aiohttp.ClientSession) -> None:
        self.url = url
        self.folder = folder
        self.data = folder / "data"
        self.data.mkdir()
        self.domain = f"t{secrets.token_hex(4)}"
        self.session = session
        self.workers: list[Worker] = []
        self._defined: dict[tuple[str, int, int, int], str] = {}

    async def call(self, method: str, path: str, **more: Any) -> Any:
        async with self.session.request(method, f"{self.url}{path}", **more) as response:
            text = await response.text()
            assert response.status < 300, f"{method} {path}: {response.status} {text}"
            return await response.json() if "json" in response.content_type else text

    async def start(
        self,
        task_type: str,
        given: dict[str, Any] | None = None,
        *,
        response_timeout: int = 600,
        timeout: int = 0,
        domain: str | None = None,
        retries: int = 0,
        retry_delay: int = 0,
    ) -> str:
        """One run of one task; its id. A `timeout` in seconds ends attempts, and they are retried."""
        key = (task_type, response_timeout, timeout, retry_delay)
        if key not in self._defined:
            name = self._defined[key] = ".".join((self.domain, *map(str, key)))
            definition = {
                "name": task_type,
                "retryCount": retries,
                "retryDelaySeconds": retry_delay,
                "responseTimeoutSeconds": response_timeout,
                "timeoutSeconds": timeout,
                "timeoutPolicy": "RETRY",
            }
            step = {
                "name": task_type,
                "taskReferenceName": "it",
                "type": "SIMPLE",
                "inputParameters": {"data": "${workflow.input}"},
                "taskDefinition": definition,
            }
            workflow = {
                "name": name,
                "version": 1,
                "schemaVersion": 2,
                "ownerEmail": "a@example.com",
                "timeoutSeconds": 900,
                "timeoutPolicy": "ALERT_ONLY",
                "tasks": [step],
            }
            step["inputParameters"] = {key: f"${{workflow.input.{key}}}" for key in given or {}}
            await self.call("PUT", "/metadata/workflow", json=[workflow])
        body = {
            "name": self._defined[key],
            "version": 1,
            "input": given or {},
            "taskToDomain": {"*": domain or self.domain},
        }
        return str(await self.call("POST", "/workflow", json=body))

    async def run(self, run_id: str) -> dict[str, Any]:
        return dict(await self.call("GET", f"/workflow/{run_id}"))

    async def decided(self, run_id: str) -> dict[str, Any]:
        """The same when Conductor has just looked at it: by itself it may do that minutes late."""
        await self.call("PUT", f"/workflow/decide/{run_id}")
        return await self.run(run_id)

    async def task(self, run_id: str) -> dict[str, Any]:
        """Its newest attempt."""
        return dict((await self.run(run_id))["tasks"][-1])

    async def ended(self, run_id: str, within: float = 60.0) -> dict[str, Any]:
        """The task when its run has ended."""
        run = await eventually(
            lambda: self.run(run_id), lambda run: run["status"] != "RUNNING", within=within
        )
        return dict(run["tasks"][-1])

    async def statuses(self, run_ids: list[str]) -> list[str]:
        tasks = await asyncio.gather(*map(self.task, run_ids))
        return [task["status"] for task in tasks]

    async def running(self, run_ids: list[str], count: int) -> None:
        """Until so many of them are running functions, by their own word."""

        async def begun() -> int:
            return len([line for line in self.trace() if line[1] == "begin"])

        await eventually(begun, lambda seen: seen >= count)

    def trace(self) -> list[tuple[int, str, str]]:
        path = self.data / "trace"
        lines = path.read_text().splitlines() if path.exists() else []
        return sorted((int(at), word, task) for at, word, task in map(str.split, lines))

    def open_gate(self, name: str = "gate") -> None:
        (self.data / name).touch()

    async def worker(
        self,
        *options: str,
        url: str | None = None,
        domain: str | None = None,
        before: tuple[str, ...] = (),
        program: tuple[str, ...] = ("-m", "podium_workers", "--functions", "probes,busy"),
        folder: Path = HERE,
    ) -> Worker:
        """`before`: a command that runs it; `program`: what Python is told to run."""
        log = self.folder / f"worker-{len(self.workers)}.log"
        options = (
            *("--data-dir", str(self.data)),
            *("--namespaces", domain or self.domain),
            *("--log-level", "debug"),
            *options,
        )
        with log.open("wb") as sink:
            process = await asyncio.create_subprocess_exec(
                *(*before, sys.executable, *program, *options),
                cwd=folder,
                stderr=sink,
                stdout=sink,
                env={**os.environ, "CONDUCTOR_SERVER_URL": url or self.url},
                start_new_session=True,
            )
        worker = Worker(process, log)
        self.workers.append(worker)
        return worker


@pytest.fixture
async def desk(conductor: Conductor, tmp_path: Path) -> AsyncIterator[Desk]:
    async with aiohttp.ClientSession() as session:
        desk = Desk(conductor.url, tmp_path, session)
        yield desk
        for worker in desk.workers:
            if worker.process.returncode is None:
                worker.signal(signal.SIGKILL)
                await worker.exits()


@pytest.fixture
async def relay(conductor: Conductor) -> AsyncIterator[Relay]:
    relay = Relay(conductor.url)
    yield relay
    await relay.close()
