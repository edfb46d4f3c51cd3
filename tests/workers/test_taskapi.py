"""What a worker takes for Conductor's word, and what for that of something between."""

import json
from collections.abc import AsyncIterator, Callable

import pytest
from aiohttp import web

from podium_workers.runtime.task import Outcome, Queue, Task
from podium_workers.runtime.taskapi import Hidden, Refused, TaskApi, Unavailable

TASK = Task("t", "w", "resize", "it", 0, 1, 0.0, 0.0, {}, {}, None, None)
OWN = {"instance": "conductor", "retryable": False}
PAGE = "<html><head><title>404 Not Found</title></head></html>"


@pytest.fixture
async def between(monkeypatch) -> AsyncIterator[Callable[[int, str, str], TaskApi]]:
    """Answers everything with the same: status, content type, body."""
    given: tuple[int, str, str] = (200, "text/plain", "")

    async def answer(_: web.Request) -> web.Response:
        status, kind, body = given
        return web.Response(status=status, content_type=kind, text=body)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    monkeypatch.setenv("CONDUCTOR_SERVER_URL", f"http://127.0.0.1:{runner.addresses[0][1]}/api")
    apis = []

    def api(*will: int | str) -> TaskApi:
        nonlocal given
        given = will
        apis.append(TaskApi("me"))
        return apis[-1]

    yield api
    for made in apis:
        await made.close()
    await runner.cleanup()


def own(status: int, message: str) -> str:
    """As Conductor 3.32.3 says it."""
    return json.dumps({"status": status, "message": message, **OWN})


@pytest.mark.parametrize(
    ("status", "kind", "body", "error"),
    [
        (404, "application/json", own(404, "No such task found by id: t"), Refused),
        (400, "application/json", own(400, "Validation failed, check below errors for detail."), Refused),
        (409, "application/json", own(409, "in use"), Refused),
        (413, "text/html", PAGE, Refused),
        (404, "text/plain", "404 page not found", Hidden),
        (404, "text/html", PAGE, Hidden),
        (404, "application/json", "{}", Hidden),
        (404, "application/json", "[]", Hidden),
        (404, "application/json", '"message"', Hidden),
        (404, "text/plain", "", Hidden),
        (400, "text/html", PAGE, Hidden),
        (405, "text/html", PAGE, Hidden),
        (404, "application/json", own(404, "No static resource api/tasks."), Hidden),
        (405, "application/json", own(405, "Request method 'POST' is not supported"), Hidden),
        (401, "text/html", PAGE, Unavailable),
        (401, "application/json", '{"error": "EXPIRED_TOKEN", "message": "expired"}', Unavailable),
        (403, "application/json", own(403, "no"), Unavailable),
        (429, "application/json", own(429, "later"), Unavailable),
        (500, "application/json", own(500, "oh"), Unavailable),
        (503, "text/html", PAGE, Unavailable),
        (200, "text/html", f"\n{PAGE}", Unavailable),
    ],
)
async def test_only_conductors_own_no_is_final(between, status, kind, body, error):
    api = between(status, kind, body)
    for call in (
        api.finish(TASK, Outcome("COMPLETED"), []),
        api.extend(TASK, 1.0),
        api.poll(Queue("resize", None), 1),
        api.depths([Queue("resize", None)]),
    ):
        with pytest.raises((Refused, Unavailable)) as caught:
            await call
        assert caught.type is error


async def test_a_result_that_is_taken_is_answered_with_the_tasks_id(between):
    await between(200, "text/plain", "t").finish(TASK, Outcome("COMPLETED"), [])


def item(name: str, **more: object) -> dict[str, object]:
    return {"taskId": name, "taskDefName": "resize", "inputData": {}, **more}


@pytest.mark.parametrize(
    "odd",
    [
        {"taskType": "resize"},
        None,
        "task",
        item("odd", inputData=["a"]),
        item("odd", outputData="a"),
        item("odd", responseTimeoutSeconds="soon"),
        item("odd", workflowTask=["a"]),
    ],
)
async def test_a_task_that_cannot_be_read_does_not_cost_the_others_of_its_batch(between, caplog, odd):
    api = between(200, "application/json", json.dumps([item("a"), odd, item("b", inputData=None)]))
    tasks = await api.poll(Queue("resize", None), 3)
    assert [task.task_id for task in tasks] == ["a", "b"]
    (record,) = [record for record in caplog.records if "cannot be read" in record.getMessage()]
    assert record.levelname == "ERROR"


async def test_queue_sizes_that_are_no_numbers_are_no_answer(between):
    api = between(200, "application/json", '{"resize": null}')
    with pytest.raises(Unavailable, match="not numbers"):
        await api.depths([Queue("resize", None)])
