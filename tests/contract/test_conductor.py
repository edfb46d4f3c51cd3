"""What `HttpConductor` says about the real server's answers, the odd ones above all."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from typing import Any

import pytest

from podium.adapters.conductor import HttpConductor
from podium.local import Conductor, free_port
from podium.ports import (
    Conflict,
    Gone,
    Json,
    NotRegistered,
    NotSent,
    OutcomeUnknown,
    Refused,
    RunState,
    StartRequest,
)
from support.eventually import eventually

pytestmark = pytest.mark.slow


@pytest.fixture
async def http(server: Conductor) -> AsyncIterator[HttpConductor]:
    async with HttpConductor(server.url) as client:
        yield client


@pytest.fixture
def name() -> str:
    return f"contract-{secrets.token_hex(4)}"


def definition(name: str, *tasks: Json, version: int = 1, **more: Any) -> Json:
    return {
        "name": name,
        "version": version,
        "schemaVersion": 2,
        "ownerEmail": "a@example.com",
        "timeoutSeconds": 3600,
        "timeoutPolicy": "ALERT_ONLY",
        "tasks": list(tasks) or [task(name)],
        **more,
    }


def task(name: str, **more: Any) -> Json:
    return {
        "name": name,
        "taskReferenceName": "a",
        "type": "SIMPLE",
        "taskDefinition": {"name": name, "ownerEmail": "a@example.com", "retryCount": 0},
        **more,
    }


async def started(http: HttpConductor, name: str, correlation_id: str = "") -> str:
    await http.put_definition(definition(name))
    return await http.start(StartRequest(name, 1, correlation_id or f"c.{name}", {}))


async def until_state(http: HttpConductor, workflow_id: str, *states: RunState) -> None:
    async def look() -> str:
        seen = (await http.get_runs([workflow_id]))[workflow_id]
        return seen.state if seen else "absent"

    await eventually(look, lambda seen: seen in states, within=30)


async def work(
    http: HttpConductor, name: str, *, status: str = "COMPLETED", output: Json | None = None
) -> None:
    """Poll one task and end it."""

    async def poll() -> Json:
        answer = await http._send("GET", f"/tasks/poll/{name}", params={"workerid": "w"})
        import json

        found: Json = json.loads(answer.text) if answer.text else {}
        return found

    polled = await eventually(poll, bool)
    await http._send(
        "POST",
        "/tasks",
        body={
            "workflowInstanceId": polled["workflowInstanceId"],
            "taskId": polled["taskId"],
            "status": status,
            "outputData": output or {},
        },
    )


# --- definitions ------------------------------------------------------------------------------------


async def test_versions_come_oldest_first_and_go_one_by_one(http: HttpConductor, name: str) -> None:
    assert await http.get_definitions(name) == []
    assert await http.get_definition(name, 1) is None
    for version in (2, 1, 10):
        await http.put_definition(definition(name, version=version))
    assert [item["version"] for item in await http.get_definitions(name)] == [1, 2, 10]
    stamps = await http.list_definition_stamps()
    assert {version for known, version in stamps if known == name} == {1, 2, 10}
    assert stamps[name, 1] > 0
    await http.delete_definition(name, 2)
    await http.delete_definition(name, 2)  # absent: the server says 500
    await http.delete_definition(f"{name}-never", 1)
    assert [item["version"] for item in await http.get_definitions(name)] == [1, 10]


async def test_a_version_that_is_stored_again_has_another_stamp(http: HttpConductor, name: str) -> None:
    await http.put_definition(definition(name))
    before = (await http.list_definition_stamps())[name, 1]

    async def again() -> int:
        await http.put_definition(definition(name))
        return (await http.list_definition_stamps())[name, 1]

    await eventually(again, lambda after: after > before)


async def test_a_bad_definition_is_refused_in_conductors_words(http: HttpConductor, name: str) -> None:
    with pytest.raises(Refused, match=r"(?i)unique|duplicate|already|same"):
        await http.put_definition(definition(name, task(name), task(name)))
    assert await http.get_definitions(name) == []


async def test_a_task_type_once_registered_is_listed(http: HttpConductor, name: str) -> None:
    assert name not in await http.list_task_types()
    await http.put_task_definition({"name": name, "ownerEmail": "a@example.com", "retryCount": 0})
    assert name in await http.list_task_types()


async def test_who_polled_last_is_known_by_domain(http: HttpConductor, name: str) -> None:
    for domain in ("", "studio"):
        await http._send(
            "GET", f"/tasks/poll/{name}", params={"workerid": "w"} | ({"domain": domain} if domain else {})
        )

    async def look() -> set[str]:
        return {item.domain for item in await http.list_pollers() if item.task_type == name}

    await eventually(look, lambda domains: domains == {"", "studio"})


# --- starts -----------------------------------------------------------------------------------------


async def test_a_start_is_found_at_once_by_its_correlation_id(http: HttpConductor, name: str) -> None:
    first = await started(http, name)
    assert [run.workflow_id for run in await http.find_runs(name, f"c.{name}")] == [first]
    second = await started(http, name)
    await http.terminate(first, "over")
    found = await http.find_runs(name, f"c.{name}")
    assert [(run.workflow_id, run.state) for run in found] == [(first, "TERMINATED"), (second, "RUNNING")]
    assert await http.find_runs(name, "c.nobody") == []


async def test_a_start_of_a_version_that_is_not_there_was_not_sent(http: HttpConductor, name: str) -> None:
    with pytest.raises(NotRegistered, match="version 1"):
        await http.start(StartRequest(name, 1, "c", {}))
    await http.put_definition(definition(name))
    with pytest.raises(NotRegistered, match="version 9"):
        await http.start(StartRequest(name, 9, "c", {}))


async def test_no_connection_means_not_sent() -> None:
    async with HttpConductor(f"http://127.0.0.1:{free_port()}/api") as http:
        with pytest.raises(NotSent, match="no connection to Conductor"):
            await http.start(StartRequest("n", 1, "c", {}))


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 36\r\n\r\nhalf"])
async def test_a_start_without_an_answer_is_unknown_never_not_sent(answer: bytes) -> None:
    """A server that takes the request and is silent, or dies in the middle of its answer."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        if answer:
            writer.close()

    async with (
        await asyncio.start_server(serve, "127.0.0.1", port := free_port()),
        HttpConductor(f"http://127.0.0.1:{port}/api", timeout=0.3) as http,
    ):
        with pytest.raises(OutcomeUnknown):
            await http.start(StartRequest("n", 1, "c", {}))


async def test_children_and_failure_workflows_are_no_duplicates(http: HttpConductor, name: str) -> None:
    sub = {"type": "SUB_WORKFLOW", "subWorkflowParam": {"name": name, "version": 1}}
    await http.put_definition(definition(name))
    await http.put_definition(
        definition(name, {"name": "s", "taskReferenceName": "s", **sub}, version=2, failureWorkflow=name)
    )
    parent = await http.start(StartRequest(name, 2, f"c.{name}", {}))

    async def all_of_it() -> int:
        rows = await http._search("/workflow/search", f"workflowType={name}")
        return len(rows)

    await eventually(all_of_it, lambda count: count == 2)
    await work(http, name, status="FAILED")
    await until_state(http, parent, "FAILED")
    await eventually(all_of_it, lambda count: count >= 3)  # the failure run has a child of its own, soon
    assert [run.workflow_id for run in await http.find_runs(name, f"c.{name}")] == [parent]


# --- runs -------------------------------------------------------------------------------------------


async def test_many_are_read_at_once_and_unknown_ones_are_none(http: HttpConductor, name: str) -> None:
    workflow_id = await started(http, name)
    unknown = "00000000-0000-0000-0000-000000000000"
    seen = await http.get_runs([workflow_id, unknown])
    assert seen[unknown] is None
    run = seen[workflow_id]
    assert run is not None
    assert (run.name, run.version, run.state, run.correlation_id) == (name, 1, "RUNNING", f"c.{name}")
    assert [(item.ref, item.task_type, item.state) for item in run.tasks] == [("a", name, "SCHEDULED")]
    assert await http.get_runs([]) == {}


@pytest.mark.parametrize(
    ("state", "verb", "error"),
    [
        ("RUNNING", "pause", None),
        ("RUNNING", "resume", Conflict),
        ("RUNNING", "terminate", None),
        ("PAUSED", "pause", None),
        ("PAUSED", "resume", None),
        ("PAUSED", "terminate", None),
        ("COMPLETED", "pause", Conflict),
        ("COMPLETED", "resume", Conflict),
        ("COMPLETED", "terminate", Conflict),
        ("TERMINATED", "pause", Conflict),
        ("TERMINATED", "resume", Conflict),
        ("TERMINATED", "terminate", None),
        ("absent", "pause", Gone),
        ("absent", "resume", Gone),
        ("absent", "terminate", Gone),
    ],
)
async def test_what_can_be_done_to_a_run(
    http: HttpConductor, name: str, state: str, verb: str, error: type[Exception] | None
) -> None:
    workflow_id = "00000000-0000-0000-0000-000000000000" if state == "absent" else await started(http, name)
    if state == "PAUSED":
        await http.pause(workflow_id)
    elif state == "TERMINATED":
        await http.terminate(workflow_id, "over")
    elif state == "COMPLETED":
        await work(http, name)
        await until_state(http, workflow_id, "COMPLETED")
    words = ("the reason",) if verb == "terminate" else ()
    if error is None:
        await getattr(http, verb)(workflow_id, *words)
    else:
        with pytest.raises(error):
            await getattr(http, verb)(workflow_id, *words)
    if verb == "terminate" and state in ("RUNNING", "PAUSED"):
        seen = (await http.get_runs([workflow_id]))[workflow_id]
        assert seen is not None
        assert (seen.state, seen.reason) == ("TERMINATED", "the reason")


async def test_the_sweep_sees_start_poll_and_end(http: HttpConductor, name: str) -> None:
    workflow_id = await started(http, name)

    async def last_move() -> int:
        everything = await http.list_moved(0, most=100_000) or ()
        moved = [item for item in everything if item.workflow_id == workflow_id]
        assert {item.correlation_id for item in moved} <= {f"c.{name}", ""}
        return max((item.at_ms for item in moved), default=0)

    start = await eventually(last_move, bool)
    answer = await http._send("GET", f"/tasks/poll/{name}", params={"workerid": "w"})
    assert answer.status == 200
    poll = await eventually(last_move, lambda at: at > start)
    await http.terminate(workflow_id, "over")
    end = await eventually(last_move, lambda at: at > poll)
    last = await http.find_last_move()
    assert last is not None
    assert last >= end
    assert workflow_id not in {item.workflow_id for item in await http.list_moved(end, most=500) or ()}


async def test_a_start_without_its_sub_workflow_makes_no_run_and_may_be_tried_again(
    http: HttpConductor, name: str
) -> None:
    """Manifests that are applied together are registered in any order."""
    sub = {"type": "SUB_WORKFLOW", "subWorkflowParam": {"name": f"{name}-inner"}}
    await http.put_definition(definition(name, {"name": "s", "taskReferenceName": "s", **sub}))
    request = StartRequest(name, 1, f"c.{name}", {})
    with pytest.raises(NotRegistered, match=f"{name}-inner"):
        await http.start(request)
    assert await http.find_runs(name, f"c.{name}") == []
    await http.put_definition(definition(f"{name}-inner"))
    await http.start(request)
    assert len(await http.find_runs(name, f"c.{name}")) == 1


@pytest.mark.parametrize("page", [2, 5, 20])
async def test_what_moved_is_found_page_by_page_and_no_further_than_wanted(
    http: HttpConductor, name: str, page: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("podium.adapters.conductor_search._PAGE", page)
    begin = await http.find_last_move()
    assert begin is not None
    ids = {await started(http, name) for _ in range(12)}

    async def moved() -> set[str]:
        return {item.workflow_id for item in await http.list_moved(begin, most=1_000) or ()}

    await eventually(moved, ids.__le__)
    some = await http.list_moved(begin, most=4)
    assert some is not None
    assert 4 <= len(some) <= 2 * (4 + page)


# --- removal ----------------------------------------------------------------------------------------


async def rows(http: HttpConductor, name: str) -> set[str]:
    return {item["workflowId"] for item in await http._search("/workflow/search", f"workflowType={name}")}


@pytest.mark.parametrize("state", ["RUNNING", "PAUSED", "COMPLETED", "FAILED", "TERMINATED", "absent"])
async def test_a_removed_run_is_gone_with_its_row_in_the_search(
    http: HttpConductor, name: str, state: str
) -> None:
    workflow_id = "00000000-0000-0000-0000-000000000000" if state == "absent" else await started(http, name)
    if state == "PAUSED":
        await http.pause(workflow_id)
    elif state == "TERMINATED":
        await http.terminate(workflow_id, "over")
    elif state in ("COMPLETED", "FAILED"):
        await work(http, name, status=state)
        await until_state(http, workflow_id, "COMPLETED", "FAILED")
    if state != "absent":
        await eventually(lambda: rows(http, name), lambda found: found == {workflow_id})
    await http.remove(workflow_id)
    await http.remove(workflow_id)  # again: as after an answer that was lost
    assert (await http.get_runs([workflow_id]))[workflow_id] is None
    await eventually(lambda: rows(http, name), lambda found: not found)
    assert await http._read("GET", f"/tasks/queue/sizes?taskType={name}") == {name: 0}


async def test_a_family_is_found_by_its_correlation_id_and_each_says_whose_it_is(
    http: HttpConductor, name: str
) -> None:
    sub = {"type": "SUB_WORKFLOW", "subWorkflowParam": {"name": name, "version": 1}}
    await http.put_definition(definition(name))
    await http.put_definition(
        definition(name, {"name": "s", "taskReferenceName": "s", **sub}, version=2, failureWorkflow=name)
    )
    parent = await http.start(StartRequest(name, 2, f"c.{name}", {}))
    await eventually(lambda: http.find_related(f"c.{name}"), lambda found: len(found) == 2)
    await work(http, name, status="FAILED")
    await until_state(http, parent, "FAILED")
    # The failure workflow is the newest version, which has a sub-workflow of its own.
    related = await eventually(lambda: http.find_related(f"c.{name}"), lambda found: len(found) == 4)
    runs = {key: run for key, run in (await http.get_runs(related)).items() if run is not None}
    [child] = [run for run in runs.values() if run.parent_id == parent]
    [failure] = [run for run in runs.values() if run.failure_run]
    assert [task.sub_workflow_id for task in runs[parent].tasks] == [child.workflow_id]
    assert (runs[parent].output or {})["conductor.failure_workflow"] == failure.workflow_id
    assert [run.parent_id for run in runs.values()].count(failure.workflow_id) == 1
    # A removed parent leaves its children: they have to be removed by themselves.
    await http.remove(parent)
    assert (await http.get_runs([child.workflow_id]))[child.workflow_id] is not None


# --- large outputs ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("megabytes", "inside"), [(1, True), (4, True), (8, False)])
async def test_an_output_that_is_too_large_for_the_database_has_a_path(
    http: HttpConductor, name: str, megabytes: int, inside: bool
) -> None:
    await http.put_definition(definition(name, outputParameters={"text": "${a.output.text}"}))
    workflow_id = await http.start(StartRequest(name, 1, f"c.{name}", {}))
    await work(http, name, output={"text": "x" * megabytes * 1_000_000})
    await until_state(http, workflow_id, "COMPLETED")
    run = (await http.get_runs([workflow_id]))[workflow_id]
    assert run is not None
    assert (run.output is not None) is inside
    assert (run.output_path == "") is inside
    assert run.outside is (megabytes > 3)  # a task's output lies outside from 3 MB on, a run's from 5 MB on
