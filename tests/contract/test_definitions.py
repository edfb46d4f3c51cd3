"""Compiled definitions on a real Conductor: it accepts them, runs them right, and gives them back."""

import asyncio
import copy
import json
import time
import uuid
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from core.definitions.shapes import Json, graphs, needs_of, node, reference, simple, spec_of
from core.definitions.test_native import FINE
from core.definitions.test_state_machine import OBJECTS, interpret, machine, machines
from podium.core.definitions import (
    Compiled,
    compile_workflow,
    hash_definition,
    lint_workflow,
    same_definition,
    used_settings,
)
from podium.local import Conductor, ControlPlane
from support.eventually import eventually
from support.servers import OLD

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

REJECTS = sorted((Path(__file__).parents[2] / "tests/rejects/lint").glob("*.yaml"))
# Runs are slow: no shrinking, and the examples are few.
FEW = settings(
    max_examples=20,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
MANY = settings(FEW, max_examples=100)
Work = Callable[[Json], tuple[str, Json]]


class Client:
    """Just enough of Conductor's API, and a worker."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session, self._url = session, url
        self.log: list[tuple[str, str, str]] = []
        """(what, run, reference name): + when a task is polled, - just before it is completed."""

    async def call(self, method: str, path: str, body: Any = None) -> Any:
        async with self._session.request(method, f"{self._url}{path}", json=body) as answer:
            text = await answer.text()
            assert answer.status < 300, f"{method} {path}: {answer.status} {text[:500]}"
            return json.loads(text) if text.startswith(("{", "[")) else text

    async def store(self, definition: Json) -> Json:
        """Registers it as version 1; what Conductor then gives back."""
        await self.call("PUT", "/metadata/workflow", [{**definition, "version": 1}])
        stored: Json = await self.call("GET", f"/metadata/workflow/{definition['name']}?version=1")
        return stored

    async def start(self, name: str, payload: Json | None = None) -> str:
        run: str = await self.call("POST", "/workflow", {"name": name, "version": 1, "input": payload or {}})
        return run

    async def finish(self, run: str, within: float = 90) -> Json:
        """The run, once it has ended."""
        deadline = time.monotonic() + within
        while (await self.call("GET", f"/workflow/{run}?includeTasks=false"))["status"] == "RUNNING":
            assert time.monotonic() < deadline, "the run does not end"
            await asyncio.sleep(0.05)
        ended: Json = await self.call("GET", f"/workflow/{run}?includeTasks=true")
        return ended

    async def poll(self, task_type: str) -> list[Json]:
        polled = await self.call("GET", f"/tasks/poll/batch/{task_type}?count=10&timeout=100&workerid=t")
        return polled or []

    async def complete(self, task: Json, status: str = "COMPLETED", output: Json | None = None) -> None:
        result = {"workflowInstanceId": task["workflowInstanceId"], "taskId": task["taskId"]}
        await self.call("POST", "/tasks", {**result, "status": status, "outputData": output or {}})

    async def work(self, task_type: str, do: Work) -> None:
        """Polls and completes for ever; `do` answers (status, output)."""
        while True:
            for task in await self.poll(task_type):
                run, ref = task["workflowInstanceId"], task["referenceTaskName"]
                self.log.append(("+", run, ref))
                status, output = do(task)
                if status == "COMPLETED":
                    self.log.append(("-", run, ref))
                await self.complete(task, status, output)


Teller = Callable[[Callable[[Client], Awaitable[None]]], None]


def teller(server: Conductor) -> Teller:
    """Runs a story against the server, in a loop of its own (hypothesis tells many)."""

    def run(story: Callable[[Client], Awaitable[None]]) -> None:
        async def tell() -> None:
            async with aiohttp.ClientSession() as session:
                await story(Client(session, server.url))

        asyncio.run(tell())

    return run


@pytest.fixture
def on(conductor: Conductor) -> Teller:
    """A story on SQLite: for what no store can change, as which graphs are accepted."""
    return teller(conductor)


@pytest.fixture
def on_each(server: Conductor) -> Teller:
    """A story on each store in turn."""
    return teller(server)


@pytest.fixture
def is_old(request: pytest.FixtureRequest) -> bool:
    """Whether the server is of the old release."""
    return bool(request.node.callspec.params["server"] == OLD)


def compiled(task_type: str = "exp.task", **parts: Any) -> Compiled:
    """With a name of its own, and its tasks of one type."""
    text = json.dumps(parts).replace('"exp.task"', json.dumps(task_type))
    return compile_workflow(spec_of(**json.loads(text)), namespace="exp", name=f"w-{uuid.uuid4().hex[:10]}")


def a_type() -> str:
    """A task type that no other test polls for."""
    return f"exp.{uuid.uuid4().hex[:10]}"


async def run_to_the_end(
    client: Client, task_type: str, do: Work, name: str, payload: Json | None = None, runs: int = 1
) -> list[Json]:
    workers = [asyncio.create_task(client.work(task_type, do)) for _ in range(3)]
    try:
        started = [await client.start(name, payload) for _ in range(runs)]
        return [await client.finish(run) for run in started]
    finally:
        for worker in workers:
            worker.cancel()
            with suppress(asyncio.CancelledError):
                await worker


@MANY
@given(nodes=graphs())
def test_conductor_accepts_every_graph(on: Any, nodes: list[Json]) -> None:
    async def story(client: Client) -> None:
        definition = compiled(graph={"nodes": nodes}).definition
        await client.call("POST", "/metadata/workflow/validate", {**definition, "version": 1})

    on(story)


@FEW
@given(nodes=graphs(most=9))
def test_graphs_run_in_the_order_of_their_dependencies(on: Any, nodes: list[Json]) -> None:
    async def story(client: Client) -> None:
        task_type = a_type()
        made = compiled(task_type, graph={"nodes": nodes})
        await client.store(made.definition)
        (run,) = await run_to_the_end(
            client,
            task_type,
            lambda task: ("COMPLETED", {"at": task["referenceTaskName"]}),
            made.definition["name"],
        )
        assert run["status"] == "COMPLETED"
        done: set[str] = set()
        for what, _, ref in client.log:
            if what == "-":
                done.add(made.nodes[ref])
            else:
                assert needs_of(nodes)[made.nodes[ref]] <= done
        assert done == {item["id"] for item in nodes}
        inputs = {task["referenceTaskName"]: task["inputData"] for task in run["tasks"]}
        for ref, identifier in made.nodes.items():
            for key, value in inputs[ref].items():
                other = key.partition(" ")[2].replace("-", "_")
                assert value == ({"deep": [other]} if key.startswith("from") else f"<{other}>"), identifier

    on(story)


def test_a_dependency_that_fails_once_never_kills_the_run(on_each: Any) -> None:
    """Conductor's JOIN race: seen in 1 of 12 runs of a plain fork, never with markers."""
    nodes = [
        node("a"),
        node("b", "a"),
        node("c", "a"),
        node("d", "b", "c"),
        node("e"),
        node("f", "d", "e"),
        node("g", "d", "e"),
    ]

    async def story(client: Client) -> None:
        task_type, failed = a_type(), set[tuple[str, str]]()
        made = compiled(task_type, graph={"nodes": nodes}, taskDefaults={"retryDelay": "0s"})
        await client.store(made.definition)

        def fail_once(task: Json) -> tuple[str, Json]:
            place = task["workflowInstanceId"], task["referenceTaskName"]
            if place in failed:
                return "COMPLETED", {}
            failed.add(place)
            return "FAILED", {}

        ended = await run_to_the_end(client, task_type, fail_once, made.definition["name"], runs=15)
        assert [run["status"] for run in ended] == ["COMPLETED"] * 15
        assert len(failed) == 15 * len(nodes)

    on_each(story)


@FEW
@given(steps=machines(), payload=OBJECTS, data=st.data())
def test_state_machines_run_as_over_one_document(
    on: Any, steps: Json, payload: Json, data: st.DataObject
) -> None:
    if lint_workflow(spec_of(stateMachine=steps), namespace="exp", name="w"):
        return
    outputs = {step: data.draw(OBJECTS) for step in steps["steps"]}

    async def story(client: Client) -> None:
        task_type = a_type()
        chosen = copy.deepcopy(steps)
        for step in chosen["steps"].values():
            step["functionName"] = task_type
        made = compiled(stateMachine=chosen)
        await client.store(made.definition)
        inputs: Json = {}

        def do(task: Json) -> tuple[str, Json]:
            inputs[task["referenceTaskName"]] = task["inputData"]["input"]
            return "COMPLETED", outputs[task["referenceTaskName"]]

        (run,) = await run_to_the_end(client, task_type, do, made.definition["name"], payload)
        assert run["status"] == "COMPLETED"
        assert (inputs, run["output"]) == interpret(steps, payload, outputs)

    on(story)


def test_keys_that_need_quotes_are_found(on_each: Any, is_old: bool) -> None:
    if is_old:
        pytest.skip("3.21 refuses references in quotes")

    async def story(client: Client) -> None:
        task_type = a_type()
        keys = ["a b", "c-d", "e.f", "g'h", "1"]
        config = {
            key: reference("n-1", path)
            for key, path in zip(keys, ["['a b']", "c-d", "['e.f']", '["g\'h"]', "1"], strict=True)
        }
        made = compiled(
            task_type,
            flow={
                "nodes": [
                    {"id": "n-1", "type": "exp.task"},
                    {"id": "n-2", "type": "exp.task", "config": config},
                ]
            },
        )
        await client.store(made.definition)
        (run,) = await run_to_the_end(
            client, task_type, lambda _: ("COMPLETED", {key: [key] for key in keys}), made.definition["name"]
        )
        assert run["tasks"][1]["inputData"] == {key: [key] for key in keys}

    on_each(story)


FORMS: dict[str, Json] = {
    "flow": {
        "flow": {"nodes": [{"id": "a-1", "type": "exp.task", "config": {"x": [1, 1.0, None, "ü", {}]}}]}
    },
    "graph": {"graph": {"nodes": [node("a"), node("b"), node("c", "a", "b"), node("d", "a")]}},
    "state machine": {"stateMachine": machine(("a", "$", ".u"), ("b", "$", ".u.v"), ("c", ".u", None))},
    "settings": {
        "graph": {"nodes": [node("a"), node("b", "a")]},
        "description": "said",
        "timeout": "5m",
        "inputSchema": {"type": "object", "properties": {"x": {"type": "integer", "default": None}}},
        "inputDefaults": {"x": 1},
        "output": {"y": reference("a", "y")},
        "failureWorkflow": "other",
        "taskTypes": {
            "exp.task": {
                "concurrencyLimit": 3,
                "rateLimit": {"calls": 2, "per": "5s"},
                "pollTimeout": "1h",
                "totalTimeout": "2h",
                "maxRetryDelay": "5m",
                "backoff": "Linear",
            }
        },
    },
    **{f"native: {name}": {"definition": definition} for name, definition in FINE.items()},
}

EDITS: dict[str, Callable[[Json], Any]] = {
    "input": lambda stored: stored["tasks"][0]["inputParameters"].update(more=1),
    "task": lambda stored: stored["tasks"].append(simple("one_more")),
    "optional": lambda stored: stored["tasks"][0].update(optional=True),
    "retries": lambda stored: stored["tasks"][0].update(retryCount=9),
    "timeout": lambda stored: stored.update(timeoutSeconds=7),
    "output": lambda stored: stored["outputParameters"].update(more=1),
    "description": lambda stored: stored.update(description="another"),
    "restartable": lambda stored: stored.update(restartable=not stored["restartable"]),
    "failure workflow": lambda stored: stored.update(failureWorkflow="another"),
    "metadata": lambda stored: stored["metadata"]["podium"].update(more=1),
    "template": lambda stored: stored["inputTemplate"].update(more=1),
}


@pytest.mark.parametrize("parts", FORMS.values(), ids=FORMS)
def test_what_comes_back_is_the_same_until_someone_edits_it(on_each: Any, parts: Json, is_old: bool) -> None:
    async def story(client: Client) -> None:
        made = compiled(**parts)
        stored = await client.store(made.definition)
        if lost := used_settings(made.definition) - used_settings(stored):
            assert (is_old, lost) == (True, {"taskDefinition.maxRetryDelaySeconds"})
            return
        assert same_definition(made.definition, stored)
        hinted = is_old and "joinMode" in json.dumps(made.definition)
        assert hinted or hash_definition(stored) == made.hash
        for name, edit in EDITS.items():
            edited = copy.deepcopy(stored)
            edit(edited)
            assert not same_definition(made.definition, await client.store(edited)), name
        assert same_definition(made.definition, await client.store(made.definition))

    on_each(story)


def test_defaults_are_filled_in_where_conductor_starts_runs_itself(on_each: Any) -> None:
    """As a sub-workflow, by START_WORKFLOW and as a failure workflow: Podium is not asked then."""
    child: Json = {
        "definition": {
            "tasks": [{"name": "n", "taskReferenceName": "n", "type": "NOOP"}],
            "outputParameters": {"size": "${workflow.input.size}", "colour": "${workflow.input.colour}"},
        },
        "inputDefaults": {"size": 1, "colour": "red"},
    }

    async def story(client: Client) -> None:
        task_type = a_type()
        called = compiled(**child).definition
        name = called["name"].removeprefix("exp.")
        parent = compiled(
            task_type,
            definition={
                "tasks": [
                    {
                        "name": "sub",
                        "taskReferenceName": "sub",
                        "type": "SUB_WORKFLOW",
                        "inputParameters": {"size": 2},
                        "subWorkflowParam": {"name": name},
                    },
                    {
                        "name": "start",
                        "taskReferenceName": "start",
                        "type": "START_WORKFLOW",
                        "inputParameters": {"startWorkflow": {"name": name, "input": {"size": 3}}},
                    },
                    {**simple("fails", name="exp.task"), "retryCount": 0},
                ]
            },
            failureWorkflow=name,
        ).definition
        await client.store(called)
        await client.store(parent)
        (run,) = await run_to_the_end(
            client, task_type, lambda _: ("FAILED", {}), parent["name"], {"size": 4}
        )
        sub, start, _ = run["tasks"]

        async def output() -> Json:
            written: Json = (await client.call("GET", f"/workflow/{run['workflowId']}"))["output"]
            return written

        # It is written a moment after the run has failed.
        of_failure = await eventually(output, lambda found: "conductor.failure_workflow" in found)
        started = [
            sub["outputData"]["subWorkflowId"],
            start["outputData"]["workflowId"],
            of_failure["conductor.failure_workflow"],
        ]
        outputs = [(await client.finish(identifier))["output"] for identifier in started]
        assert outputs == [{"size": size, "colour": "red"} for size in (2, 3, 4)]

    on_each(story)


def test_an_embedded_concurrency_limit_holds_across_runs(on_each: Any) -> None:
    async def story(client: Client) -> None:
        task_type = a_type()
        made = compiled(
            task_type,
            flow={"nodes": [{"id": "a", "type": "exp.task"}]},
            taskTypes={task_type: {"concurrencyLimit": 2}},
        )
        await client.store(made.definition)
        runs = [await client.start(made.definition["name"]) for _ in range(5)]
        await asyncio.sleep(0.5)
        given_out = [task for _ in range(3) for task in await client.poll(task_type)]
        assert len(given_out) == 2
        for run in runs:
            await client.call("DELETE", f"/workflow/{run}?reason=test")

    on_each(story)


@pytest.mark.parametrize("path", REJECTS, ids=lambda path: path.stem)
def test_what_lint_refuses_the_api_server_accepts(cluster: ControlPlane, path: Path) -> None:
    """Otherwise it would belong to tests/rejects/api."""
    assert "refused" in cluster.run("apply", "--dry-run=server", "-f", str(path))
