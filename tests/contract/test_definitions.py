"""Compiled definitions on a real Conductor: it accepts them, runs them right, and gives them back."""

import asyncio
import copy
import time
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from core.definitions.shapes import Json, graphs, needs_of, node, reference, spec_of
from core.definitions.test_native import FINE
from core.definitions.test_state_machine import OBJECTS, interpret, machine, machines
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from podium.core.definitions import Compiled, compile_workflow, hash_definition, lint_workflow, same_definition
from podium.local import Conductor, ControlPlane

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

REJECTS = sorted((Path(__file__).parents[2] / "tests/rejects/lint").glob("*.yaml"))
MANY = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
Work = Callable[[Json], tuple[str, Json]]


class Client:
    """Just enough of Conductor's API, and a worker."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session, self._url = session, url
        self.log: list[tuple[str, str, str]] = []
        """(what, run, reference name): what is + when a task is polled, - just before it is completed."""

    async def call(self, method: str, path: str, body: Any = None) -> Any:
        async with self._session.request(method, f"{self._url}{path}", json=body) as answer:
            text = await answer.text()
            assert answer.status < 300, f"{method} {path}: {answer.status} {text[:500]}"
            return await answer.json(content_type=None) if text.startswith(("{", "[")) else text

    async def store(self, definition: Json) -> Json:
        """Registers it as version 1; what Conductor then gives back."""
        await self.call("PUT", "/metadata/workflow", [{**definition, "version": 1}])
        stored: Json = await self.call("GET", f"/metadata/workflow/{definition['name']}?version=1")
        return stored

    async def start(self, name: str, given_input: Json | None = None) -> str:
        started: str = await self.call(
            "POST", "/workflow", {"name": name, "version": 1, "input": given_input or {}}
        )
        return started

    async def finish(self, run: str, within: float = 60) -> Json:
        """The run, once it has ended."""
        deadline = time.monotonic() + within
        while (await self.call("GET", f"/workflow/{run}/status"))["status"] == "RUNNING":
            assert time.monotonic() < deadline, "the run does not end"
            await asyncio.sleep(0.05)
        ended: Json = await self.call("GET", f"/workflow/{run}?includeTasks=true")
        return ended

    async def work(self, task_type: str, do: Work) -> None:
        """Polls and completes for ever; `do` answers (status, output)."""
        while True:
            polled = await self.call("GET", f"/tasks/poll/batch/{task_type}?count=10&timeout=100&workerid=t")
            for task in polled or []:
                run, ref = task["workflowInstanceId"], task["referenceTaskName"]
                self.log.append(("+", run, ref))
                status, output = do(task)
                if status == "COMPLETED":
                    self.log.append(("-", run, ref))
                result = {"workflowInstanceId": run, "taskId": task["taskId"], "status": status}
                await self.call("POST", "/tasks", {**result, "outputData": output})


@pytest.fixture
async def client(conductor: Conductor) -> AsyncIterator[Client]:
    async with aiohttp.ClientSession() as session:
        yield Client(session, conductor.url)


def compiled(task_type: str = "exp.task", **parts: Any) -> Compiled:
    """With a name of its own, and its tasks of one type."""
    name = f"w-{uuid.uuid4().hex[:10]}"
    spec = spec_of(**yaml.safe_load(yaml.safe_dump(parts).replace("exp.task", task_type)))
    return compile_workflow(spec, namespace="exp", name=name)


def a_type() -> str:
    """A task type that no other test polls for."""
    return f"exp.{uuid.uuid4().hex[:10]}"


@pytest.mark.parametrize("_round", range(1))
def test_conductor_accepts_every_graph(conductor: Conductor, _round: int) -> None:
    import requests  # a blocking client, for hypothesis

    @MANY
    @given(graphs())
    def accepts(nodes: list[Json]) -> None:
        definition = {**compiled(graph={"nodes": nodes}).definition, "version": 1}
        answer = requests.post(f"{conductor.url}/metadata/workflow/validate", json=definition, timeout=30)
        assert answer.status_code == 200, answer.text

    accepts()
