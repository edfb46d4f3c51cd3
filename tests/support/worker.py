"""A worker in the test's own loop: completes tasks as the test says, and remembers them."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import aiohttp

Answer = Callable[[dict[str, Any]], dict[str, Any] | None]


def complete(task: dict[str, Any]) -> dict[str, Any]:
    """The answer of a task that succeeds at once."""
    return {"status": "COMPLETED", "outputData": {"of": task["referenceTaskName"]}}


@dataclass
class TestWorker:
    """Polls for these types in a domain. `answer(task)`: what to send; None sends nothing."""

    __test__ = False

    url: str
    task_types: tuple[str, ...]
    domain: str | None = None
    answer: Answer = complete
    seconds: float = 0.0
    """How long each task takes."""
    at_once: int = 20
    seen: list[dict[str, Any]] = field(default_factory=list)
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)
    _session: aiohttp.ClientSession | None = None
    _draining: bool = False

    async def start(self) -> None:
        """Begin to poll."""
        self._session = aiohttp.ClientSession()
        self._tasks = [asyncio.create_task(self._poll(kind)) for kind in self.task_types]

    async def drain(self) -> None:
        """Stop after what is polled and taken is done: a poll that is cut off may still take a task."""
        self._draining = True
        await asyncio.gather(*self._tasks)
        await self.stop()

    async def stop(self) -> None:
        """Stop, without a drain."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    async def _poll(self, kind: str) -> None:
        assert self._session is not None
        # Conductor holds a batch back until it is full or the time is over: a short time, or tasks come late.
        params = {"count": str(self.at_once), "timeout": "100", "workerid": "test"}
        if self.domain:
            params["domain"] = self.domain
        running: set[asyncio.Task[None]] = set()
        while not self._draining:
            try:
                async with self._session.get(
                    f"{self.url}/tasks/poll/batch/{kind}", params=params
                ) as response:
                    tasks = await response.json() if response.status == 200 else []
            except aiohttp.ClientError:
                await asyncio.sleep(0.2)
                continue
            for task in tasks:
                self.seen.append(task)
                job = asyncio.create_task(self._do(task))
                running.add(job)
                job.add_done_callback(running.discard)
        await asyncio.gather(*running)

    async def _do(self, task: dict[str, Any]) -> None:
        assert self._session is not None
        if self.seconds:
            await asyncio.sleep(self.seconds)
        answer = self.answer(task)
        if answer is None:
            return
        body = {"workflowInstanceId": task["workflowInstanceId"], "taskId": task["taskId"], **answer}
        async with self._session.post(f"{self.url}/tasks", json=body) as response:
            await response.read()
