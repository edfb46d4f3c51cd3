"""A worker as its own process, and the few calls to Conductor that its tests need."""

import asyncio
import os
import secrets
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import aiohttp.web
import pytest

from podium.local import Conductor
from support.eventually import eventually

HERE = Path(__file__).parent
Handler = Callable[[str, dict[str, str]], Awaitable[None]]


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
        self._defined: dict[tuple[str, int], str] = {}

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
        domain: str | None = None,
        retries: int = 0,
    ) -> str:
        """One run of one task; its id."""
        key = (task_type, response_timeout)
        if key not in self._defined:
            name = self._defined[key] = f"{self.domain}.{task_type}.{response_timeout}"
            definition = {
                "name": task_type,
                "retryCount": retries,
                "retryDelaySeconds": 0,
                "responseTimeoutSeconds": response_timeout,
                "timeoutSeconds": 0,
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

    async def worker(self, *options: str, url: str | None = None, domain: str | None = None) -> Worker:
        log = self.folder / f"worker-{len(self.workers)}.log"
        with log.open("wb") as sink:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "podium_workers",
                "--functions",
                "probes",
                "--data-dir",
                str(self.data),
                "--namespaces",
                domain or self.domain,
                "--log-level",
                "debug",
                *options,
                cwd=HERE,
                stderr=sink,
                stdout=sink,
                env={**os.environ, "CONDUCTOR_SERVER_URL": url or self.url},
            )
        worker = Worker(process, log)
        self.workers.append(worker)
        return worker


class Relay:
    """Stands between a worker and Conductor. `before`, `after`: awaited around each request (path, query)."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._runner: aiohttp.web.AppRunner | None = None
        self.before: Handler | None = None
        self.after: Handler | None = None
        self.seen: list[str] = []

    async def listen(self, port: int = 0) -> str:
        app = aiohttp.web.Application(client_max_size=2**26)
        app.router.add_route("*", "/api/{path:.*}", self._pass)
        self._runner = aiohttp.web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await aiohttp.web.TCPSite(self._runner, "127.0.0.1", port).start()
        return f"http://127.0.0.1:{self._runner.addresses[0][1]}/api"

    async def close(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _pass(self, request: aiohttp.web.Request) -> aiohttp.web.Response:
        path, query = "/" + request.match_info["path"], dict(request.query)
        self.seen.append(path)
        if self.before:
            await self.before(path, query)
        async with (
            aiohttp.ClientSession() as session,
            session.request(
                request.method,
                f"{self._url}{path}?{request.query_string}",
                data=await request.read(),
                headers={"Content-Type": request.headers.get("Content-Type", "application/json")},
            ) as answer,
        ):
            body = await answer.read()
            if self.after:
                await self.after(path, query)
            return aiohttp.web.Response(
                body=body,
                status=answer.status,
                headers={"Content-Type": answer.headers.get("Content-Type", "")},
            )


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
