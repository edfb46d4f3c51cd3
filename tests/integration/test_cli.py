"""The commands for runs, end to end: the operator, Conductor and a worker behind them."""

import asyncio
import json
import os
import subprocess
import sys
from typing import Any

import pytest

from podium.ports import Json
from support.bed import Bed, workflow, workflow_run
from support.eventually import eventually
from support.guarded_proxy import GuardedProxy

pytestmark = pytest.mark.slow

TEXT = {"_type": "reference", "nodeId": "n1", "outputKey": "text"}


async def podium(bed: Bed, *arguments: str, conductor: bool = True) -> subprocess.CompletedProcess[str]:
    """The command as a person in this namespace gives it, in a process of its own."""
    environment = os.environ | {"KUBECONFIG": str(bed.plane.kubeconfig)}
    environment |= {"CONDUCTOR_SERVER_URL": bed.server.url if conductor else ""}
    argv = [sys.executable, "-c", "from podium.cli import main; main(prog_name='podium')"]
    return await asyncio.to_thread(
        subprocess.run,
        [*argv, *arguments, "-n", bed.namespace],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def with_text(text: str, *logs: str) -> Any:
    """A worker's answer with this text, and these lines in the task's log."""

    def answer(task: Json) -> Json:
        lines = [
            {"log": line, "taskId": task["taskId"], "createdTime": 1_700_000_000_000 + at}
            for at, line in enumerate(logs)
        ]
        return {"status": "COMPLETED", "outputData": {"text": text}, "logs": lines}

    return answer


async def test_run_waits_for_the_result_and_output_prints_it(bed: Bed) -> None:
    await bed.start_operator()
    await bed.start_worker("write", answer=with_text("short"))
    await bed.apply(workflow("letter", "write", output={"text": TEXT}))
    ended = await podium(bed, "run", "letter", "--name", "one", "--watch", "--timeout", "1m")
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines()[0] == "workflowrun.podium.dev/one created"
    assert ended.stdout.splitlines()[-1] == "one  Succeeded  1/1"
    assert json.loads((await podium(bed, "output", "one", conductor=False)).stdout) == {"text": "short"}


async def test_an_output_too_large_for_a_status_comes_whole_from_conductor(bed: Bed) -> None:
    await bed.start_operator()
    await bed.start_worker("write", answer=with_text("x" * 5_000))
    await bed.apply(workflow("letter", "write", output={"text": TEXT}), workflow_run("one", "letter"))
    await bed.until_phase("one", "Succeeded")
    assert json.loads((await podium(bed, "output", "one")).stdout) == {"text": "x" * 5_000}
    unnamed = await podium(bed, "output", "one", conductor=False)
    assert unnamed.returncode == 2
    assert "name Conductor with CONDUCTOR_SERVER_URL" in unnamed.stderr


async def test_task_logs_come_from_conductor_and_are_followed_to_the_end(bed: Bed) -> None:
    await bed.start_operator()
    await bed.start_worker("write", answer=with_text("a", "begun", "done"))
    await bed.apply(workflow("letter", "write", "post"), workflow_run("one", "letter"))
    await bed.until("WorkflowRun", "one", lambda body: body.get("status", {}).get("currentTask") == "n2")
    shown = await podium(bed, "logs", "one")
    assert [line.split("  ")[1:] for line in shown.stdout.splitlines()] == [["n1", "begun"], ["n1", "done"]]
    assert (await podium(bed, "logs", "one", "n2")).stdout == ""
    wrong = await podium(bed, "logs", "one", "n3")
    assert wrong.returncode == 2
    assert "one has no task 'n3' yet" in wrong.stderr

    following = asyncio.create_task(podium(bed, "logs", "one", "-f", "-o", "json"))
    await bed.start_worker("post", answer=with_text("b", "posted"), seconds=1.0)
    followed = await asyncio.wait_for(following, 60)
    lines = [json.loads(line) for line in followed.stdout.splitlines()]
    assert [(line["task"], line["text"]) for line in lines] == [
        ("n1", "begun"),
        ("n1", "done"),
        ("n2", "posted"),
    ]
    assert followed.returncode == 0


async def test_a_large_output_and_logs_come_from_the_conductor_of_the_run(bed: Bed) -> None:
    """Nothing is named: its ConductorConnection says where it is, and who may read there."""
    async with GuardedProxy(bed.server.url) as door:
        door.wanted_headers = {"X-Team": "lights"}
        connection = {
            "apiVersion": "podium.dev/v1alpha1",
            "kind": "ConductorConnection",
            "metadata": {"name": "team"},
            "spec": {"url": door.url, "auth": {"headersSecret": {"name": "headers"}}},
        }
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "headers"}}
        await bed.start_operator()
        await bed.start_worker("make", answer=with_text("x" * 5_000, "begun"))
        await bed.apply(
            secret | {"stringData": {"X-Team": "lights"}},
            connection,
            workflow("w", "make", connection="team", output={"text": TEXT}),
            workflow_run("r", "w"),
        )
        await bed.until_phase("r", "Succeeded")

        async def ask(*arguments: str) -> subprocess.CompletedProcess[str]:
            return await podium(bed, *arguments, conductor=False)

        shown = await ask("output", "r")
        assert shown.stdout.startswith("{"), shown.stderr
        assert json.loads(shown.stdout) == {"text": "x" * 5_000}
        assert "begun" in (await ask("logs", "r")).stdout
        assert (
            "no connection to" in (await ask("output", "r", "--conductor-url", "http://127.0.0.1:9")).stderr
        )
        door.wanted_headers = {"X-Team": "sound"}
        assert "does not let Podium in" in (await ask("output", "r")).stderr
        await bed.kubectl("delete", "secret", "headers", "-n", bed.namespace)
        wrong = await ask("output", "r")
        assert wrong.returncode == 2
        assert wrong.stderr == "podium: ConductorConnection team: there is no Secret headers here\n"
        around = await ask("output", "r", "--conductor-url", bed.server.url.removesuffix("/api"))
        assert json.loads(around.stdout) == {"text": "x" * 5_000}, around.stderr
        await bed.stop_operator()


async def test_a_run_is_paused_resumed_and_ended(bed: Bed) -> None:
    await bed.start_operator()
    await bed.apply(workflow("letter", "write"), workflow_run("one", "letter"), workflow_run("two", "letter"))
    await bed.until_phase("one", "Running")
    await bed.until_phase("two", "Running")
    paused = await podium(bed, "pause", "one", "--wait", "--timeout", "30s")
    assert (paused.returncode, paused.stdout) == (0, "one is paused\n"), paused.stderr
    assert (await bed.get("WorkflowRun", "one"))["status"]["phase"] == "Paused"
    resumed = await podium(bed, "resume", "one", "--wait", "--timeout", "30s")
    assert (resumed.returncode, resumed.stdout) == (0, "one goes on\n"), resumed.stderr
    ended = await podium(bed, "terminate", "two", "--wait", "--timeout", "30s")
    assert (ended.returncode, ended.stdout) == (0, "two is terminated\n"), ended.stderr
    await bed.start_worker("write")
    await bed.until_phase("one", "Succeeded")
    late = await podium(bed, "terminate", "one")
    assert (late.returncode, late.stderr) == (2, "podium: one has ended already: Succeeded\n")


async def test_a_failed_run_is_retried_restarted_and_run_again_from_a_task(bed: Bed) -> None:
    await bed.start_operator()
    failing = {"n2"}

    def answer(task: Json) -> Json:
        if task["referenceTaskName"] in failing:
            return {"status": "FAILED", "reasonForIncompletion": "no ink"}
        return {"status": "COMPLETED", "outputData": {"got": task["inputData"]}}

    worker = await bed.start_worker("write", "post", answer=answer)
    await bed.apply(workflow("letter", "write", "post", taskDefaults={"retries": 0}))
    failed = await podium(bed, "run", "letter", "--name", "one", "--wait", "--timeout", "1m")
    assert (failed.returncode, failed.stderr) == (1, "one Failed: n2 failed: no ink\n")
    failing.clear()
    retried = await podium(bed, "retry", "one", "--wait", "--timeout", "1m")
    assert (retried.returncode, retried.stdout) == (0, "retry of one: done\n"), retried.stderr
    assert retried.stderr == "one Succeeded: 2/2 tasks done\n"
    again = await podium(
        bed, "rerun", "one", "--from", "n2", "--input", '{"ink": "red"}', "--wait", "--timeout", "1m"
    )
    assert again.returncode == 0, again.stderr
    assert worker.seen[-1]["inputData"] == {"ink": "red"}
    restarted = await podium(bed, "restart", "one", "--wait", "--timeout", "1m")
    assert restarted.returncode == 0, restarted.stderr
    refs = [task["referenceTaskName"] for task in worker.seen]
    assert refs == ["n1", "n2", "n2", "n2", "n1", "n2"]
    refused = await podium(bed, "retry", "one")
    assert refused.returncode == 2
    assert refused.stderr.startswith("podium: retry of one is refused: the run succeeded")


async def test_a_task_is_skipped(bed: Bed) -> None:
    await bed.start_operator()
    await bed.apply(workflow("letter", "write", "post"), workflow_run("one", "letter"))
    await bed.until_phase("one", "Running")
    skipped = await podium(bed, "skip", "one", "n2")
    assert (skipped.returncode, skipped.stdout) == (0, "skip of one: done\n"), skipped.stderr
    await bed.start_worker("write")
    body = await bed.until_phase("one", "Succeeded")
    assert {task["id"]: task["status"] for task in body["status"]["tasks"]}["n2"] == "Skipped"


HUMAN: Json = {"name": "ask", "taskReferenceName": "ask", "type": "HUMAN", "inputParameters": {}}


async def test_a_task_that_waits_is_approved_or_rejected_each_time_anew(bed: Bed) -> None:
    await bed.start_operator()
    output = {"percent": "${ask.output.percent}"}
    await bed.apply(
        workflow("gate", definition={"tasks": [HUMAN], "outputParameters": output}),
        workflow_run("one", "gate"),
    )
    await bed.until("WorkflowRun", "one", lambda body: (body.get("status") or {}).get("currentTask") == "ask")
    rejected = await podium(bed, "reject", "one", "ask", "--note", "too hot")
    assert rejected.returncode == 0, rejected.stderr
    body = await bed.until_phase("one", "Failed")
    assert "too hot" in body["status"]["message"]

    # A restarted run asks again, and what was said before is no answer.
    restarted = await podium(bed, "restart", "one")
    assert restarted.returncode == 0, restarted.stderr
    await bed.until("WorkflowRun", "one", lambda body: body["status"].get("currentTask") == "ask")
    await asyncio.sleep(1.1)  # times are written to the second
    approved = await podium(bed, "approve", "one", "ask", "--output", '{"percent": 25}')
    assert approved.returncode == 0, approved.stderr
    body = await bed.until_phase("one", "Succeeded")
    assert body["status"]["output"] == {"percent": 25}
    assert [item["decision"] for item in body["status"]["approvals"]] == ["Reject", "Approve"]
    late = await podium(bed, "approve", "one", "ask")
    assert (late.returncode, late.stderr) == (
        2,
        "podium: ask of one does not wait for anyone: it is a HUMAN task and Completed\n",
    )


async def test_a_task_that_waits_inside_a_sub_workflow_is_approved_by_its_path(bed: Bed) -> None:
    await bed.start_operator()
    call = {"name": "review", "taskReferenceName": "review", "type": "SUB_WORKFLOW"}
    call |= {"subWorkflowParam": {"name": "inner"}}
    await bed.apply(
        workflow("inner", definition={"tasks": [HUMAN]}),
        workflow("outer", definition={"tasks": [call]}),
        workflow_run("one", "outer"),
    )
    await bed.until("WorkflowRun", "one", lambda body: "waits for an approval" in str(body.get("status")))
    assert "└── review  SUB_WORKFLOW  Running" in (await podium(bed, "tree", "one")).stdout
    approved = await podium(bed, "approve", "one", "ask")
    assert (approved.returncode, approved.stdout) == (0, "review/ask of one: approved\n"), approved.stderr
    await bed.until_phase("one", "Succeeded")


async def test_a_schedule_is_run_now_and_filled_back(bed: Bed) -> None:
    await bed.start_operator()
    await bed.start_worker("write")
    yearly = {"name": "yearly", "cron": "0 0 1 1 *", "suspend": True, "concurrencyPolicy": "Allow"}
    await bed.apply(workflow("letter", "write", schedules=[yearly]))
    await bed.until_ready("letter")

    async def runs() -> list[Json]:
        shown = await podium(bed, "get", "-w", "letter", "-o", "json")
        return [
            item for item in json.loads(shown.stdout)["items"] if item["status"].get("phase") == "Succeeded"
        ]

    assert (await podium(bed, "schedule", "run-now", "letter")).returncode == 0
    assert len(await eventually(runs, lambda found: len(found) == 1, within=60)) == 1
    filled = await podium(bed, "backfill", "letter", "yearly", "--start", "2019-06-01", "--end", "2022-06-01")
    assert filled.returncode == 0, filled.stderr
    found = await eventually(runs, lambda found: len(found) == 4, within=60)
    times = [item["metadata"].get("annotations", {}).get("podium.dev/scheduled-at", "")[:4] for item in found]
    assert {"2020", "2021", "2022"} <= set(times)
    # Only when one is done may the next one be asked for.
    await bed.until("Workflow", "letter", lambda body: body["status"]["schedules"][0]["backfill"]["done"])
    again = await podium(bed, "backfill", "letter", "yearly", "--start", "2017-06-01", "--end", "2018-06-01")
    assert again.returncode == 0, again.stderr
    listed = json.loads((await podium(bed, "schedule", "list", "letter", "-o", "json")).stdout)
    assert [(item["name"], item["suspend"]) for item in listed] == [("yearly", True)]
