"""Acting on a run through its WorkflowRun, on the real servers: once per id, and with the reason if not."""

import asyncio
import json
from typing import Any

import pytest

from podium.ports import Json
from support.bed import Bed, condition, workflow, workflow_run
from support.worker import TestWorker

pytestmark = pytest.mark.slow


class Moody:
    """A worker's answers: these references fail until they are mended."""

    def __init__(self, *failing: str) -> None:
        self.failing = set(failing)

    def __call__(self, task: Json) -> Json:
        if task["referenceTaskName"] in self.failing:
            return {"status": "FAILED", "reasonForIncompletion": "not yet"}
        return {"status": "COMPLETED", "outputData": {"got": task["inputData"]}}


NO_RETRIES: Json = {"retries": 0}


async def begin(bed: Bed, mood: Moody, *types: str, name: str = "w", **run: Any) -> TestWorker:
    await bed.start_operator()
    worker = await bed.start_worker(*types, answer=mood, seconds=0.2)
    await bed.apply(workflow(name, *types, taskDefaults=NO_RETRIES), workflow_run("r", name, **run))
    return worker


async def act(bed: Bed, run: str, **action: Any) -> Json:
    """Ask for an action and wait for its answer."""
    patch = json.dumps({"spec": {"action": action}})
    await bed.kubectl("patch", "workflowrun", run, "-n", bed.namespace, "--type=merge", "-p", patch)
    body = await bed.until(
        "WorkflowRun", run, lambda body: body["status"].get("lastAction", {}).get("id") == action["id"]
    )
    answered: Json = body["status"]["lastAction"]
    return answered


async def test_retry_goes_on_from_what_failed(bed: Bed) -> None:
    mood = Moody("n2")
    worker = await begin(bed, mood, "a", "b", "c")
    await bed.until_phase("r", "Failed")
    mood.failing.clear()
    assert (await act(bed, "r", id="1", type="Retry"))["result"] == "Done"
    body = await bed.until_phase("r", "Succeeded")
    assert [task["referenceTaskName"] for task in worker.seen] == ["n1", "n2", "n2", "n3"]
    assert condition(body, "ActionDone")["status"] == "True"
    assert "Stalled" not in {item["type"] for item in body["status"]["conditions"]}
    await bed.kubectl(
        "wait", "--for=condition=ActionDone", "workflowrun/r", "-n", bed.namespace, "--timeout=5s"
    )


async def test_restart_and_rerun_and_skip(bed: Bed) -> None:
    worker = await begin(bed, Moody(), "a", "b", "c")
    await bed.until_phase("r", "Succeeded")
    await worker.drain()  # docs/runs.md: a worker that is too quick for Conductor's rerun is overwritten
    assert (await act(bed, "r", id="1", type="Rerun", fromTask="n2", input={"size": 3}))["result"] == "Done"
    worker = await bed.start_worker("a", "b", "c", answer=Moody(), seconds=0.5)
    await bed.until_phase("r", "Succeeded")
    assert (worker.seen[0]["referenceTaskName"], worker.seen[0]["inputData"]) == ("n2", {"size": 3})
    assert (await act(bed, "r", id="2", type="Restart"))["result"] == "Done"
    assert (await act(bed, "r", id="3", type="Skip", task="n3"))["result"] == "Done"
    body = await bed.until_phase("r", "Succeeded")
    assert {task["id"]: task["status"] for task in body["status"]["tasks"]}["n3"] == "Skipped"


async def test_what_cannot_be_done_is_refused_with_the_reason_and_changes_nothing(bed: Bed) -> None:
    await begin(bed, Moody(), "a")
    await bed.apply(workflow("open", "nobody"), workflow_run("o", "open"))
    await bed.until_phase("o", "Running")
    refused = await act(bed, "o", id="1", type="Retry")
    assert (refused["result"], refused["message"][:25]) == ("Refused", "the run has not ended: wa")
    refused = await act(bed, "o", id="2", type="Skip", task="n2")
    assert refused["message"] == "there is no task 'n2' in this run; there is 'n1'"
    body = await bed.get("WorkflowRun", "o")
    assert body["status"]["phase"] == "Running"
    assert condition(body, "ActionDone")["reason"] == "ActionRefused"
    events = await bed.kubectl("get", "events.events.k8s.io", "-n", bed.namespace, "-o", "json")
    assert {"ActionRefused"} <= {item["reason"] for item in json.loads(events)["items"]}


def sub_workflow(name: str, of: str) -> Json:
    tasks = [
        {"name": "s", "taskReferenceName": "s", "type": "SUB_WORKFLOW", "subWorkflowParam": {"name": of}}
    ]
    return workflow(name, definition={"tasks": tasks})


async def test_a_failed_sub_workflow_tells_its_reason_and_goes_on_where_it_failed(bed: Bed) -> None:
    mood = Moody("n2")
    await bed.start_operator()
    worker = await bed.start_worker("a", "b", answer=mood)
    await bed.apply(
        workflow("inner", "a", "b", taskDefaults=NO_RETRIES),
        sub_workflow("outer", "inner"),
        workflow_run("r", "outer"),
    )
    body = await bed.until_phase("r", "Failed")
    assert body["status"]["message"] == "s failed: n2 failed: not yet"
    tree = {(task.get("parent"), task["id"]): task["status"] for task in body["status"]["tasks"]}
    assert tree == {(None, "s"): "Failed", ("s", "n1"): "Completed", ("s", "n2"): "Failed"}
    mood.failing.clear()
    assert (await act(bed, "r", id="1", type="Retry"))["result"] == "Done"
    await bed.until_phase("r", "Succeeded")
    assert [task["referenceTaskName"] for task in worker.seen] == ["n1", "n2", "n2"]


async def test_a_sub_workflow_that_was_removed_begins_anew(bed: Bed) -> None:
    mood = Moody("n1")
    await bed.start_operator()
    await bed.start_worker("a", answer=mood)
    await bed.apply(
        workflow("inner", "a", taskDefaults=NO_RETRIES),
        sub_workflow("outer", "inner"),
        workflow_run("r", "outer"),
    )
    body = await bed.until_phase("r", "Failed")
    child = body["status"]["tasks"][0]["subWorkflowId"]
    await bed.conductor._send("DELETE", f"/workflow/{child}/remove", params={"archiveWorkflow": "false"})
    mood.failing.clear()
    assert (await act(bed, "r", id="1", type="Retry"))["result"] == "Done"
    body = await bed.until_phase("r", "Succeeded")


def approved(task: str, **more: Any) -> str:
    from datetime import UTC, datetime

    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    said = {"task": task, "attempt": 1, "decision": "Approve", "by": "alex", "at": now, **more}
    return json.dumps([{"op": "add", "path": "/status/approvals", "value": [said]}])


HUMAN: Json = {
    "tasks": [
        {"name": "ask", "taskReferenceName": "ask", "type": "HUMAN", "inputParameters": {}},
        {
            "name": "go",
            "taskReferenceName": "go",
            "type": "SIMPLE",
            "inputParameters": {"ok": "${ask.output}"},
        },
    ]
}


async def say(bed: Bed, run: str, patch: str) -> None:
    await bed.kubectl(
        "patch", "workflowrun", run, "-n", bed.namespace, "--subresource=status", "--type=json", "-p", patch
    )


async def test_an_approval_lets_the_run_go_on_with_its_output(bed: Bed) -> None:
    await bed.start_operator()
    worker = await bed.start_worker("go")
    await bed.apply(workflow("h", definition=HUMAN), workflow_run("r", "h"))
    body = await bed.until(
        "WorkflowRun", "r", lambda body: "approval" in condition(body, "Ready").get("message", "")
    )
    assert condition(body, "Ready")["message"] == "0/2 tasks done; ask waits for an approval"
    await say(bed, "r", approved("ask", output={"window": "tonight"}, note="fine"))
    body = await bed.until_phase("r", "Succeeded")
    [task] = worker.seen
    assert task["inputData"]["ok"]["window"] == "tonight"
    assert task["inputData"]["ok"]["approval"]["by"] == "alex"
    assert [item["task"] for item in body["status"]["approvals"]] == ["ask"], "what people wrote stays"


async def test_a_rejection_ends_the_run_and_a_retry_asks_again(bed: Bed) -> None:
    await bed.start_operator()
    await bed.start_worker("go")
    await bed.apply(workflow("h", definition=HUMAN), workflow_run("r", "h"))
    await bed.until("WorkflowRun", "r", lambda body: body.get("status", {}).get("currentTask") == "ask")
    await say(bed, "r", approved("ask", decision="Reject", note="too dark"))
    body = await bed.until_phase("r", "Failed")
    assert body["status"]["message"] == "ask failed: rejected by alex: too dark"
    assert (await act(bed, "r", id="1", type="Retry"))["result"] == "Done"
    body = await bed.until("WorkflowRun", "r", lambda body: body["status"].get("currentTask") == "ask")
    second = json.loads(approved("ask"))[0]["value"][0] | {"attempt": 2}
    await say(bed, "r", json.dumps([{"op": "add", "path": "/status/approvals/-", "value": second}]))
    await bed.until_phase("r", "Succeeded")


async def test_a_run_that_nothing_moves_says_why_and_has_not_failed(bed: Bed) -> None:
    await bed.start_operator()
    await bed.apply(workflow("idle", "nobody", progressDeadline="1s"), workflow_run("r", "idle"))
    body = await bed.until(
        "WorkflowRun", "r", lambda body: condition(body, "Progressing").get("status") == "False"
    )
    word = condition(body, "Progressing")
    assert word["reason"] == "NoProgress"
    assert f"no worker polls nobody in domain {bed.namespace}, which n1 needs" in word["message"]
    assert body["status"]["phase"] == "Running"
    await bed.start_worker("nobody")
    body = await bed.until_phase("r", "Succeeded")
    assert "Progressing" not in {item["type"] for item in body["status"]["conditions"]}


async def test_a_run_that_no_worker_takes_fails_after_its_pending_timeout(bed: Bed) -> None:
    await bed.start_operator()
    await bed.apply(workflow("idle", "nobody"), workflow_run("r", "idle", pendingTimeout="3s"))
    body = await bed.until_phase("r", "Failed")
    assert body["status"]["message"] == "no worker took nobody within 3s"
    assert condition(body, "Ready")["reason"] == "PendingTimeout"


async def test_the_failure_workflow_is_shown_with_what_came_of_it(bed: Bed) -> None:
    await bed.start_operator()
    await bed.start_worker("a", answer=Moody("n1"))
    tell = await bed.start_worker("tell")
    await bed.apply(
        workflow(
            "notify",
            flow={"nodes": [{"id": "t", "type": "tell", "config": {"why": "${workflow.input.reason}"}}]},
        ),
        workflow("bad", "a", taskDefaults=NO_RETRIES, failureWorkflow="notify"),
    )
    await bed.until_ready("notify")
    await bed.apply(workflow_run("r", "bad"))
    body = await bed.until(
        "WorkflowRun", "r", lambda body: body["status"].get("failureRun", {}).get("phase") == "Succeeded"
    )
    assert body["status"]["phase"] == "Failed"
    assert "output" not in body["status"]
    assert "not yet" in tell.seen[0]["inputData"]["why"]


@pytest.mark.parametrize(("attempt", "beats"), [(1, False), (2, False), (1, True)])
async def test_a_lost_worker_is_noticed_within_seconds_of_its_time_out(
    bed: Bed, attempt: int, beats: bool
) -> None:
    """The first attempt or the second one: the worker takes it and is never heard of again.

    `beats`: it had extended its lease before, after which Conductor alone notices two minutes late.
    """
    await bed.start_operator()
    answers: list[Json | None] = [{"status": "FAILED", "reasonForIncompletion": "x"}] * (attempt - 1)

    def silent(task: Json) -> Json | None:
        last_word = {"status": "IN_PROGRESS", "extendLease": True} if beats else None
        return answers.pop() if answers else last_word

    settings: Json = {
        "retries": attempt - 1,
        "retryDelay": "1s",
        "backoff": "Fixed",
        "responseTimeout": "3s",
        "timeout": "60s",
    }
    await bed.start_worker("a", answer=silent, seconds=1.0 if beats else 0.0)
    await bed.apply(workflow("lost", "a", taskDefaults=settings), workflow_run("r", "lost"))
    loop = asyncio.get_running_loop()
    await bed.until(
        "WorkflowRun",
        "r",
        lambda body: any(
            task["status"] == "Running" and task["attempts"] == attempt
            for task in body.get("status", {}).get("tasks", [])
        ),
    )
    taken = loop.time()
    body = await bed.until_phase("r", "TimedOut", within=60)
    print(f"attempt {attempt}: noticed {loop.time() - taken - 3:.1f} s after its time-out")
    assert body["status"]["message"].startswith("n1 timed out")
    assert loop.time() - taken < 20


async def test_actions_are_done_once_when_answers_are_lost(bed: Bed) -> None:
    from support.cutting_proxy import CuttingProxy

    mood = Moody("n1")
    async with CuttingProxy(bed.server.url) as proxy:
        await bed.start_operator(conductor_url=proxy.url, unknown_start_wait=1.5)
        worker = await bed.start_worker("a", answer=mood)
        await bed.apply(workflow("w", "a", taskDefaults=NO_RETRIES), workflow_run("r", "w"))
        body = await bed.until_phase("r", "Failed")
        workflow_id = body["status"]["conductor"]["workflowId"]
        for number, lost in enumerate(("answer", "request"), 1):
            proxy.cut("POST", f"/api/workflow/{workflow_id}/retry", every=[lost, "none"])
            assert (await act(bed, "r", id=str(number), type="Retry"))["result"] == "Done"
            await bed.until(
                "WorkflowRun",
                "r",
                lambda body, n=number: (
                    (body["status"]["phase"], body["status"]["tasks"][0]["attempts"]) == ("Failed", n + 1)
                ),
            )
        assert len(worker.seen) == 3
