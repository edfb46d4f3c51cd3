"""What the real server does with each action, and that it is as `core/runs/shape.py` says."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from contract.test_conductor import definition, task, until_state
from podium.adapters.conductor import HttpConductor
from podium.core.run_status import latest_attempts
from podium.core.runs.shape import shape_of, why_not_rerun, why_not_skip
from podium.local import Conductor
from podium.ports import Conflict, Gone, Json, Refused, RunSeen, StartRequest, TaskAnswer, TaskSeen
from support.eventually import eventually
from support.worker import TestWorker

pytestmark = pytest.mark.slow


class Stage:
    """A workflow of the test's own and a worker that fails the tasks it is told to."""

    def __init__(self, http: HttpConductor, name: str, url: str) -> None:
        self.http = http
        self.name = name
        self.failing: set[str] = set()
        self._url = url
        self._workers: list[TestWorker] = []

    def simple(self, ref: str) -> Json:
        return task(f"{self.name}-{ref}", taskReferenceName=ref)

    async def run(self, *tasks: Json, work: tuple[str, ...] = (), **more: Any) -> str:
        """Register, start, and let workers do the tasks of `work`."""
        await self.http.put_definition(definition(self.name, *tasks, **more))
        await self.work(*work)
        return await self.http.start(StartRequest(self.name, 1, f"c.{self.name}", {}))

    async def work(self, *refs: str) -> None:
        worker = TestWorker(self._url, tuple(f"{self.name}-{ref}" for ref in refs), answer=self._answer)
        await worker.start()
        self._workers.append(worker)

    def _answer(self, given: Json) -> Json:
        bad = given["referenceTaskName"].partition("__")[0] in self.failing
        return {"status": "FAILED" if bad else "COMPLETED", "reasonForIncompletion": "no" if bad else None}

    async def view(self, workflow_id: str) -> RunSeen:
        view = (await self.http.get_runs([workflow_id]))[workflow_id]
        assert view is not None
        return view

    async def task(self, workflow_id: str, ref: str) -> TaskSeen:
        return next(item for item in latest_attempts((await self.view(workflow_id)).tasks) if item.ref == ref)

    async def stop(self) -> None:
        while self._workers:
            await self._workers.pop().drain()

    async def rerun(self, workflow_id: str, task_id: str, task_input: Json | None, *refs: str) -> None:
        """Conductor stores a task that it reruns after it has queued it, and overwrites what a worker did
        with it in between (seen once in forty tries): so the workers come afterwards."""
        await self.stop()
        await self.http.rerun(workflow_id, task_id, task_input)
        await self.work(*refs)


@pytest.fixture
async def stage(server: Conductor, request: pytest.FixtureRequest) -> AsyncIterator[Stage]:
    import secrets

    async with HttpConductor(server.url) as http:
        made = Stage(http, f"act-{secrets.token_hex(4)}", server.url)
        yield made
        await made.stop()


async def test_retry_runs_what_failed_once_more_and_marks_the_run(stage: Stage) -> None:
    stage.failing = {"b"}
    run = await stage.run(*map(stage.simple, "abc"), work=("a", "b", "c"))
    with pytest.raises(Conflict):  # the server says 404
        await stage.http.retry(run, resume_children=True)
    await until_state(stage.http, run, "FAILED")
    before = await stage.view(run)
    stage.failing = set()
    await stage.http.retry(run, resume_children=True)
    await until_state(stage.http, run, "COMPLETED")
    after = await stage.view(run)
    assert (before.retried_ms, after.retried_ms > 0) == (0, True)
    attempts = {item.ref: item.attempt for item in latest_attempts(after.tasks)}
    assert attempts == {"a": 0, "b": 1, "c": 0}
    with pytest.raises(Conflict):
        await stage.http.retry(run, resume_children=True)


async def test_an_ended_run_keeps_its_marks_until_something_is_done_to_it(stage: Stage) -> None:
    stage.failing = {"a"}
    run = await stage.run(stage.simple("a"), work=("a",), failureWorkflow=f"{stage.name}-absent")
    await until_state(stage.http, run, "FAILED")
    first = await stage.view(run)
    await asyncio.sleep(1.5)  # long enough for a sweep of Conductor's
    again = await stage.view(run)
    assert (first.retried_ms, first.create_ms, first.tasks) == (
        again.retried_ms,
        again.create_ms,
        again.tasks,
    )


async def test_restart_begins_anew_under_the_same_id_and_time_tells(stage: Stage) -> None:
    run = await stage.run(stage.simple("a"))
    with pytest.raises(Conflict):
        await stage.http.restart(run)
    await stage.http.terminate(run, "enough")
    before = await stage.view(run)
    await stage.http.restart(run)
    after = await stage.view(run)
    assert (after.state, after.correlation_id) == ("RUNNING", before.correlation_id)
    assert after.create_ms > before.create_ms


async def test_a_definition_that_cannot_be_restarted_says_so(stage: Stage) -> None:
    run = await stage.run(stage.simple("a"), work=("a",), restartable=False)
    await until_state(stage.http, run, "COMPLETED")
    with pytest.raises(Refused, match="restartable"):
        await stage.http.restart(run)


async def test_an_unknown_run_is_gone_for_every_action(stage: Stage) -> None:
    http = stage.http
    for call in (
        http.retry("no-such-run", resume_children=True),
        http.restart("no-such-run"),
        http.rerun("no-such-run", "t", None),
        http.skip("no-such-run", "a"),
        http.nudge("no-such-run"),
    ):
        with pytest.raises(Gone):
            await call


async def test_rerun_takes_the_new_input_and_drops_what_came_after(stage: Stage) -> None:
    run = await stage.run(*map(stage.simple, "abc"), work=("a", "b", "c"))
    await until_state(stage.http, run, "COMPLETED")
    old = await stage.task(run, "b")
    await stage.rerun(run, old.task_id, {"size": 3}, "a", "b", "c")
    await until_state(stage.http, run, "COMPLETED")
    new = await stage.task(run, "b")
    assert new.task_id == old.task_id
    assert new.scheduled_ms > old.scheduled_ms
    body = await stage.http._read("GET", f"/workflow/{run}")
    assert [item["inputData"] for item in body["tasks"]] == [{}, {"size": 3}, {}]


def everything(stage: Stage) -> list[Json]:
    """A task before, a fork, a switch, and tasks behind each."""

    def mark(ref: str) -> Json:
        return {"name": ref, "taskReferenceName": ref, "type": "NOOP"}

    return [
        stage.simple("a"),
        {
            "name": "f",
            "taskReferenceName": "f",
            "type": "FORK_JOIN",
            "forkTasks": [
                [stage.simple("left"), stage.simple("left2"), mark("m1")],
                [stage.simple("right"), mark("m2")],
            ],
        },
        {"name": "j", "taskReferenceName": "j", "type": "JOIN", "joinOn": ["m1", "m2"]},
        stage.simple("mid"),
        {
            "name": "s",
            "taskReferenceName": "s",
            "type": "SWITCH",
            "evaluatorType": "value-param",
            "expression": "v",
            "inputParameters": {"v": "x"},
            "decisionCases": {"x": [stage.simple("case"), stage.simple("case2")]},
            "defaultCase": [],
        },
        stage.simple("end"),
    ]


WORK = ("a", "left", "left2", "right", "mid", "case", "case2", "end")


@pytest.mark.parametrize("ref", WORK)
async def test_a_skip_that_podium_allows_lets_the_run_end(stage: Stage, ref: str) -> None:
    tasks = everything(stage)
    run = await stage.run(*tasks)
    if ref == "a":
        with pytest.raises(Conflict):  # it is scheduled at the start; the server says 500
            await stage.http.skip(run, ref)
        return
    await stage.http.skip(run, ref)
    await stage.work(*(name for name in WORK if name != ref))
    if not why_not_skip(shape_of({"tasks": tasks}), ref):
        await until_state(stage.http, run, "COMPLETED")
        assert (await stage.task(run, ref)).state == "SKIPPED"
        return
    # One that Podium refuses: nothing is left to do, and the run does not end.
    last = "left2" if ref in ("left", "right") else "s"

    async def done() -> bool:
        seen = await stage.view(run)
        open_work = [item for item in seen.tasks if item.state in ("SCHEDULED", "IN_PROGRESS")]
        settled = all(item.system_type == "JOIN" for item in open_work)
        return settled and any(
            item.ref in (last, "right") and item.state == "COMPLETED" for item in seen.tasks
        )

    await eventually(done, bool)
    assert (await stage.view(run)).state == "RUNNING"


# Not those inside the fork: Podium refuses them (tests/core/test_run_actions.py), Conductor never ends them.
@pytest.mark.parametrize("ref", ["a", "mid", "case", "case2", "end"])
async def test_a_rerun_that_podium_allows_lets_the_run_end_again(stage: Stage, ref: str) -> None:
    tasks = everything(stage)
    assert not why_not_rerun(shape_of({"tasks": tasks}), ref)
    run = await stage.run(*tasks, work=WORK)
    await until_state(stage.http, run, "COMPLETED")
    old = await stage.task(run, ref)
    await stage.rerun(run, old.task_id, None, *WORK)

    async def again() -> RunSeen:
        return await stage.view(run)

    def has_gone_again(seen: RunSeen) -> bool:
        return seen.state == "COMPLETED" and (old.task_id, old.scheduled_ms) not in {
            (item.task_id, item.scheduled_ms) for item in seen.tasks
        }

    view = await eventually(again, has_gone_again)
    assert {item.ref for item in view.tasks} >= set(WORK)


async def test_only_the_first_answer_to_a_waiting_task_counts(stage: Stage) -> None:
    human = {"name": "h", "taskReferenceName": "h", "type": "HUMAN"}
    run = await stage.run(human, {"name": "w", "taskReferenceName": "w", "type": "WAIT"})
    await eventually(lambda: stage.view(run), lambda seen: bool(seen.tasks))
    first = await stage.task(run, "h")
    await stage.http.answer(TaskAnswer(run, first.task_id, True, "alex", output={"n": 1}))
    await stage.http.answer(TaskAnswer(run, first.task_id, False, "kim", reason="no"))
    body = await stage.http._read("GET", f"/workflow/{run}")
    assert (body["tasks"][0]["status"], body["tasks"][0]["outputData"]) == ("COMPLETED", {"n": 1})
    wait = await eventually(lambda: stage.view(run), lambda seen: len(seen.tasks) == 2)
    waiting = wait.tasks[1]
    assert (waiting.system_type, waiting.timed) == ("WAIT", False)
    await stage.http.answer(TaskAnswer(run, waiting.task_id, False, "kim", reason="rejected by kim: dark"))
    await until_state(stage.http, run, "FAILED")
    assert (await stage.task(run, "w")).reason == "rejected by kim: dark"
    await stage.http.retry(run, resume_children=True)
    again = await eventually(lambda: stage.task(run, "w"), lambda seen: seen.state == "IN_PROGRESS")
    assert again.attempt == 1


async def test_a_wait_for_a_time_is_told_apart(stage: Stage) -> None:
    timed = {
        "name": "w",
        "taskReferenceName": "w",
        "type": "WAIT",
        "inputParameters": {"duration": "30 seconds"},
    }
    run = await stage.run(timed)
    await eventually(lambda: stage.view(run), lambda seen: bool(seen.tasks))
    assert (await stage.task(run, "w")).timed


async def test_a_run_whose_sub_workflow_was_removed_can_be_ended(stage: Stage) -> None:
    child = f"{stage.name}-child"
    await stage.http.put_definition(definition(child))
    sub = {
        "name": "s",
        "taskReferenceName": "s",
        "type": "SUB_WORKFLOW",
        "subWorkflowParam": {"name": child},
    }
    run = await stage.run(sub)
    seen = await eventually(
        lambda: stage.view(run), lambda seen: bool(seen.tasks and seen.tasks[0].sub_workflow_id)
    )
    removed = seen.tasks[0].sub_workflow_id
    await stage.http._send("DELETE", f"/workflow/{removed}/remove", params={"archiveWorkflow": "false"})
    await stage.http.terminate(run, "its child is gone")  # the server says 500 to the first try
    assert (await stage.view(run)).state == "TERMINATED"


async def test_a_dynamic_fork_tells_which_tasks_it_made(stage: Stage) -> None:
    made = [task(f"{stage.name}-x", taskReferenceName=ref) for ref in ("x1", "x2")]
    fork = {
        "name": "d",
        "taskReferenceName": "d",
        "type": "FORK_JOIN_DYNAMIC",
        "dynamicForkTasksParam": "tasks",
        "dynamicForkTasksInputParamName": "inputs",
        "inputParameters": {"tasks": made, "inputs": {"x1": {}, "x2": {}}},
    }
    run = await stage.run(fork, {"name": "j", "taskReferenceName": "j", "type": "JOIN"})
    await eventually(lambda: stage.view(run), lambda seen: len(seen.tasks) >= 3)
    assert (await stage.task(run, "d")).forked == ("x1", "x2")


async def test_a_nudge_is_harmless(stage: Stage) -> None:
    run = await stage.run(stage.simple("a"))
    await stage.http.nudge(run)
    assert (await stage.view(run)).state == "RUNNING"
