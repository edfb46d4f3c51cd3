"""A WorkflowRun is one run in a real Conductor, and its status is the truth about it."""

import asyncio
import json

import pytest

from podium.ports import Json
from support.bed import Bed, condition, workflow, workflow_run
from support.eventually import eventually
from support.guarded_proxy import GuardedProxy

pytestmark = pytest.mark.slow


async def conductor_runs(bed: Bed, name: str) -> list[Json]:
    """Every run of a workflow that Conductor has."""
    return await bed.conductor._search("/workflow/search", f"workflowType={bed.namespace}.{name}")


async def test_a_run_from_manifest_to_result(bed: Bed) -> None:
    await bed.start_operator()
    await bed.start_worker("make", "publish")
    await bed.apply(
        workflow(
            "video",
            "make",
            "publish",
            output={"from": {"_type": "reference", "nodeId": "n1", "outputKey": "of"}},
        ),
        workflow_run("video-1", "video", input={"prompt": "a red chair"}),
    )
    await bed.kubectl(
        "wait", "--for=condition=Succeeded", "workflowrun/video-1", "-n", bed.namespace, "--timeout=30s"
    )
    body = await bed.get("WorkflowRun", "video-1")
    status = body["status"]
    assert status["phase"] == "Succeeded"
    assert status["progress"] == "2/2"
    assert status["output"] == {"from": "n1"}
    assert status["counts"] == {"pending": 0, "running": 0, "completed": 2, "failed": 0}
    assert [(task["id"], task["status"], task["attempts"]) for task in status["tasks"]] == [
        ("n1", "Completed", 1),
        ("n2", "Completed", 1),
    ]
    assert status["startedAt"] <= status["finishedAt"]
    assert {item["type"]: item["status"] for item in status["conditions"]} == {
        "Ready": "True",
        "Succeeded": "True",
        "Finished": "True",
    }
    assert len(await conductor_runs(bed, "video")) == 1
    table = await bed.kubectl("get", "workflowruns", "-n", bed.namespace)
    assert table.split("\n")[0].split() == [
        "NAME",
        "WORKFLOW",
        "PHASE",
        "PROGRESS",
        "CURRENT",
        "STARTED",
        "AGE",
    ]


async def test_the_status_follows_while_it_runs(bed: Bed) -> None:
    await bed.start_operator()
    await bed.apply(workflow("slow", "first", "second"), workflow_run("s", "slow"))
    body = await bed.until_phase("s", "Running")
    assert body["status"]["currentTask"] == "n1"
    assert condition(body, "Reconciling")["status"] == "True"
    assert condition(body, "Succeeded")["status"] == "Unknown"
    await bed.start_worker("first")
    body = await bed.until("WorkflowRun", "s", lambda body: body["status"].get("currentTask") == "n2")
    assert body["status"]["progress"] == "1/2"


async def test_a_failure_says_which_task_and_why(bed: Bed) -> None:
    await bed.start_operator()
    no = {"status": "FAILED", "reasonForIncompletion": "the disk is full"}
    await bed.start_worker("save", answer=lambda _: no)
    await bed.apply(
        workflow("bad", "save", taskDefaults={"retries": 1, "retryDelay": "1s"}), workflow_run("b", "bad")
    )
    body = await bed.until_phase("b", "Failed")
    assert body["status"]["message"] == "n1 failed after 2 attempts: the disk is full"
    assert (
        body["status"]["tasks"][0] | {"message": "the disk is full", "attempts": 2}
        == body["status"]["tasks"][0]
    )
    assert condition(body, "Stalled")["status"] == "True"
    assert condition(body, "Succeeded")["status"] == "False"


async def test_bad_input_starts_nothing(bed: Bed) -> None:
    await bed.start_operator()
    schema = {
        "type": "object",
        "required": ["size"],
        "properties": {"size": {"type": "integer", "minimum": 1}},
    }
    await bed.apply(
        workflow("typed", "a", inputSchema=schema, inputDefaults={"colour": "red"}),
        workflow_run("wrong", "typed", input={"size": 0}),
        workflow_run("missing", "typed"),
        workflow_run("right", "typed", input={"size": 3}),
    )
    body = await bed.until_phase("wrong", "Failed")
    assert condition(body, "Ready")["reason"] == "InvalidInput"
    assert body["status"]["message"].startswith("spec.input.size: 0 is less than the minimum of 1")
    body = await bed.until_phase("missing", "Failed")
    assert "'size' is a required property" in body["status"]["message"]
    await bed.until_phase("right", "Running")
    [started] = await conductor_runs(bed, "typed")
    run = await bed.conductor._read("GET", f"/workflow/{started['workflowId']}")
    assert run["input"] == {"size": 3, "colour": "red"}


async def test_pause_resume_terminate(bed: Bed) -> None:
    await bed.start_operator()
    await bed.apply(workflow("long", "a", "b"), workflow_run("l", "long"))
    await bed.until_phase("l", "Running")
    await bed.apply(workflow_run("l", "long", desiredState="Paused"))
    body = await bed.until_phase("l", "Paused")
    workflow_id = body["status"]["conductor"]["workflowId"]
    assert (await bed.conductor.get_runs([workflow_id]))[workflow_id].state == "PAUSED"
    await bed.apply(workflow_run("l", "long", desiredState="Running"))
    await bed.until_phase("l", "Running")
    await bed.apply(workflow_run("l", "long", desiredState="Terminated"))
    body = await bed.until_phase("l", "Terminated")
    assert body["status"]["message"] == "terminated through its WorkflowRun"
    assert (await bed.conductor.get_runs([workflow_id]))[workflow_id].state == "TERMINATED"


async def test_deleting_a_running_run_ends_it_in_conductor_and_orphaning_does_not(bed: Bed) -> None:
    await bed.start_operator()
    await bed.apply(
        workflow("del", "a"), workflow_run("d", "del"), workflow_run("o", "del", deletionPolicy="Orphan")
    )
    ids = [(await bed.until_phase(name, "Running"))["status"]["conductor"]["workflowId"] for name in "do"]
    await bed.kubectl("delete", "workflowrun", "d", "o", "-n", bed.namespace, "--timeout=20s")
    views = await bed.conductor.get_runs(ids)
    assert [views[workflow_id].state for workflow_id in ids] == ["TERMINATED", "RUNNING"]


async def test_a_run_waits_for_its_workflow(bed: Bed) -> None:
    await bed.start_operator()
    await bed.start_worker("a")
    await bed.apply(workflow_run("early", "later"))
    body = await bed.until_phase("early", "Pending")
    assert condition(body, "Ready")["reason"] == "WorkflowNotFound"
    await bed.apply(workflow("later", "a"))
    await bed.until_phase("early", "Succeeded")


async def test_a_run_starts_once_its_sub_workflow_is_registered_and_asks_calmly(bed: Bed) -> None:
    call = {"name": "s", "taskReferenceName": "s", "type": "SUB_WORKFLOW"}
    call |= {"subWorkflowParam": {"name": "inner"}}
    async with GuardedProxy(bed.server.url) as door:
        await bed.start_operator(conductor_url=door.url)
        await bed.start_worker("a")
        await bed.apply(workflow("outer", definition={"tasks": [call]}), workflow_run("r", "outer"))
        body = await bed.until(
            "WorkflowRun", "r", lambda body: ".inner defined" in condition(body, "Ready").get("message", "")
        )
        assert (body["status"]["phase"], condition(body, "Ready")["reason"]) == (
            "Pending",
            "WorkflowNotReady",
        )
        await bed.apply(workflow("inner", "a"))
        await bed.until_phase("r", "Succeeded")
        tries = [
            status for _, method, path, status in door.answers if (method, path) == ("POST", "/api/workflow")
        ]
        # One in five seconds: each writes to the object twice, and 500 is no outage of Conductor.
        assert (tries[0], tries[-1]) == (500, 200)
        assert len(tries) <= 3
        assert await bed.events("ConductorUnavailable") == []
        await bed.stop_operator()


async def test_a_run_is_pinned_to_the_version_it_started_with(bed: Bed) -> None:
    await bed.start_operator()
    await bed.apply(workflow("pin", "a"), workflow_run("old", "pin"))
    await bed.until_phase("old", "Running")
    await bed.apply(workflow("pin", "a", "b"))
    await bed.until("Workflow", "pin", lambda body: body["status"]["conductor"]["version"] == 2)
    await bed.apply(
        workflow_run("new", "pin"),
        workflow_run("first", "pin", version=1),
        workflow_run("none", "pin", version=9),
    )
    seen = {name: await bed.until_phase(name, "Running") for name in ("old", "new", "first")}
    assert {name: body["status"]["conductor"]["version"] for name, body in seen.items()} == {
        "old": 1,
        "new": 2,
        "first": 1,
    }
    body = await bed.until_phase("none", "Failed")
    assert "has no version 9" in body["status"]["message"]


async def test_namespaces_do_not_see_each_others_tasks(bed: Bed) -> None:
    await bed.start_operator()
    stranger = await bed.start_worker("a", domain="another-namespace")
    plain = await bed.start_worker("a", domain=None)
    await bed.apply(workflow("mine", "a"), workflow_run("m", "mine"))
    await bed.until_phase("m", "Running")
    own = await bed.start_worker("a")
    await bed.until_phase("m", "Succeeded")
    assert not [
        task for worker in (stranger, plain) for task in worker.seen if task["domain"] == bed.namespace
    ]
    assert len(own.seen) == 1


async def test_shared_isolation_is_for_workers_that_poll_without_a_domain(bed: Bed) -> None:
    kind = f"plain-{bed.namespace}"
    await bed.start_operator(isolation="Shared")
    await bed.start_worker(kind, domain=None)
    await bed.apply(workflow("open", kind), workflow_run("o", "open"))
    await bed.until_phase("o", "Succeeded")


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("notices alone", {"sweep_interval": 3600.0, "resync_interval": 3600.0}),
        ("the sweep alone", {"notice_token": "", "sweep_interval": 0.5}),
    ],
)
async def test_either_way_of_hearing_is_enough(bed: Bed, name: str, settings: Json) -> None:
    await bed.start_operator(**settings)
    await bed.start_worker("a", "b", seconds=0.3)
    await bed.apply(workflow("heard", "a", "b"), *(workflow_run(f"h{n}", "heard") for n in range(5)))
    bodies = await asyncio.gather(*(bed.until_phase(f"h{n}", "Succeeded") for n in range(5)))
    assert {body["status"]["progress"] for body in bodies} == {"2/2"}


async def test_no_request_per_run_when_nothing_moves(bed: Bed) -> None:
    await bed.start_operator(sweep_interval=0.3, drift_interval=3600.0)
    await bed.apply(workflow("idle", "nobody"), *(workflow_run(f"i{n}", "idle") for n in range(20)))
    await asyncio.gather(*(bed.until_phase(f"i{n}", "Running") for n in range(20)))

    async def metric(name: str) -> float:
        import aiohttp

        address, _ = bed._notices
        async with aiohttp.ClientSession() as session, session.get(f"http://{address}/metrics") as answer:
            text = await answer.text()
        return next(float(line.split()[1]) for line in text.splitlines() if line.startswith(name + " "))

    # Once quiet, ten more sweeps cost two requests each, whatever the number of runs, and no write.
    async def quiet() -> tuple[float, float]:
        before = await metric("podium_conductor_requests"), await metric("podium_status_writes")
        await asyncio.sleep(1.5)
        after = await metric("podium_conductor_requests"), await metric("podium_status_writes")
        return after[0] - before[0], after[1] - before[1]

    await eventually(quiet, lambda seen: seen[0] <= 12 and seen[1] == 0, within=20)


async def test_a_notice_without_the_secret_is_refused(bed: Bed) -> None:
    import aiohttp

    await bed.start_operator()
    address, token = bed._notices
    async with aiohttp.ClientSession() as session:
        for headers, wanted in (
            ({}, 401),
            ({"Authorization": "Bearer no"}, 401),
            ({"Authorization": f"Bearer {token}"}, 200),
        ):
            async with session.post(
                f"http://{address}/notices/workflow", data=json.dumps({"workflowId": "x"}), headers=headers
            ) as answer:
                assert answer.status == wanted


async def test_a_large_output_is_cut_and_the_status_stays_small(bed: Bed) -> None:
    await bed.start_operator()
    big = {"status": "COMPLETED", "outputData": {"text": "x" * 100_000}}
    types = [f"t{n}" for n in range(30)]
    await bed.start_worker(*types, answer=lambda _: big)
    await bed.apply(workflow("big", *types), workflow_run("b", "big"))
    body = await bed.until_phase("b", "Succeeded", within=60)
    assert body["status"]["outputTruncated"] is True
    assert len(body["status"]["tasks"]) == 16
    assert len(json.dumps(body["status"])) <= 8192


async def test_what_people_want_to_know_is_an_event_once(bed: Bed) -> None:
    await bed.start_operator()
    await bed.start_worker("a")
    await bed.apply(workflow("told", "a"), workflow_run("t", "told"))
    await bed.until_phase("t", "Succeeded")

    async def events() -> list[str]:
        found = json.loads(
            await bed.kubectl("get", "events.events.k8s.io", "-n", bed.namespace, "-o", "json")
        )
        return sorted(item["reason"] for item in found["items"] if item["regarding"]["kind"] == "WorkflowRun")

    await eventually(events, lambda seen: seen == ["Started", "Succeeded"])
