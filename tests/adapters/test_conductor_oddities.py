"""Whatever a Conductor answers, whoever asked gets an answer or a port's error, and nothing else."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from podium.adapters import conductor_answers
from podium.adapters.conductor import HttpConductor
from podium.adapters.conductor_answers import Answer
from podium.adapters.conductor_json import parse_run
from podium.core.run_status import describe_run
from podium.core.servers import Feature
from podium.ports import Moved, PortError, RetryLater, RunSeen, StartRequest
from support.serving import serve

CALLS: dict[str, Callable[[HttpConductor], Awaitable[Any]]] = {
    "describe": lambda http: http.describe(),
    "find_last_move": lambda http: http.find_last_move(),
    "find_related": lambda http: http.find_related("c"),
    "find_runs": lambda http: http.find_runs("n", "c"),
    "get_definition": lambda http: http.get_definition("n", 1),
    "get_definitions": lambda http: http.get_definitions("n"),
    "get_runs": lambda http: http.get_runs(["w"]),
    "list_definition_stamps": lambda http: http.list_definition_stamps(),
    "list_moved": lambda http: http.list_moved(0, most=500),
    "list_pollers": lambda http: http.list_pollers(),
    "list_task_types": lambda http: http.list_task_types(),
    "put_definition": lambda http: http.put_definition({"name": "n", "version": 1}),
    "read_depths": lambda http: http.read_depths([("a", "")]),
    "read_store": lambda http: http.read_store("c"),
    "resume": lambda http: http.resume("w"),
    "retry": lambda http: http.retry("w", resume_children=True),
    "start": lambda http: http.start(StartRequest("n", 1, "c", {})),
}
MEMBERS = (
    *("bulkErrorResults", "bulkSuccessfulResults", "results", "c", "n", "a", "message", "validationErrors"),
    *("workflowId", "status", "createTime", "updateTime", "endTime", "correlationId", "output", "input"),
    *("failedWorkflow", "workflowDefinition", "metadata", "podium", "nodes", "tasks", "taskType", "taskId"),
    *("subWorkflowId", "retryCount", "seq", "inputData", "forkedTasks", "workflowTask", "type"),
    *("name", "version", "queueName", "domain", "lastPollTime", "description", "build", "details"),
)
plain = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["RUNNING", "COMPLETED", "FAILED", "SUB_WORKFLOW", "2026-01-01T00:00:00Z"])
)
values = st.recursive(
    plain,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(MEMBERS) | st.text(max_size=4), inner)
    ),
)
rows = st.lists(st.dictionaries(st.sampled_from(MEMBERS), values, max_size=4) | values, max_size=3)
# As Conductor answers on the outside, so that what is odd is not only the first thing that is looked at.
answers = values | st.one_of(
    rows,
    *(st.fixed_dictionaries({name: rows}) for name in ("results", "bulkSuccessfulResults", "c", "n")),
    st.fixed_dictionaries({"workflowId": st.just("w"), "status": plain, "tasks": rows}),
)


class Odd(HttpConductor):
    """Answers everything with the same words."""

    def __init__(self, text: str, status: int = 200, *, new: bool = True) -> None:
        super().__init__("http://127.0.0.1:9/api")
        self._answer = Answer(status, text, "application/json")
        self._new = new

    async def _can(self, feature: Feature) -> bool:
        return self._new

    async def _request(self, method: str, path: str, **_: Any) -> Answer:
        return self._answer

    async def _look_beside(self, path: str) -> Answer:
        return self._answer


def ask(call: str, text: str, status: int = 200, *, new: bool = True) -> Any:
    try:
        return asyncio.run(CALLS[call](Odd(text, status, new=new)))  # type: ignore[arg-type]
    except PortError as error:
        return error


@pytest.mark.parametrize("call", sorted(CALLS))
@given(body=answers, status=st.sampled_from([200, 200, 200, 400, 404, 500]), new=st.booleans())
def test_any_answer_makes_sense_or_is_a_ports_error(call: str, body: object, status: int, new: bool) -> None:
    came = ask(call, json.dumps(body), status, new=new)
    if call == "get_runs" and isinstance(came, dict):
        for run in came.values():
            assert run is None or describe_run(run)["phase"]
    if call == "list_moved" and isinstance(came, tuple):
        assert all((type(item.workflow_id), type(item.at_ms)) == (str, int) for item in came)


@pytest.mark.parametrize("call", sorted(CALLS))
@pytest.mark.parametrize("text", ["[" * 100_000, '{"results":' * 100_000, ""])
def test_an_answer_without_an_end_is_a_ports_error(call: str, text: str) -> None:
    found = ask(call, text)
    # Of these two the status is all that is asked for.
    assert found is None if call in ("resume", "retry") else isinstance(found, PortError)


@pytest.mark.parametrize(
    "odd",
    [
        {"createTime": 1e999},
        {"updateTime": [1]},
        {"status": "ON_HOLIDAY"},
        {"status": ["RUNNING"]},
        {"tasks": [{"status": "RESTING"}]},
        {"tasks": 7},
        {"workflowDefinition": {"metadata": {"podium": {"nodes": ["a"]}}}},
        {"output": "words"},
    ],
)
def test_a_run_of_another_shape_is_no_view_of_it_and_hides_no_other(odd: dict[str, object]) -> None:
    good = {"workflowId": "w", "status": "RUNNING", "createTime": 1}
    body = {"bulkSuccessfulResults": [good | {"workflowId": "odd"} | odd, good], "bulkErrorResults": {}}
    assert list(ask("get_runs", json.dumps(body))) == ["w"]
    alone = ask("get_runs", json.dumps(good | odd), new=False)
    assert isinstance(alone, RetryLater)
    assert "makes no sense" in str(alone)


def test_ids_that_are_no_text_are_text_afterwards() -> None:
    run = parse_run({"workflowId": ["w"], "status": "RUNNING", "correlationId": {"a": 1}})
    assert (run.workflow_id, run.correlation_id) == ("['w']", "{'a': 1}")
    found = ask("list_moved", json.dumps({"results": [{"workflowId": ["w"], "correlationId": 7}]}))
    assert found == (Moved("['w']", "7", 0),) * 2  # of runs, and of tasks


async def test_a_charset_that_is_none_changes_nothing() -> None:
    async def odd(_: web.Request) -> web.Response:
        headers = {"Content-Type": "application/json; charset=base64"}
        return web.Response(body=b'[{"name": "caf\xc3\xa9"}]', headers=headers)

    async with serve(odd) as url, HttpConductor(url) as http:
        assert await http.list_task_types() == {"café"}


async def test_an_answer_that_is_too_long_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    sent = 0

    async def flood(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(1000):
            await response.write(b" " * 2**16)
            sent += 2**16
        return response

    monkeypatch.setattr(conductor_answers, "LONGEST_ANSWER", 2**20)
    async with serve(flood) as url, HttpConductor(url) as http:
        with pytest.raises(RetryLater, match="more than 1 MiB"):
            await http.list_task_types()
        assert sent < 1000 * 2**16
        assert http.outage is None


async def test_two_who_mark_an_empty_database_at_once_agree() -> None:
    kept: list[Any] = []

    async def store(request: web.Request) -> web.Response:
        await asyncio.sleep(0)
        if request.method == "POST":
            kept.extend(await request.json())
            return web.Response()
        if not kept:
            return web.json_response({"message": "No such task type found by name: x"}, status=404)
        return web.json_response(kept[-1])

    async with serve(store) as url, HttpConductor(url) as http:
        marks = await asyncio.gather(*(http.read_store("c") for _ in range(5)))
    assert len(set(marks)) == len(kept) == 1


def sub_workflow(task_type: str) -> RunSeen:
    task = {"status": "FAILED", "taskType": task_type, "subWorkflowId": "someone-elses"}
    return parse_run({"workflowId": "w", "status": "FAILED", "tasks": [task]})


def test_only_a_sub_workflow_has_a_run_below_it_whatever_a_worker_says() -> None:
    assert sub_workflow("SUB_WORKFLOW").tasks[0].sub_workflow_id == "someone-elses"
    assert sub_workflow("encode").tasks[0].sub_workflow_id == ""


@pytest.mark.parametrize(
    ("given_input", "is_one"),
    [
        ({"failedWorkflow": {"workflowId": "f", "correlationId": "c"}}, True),
        ({"failedWorkflow": {"workflowId": "f", "correlationId": "another"}}, False),
        ({"failedWorkflow": "yes"}, False),
        ({}, False),
    ],
)
def test_an_input_that_looks_like_a_failure_workflows_hides_no_run(
    given_input: dict[str, object], is_one: bool
) -> None:
    """A run that is not found would be started once more."""
    run = {"workflowId": "w", "status": "RUNNING", "correlationId": "c", "input": given_input}
    found = ask("find_runs", json.dumps({"c": [run]}))
    assert [item.workflow_id for item in found] == ([] if is_one else ["w"])
