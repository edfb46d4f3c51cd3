"""Finished runs go when their time is over; what goes from Kubernetes stays in Conductor unless purged."""

import asyncio

import pytest

from support.bed import Bed, workflow, workflow_run
from support.eventually import eventually

pytestmark = pytest.mark.slow


async def names(bed: Bed) -> set[str]:
    return {body["metadata"]["name"] for body in await bed.cluster.list("WorkflowRun", bed.namespace)}


async def workflow_id(bed: Bed, name: str) -> str:
    return str((await bed.get("WorkflowRun", name))["status"]["conductor"]["workflowId"])


async def rows(bed: Bed, name: str) -> set[str]:
    found = await bed.conductor._search("/workflow/search", f"workflowType={bed.namespace}.{name}")
    return {item["workflowId"] for item in found}


async def test_finished_runs_go_by_their_time_and_stay_in_conductor(bed: Bed) -> None:
    await bed.start_operator()
    await bed.start_worker("a")
    await bed.apply(
        workflow("short", "a", runHistory={"ttlAfterFinished": "1s"}),
        workflow_run("own", "short", ttlAfterFinished="1h"),
        workflow_run("gone", "short"),
        workflow_run("tracked", "short")
        | {"metadata": {"name": "tracked", "annotations": {"argocd.argoproj.io/tracking-id": "x"}}},
    )
    body = await bed.until_phase("gone", "Succeeded")
    await eventually(lambda: names(bed), lambda left: left == {"own", "tracked"})
    runs = await bed.conductor.get_runs([body["status"]["conductor"]["workflowId"]])
    assert [run.state for run in runs.values() if run] == ["COMPLETED"]
    [event] = await eventually(lambda: bed.events("RunsDeleted"), bool)
    assert event["regarding"]["kind"] == "Workflow"
    assert (
        event["note"]
        == "finished runs deleted: 1 (1 past ttlAfterFinished); what Conductor has of them stays there"
    )


async def test_a_run_whose_workflow_is_gone_goes_by_its_own_time(bed: Bed) -> None:
    await bed.start_operator()
    await bed.start_worker("a")
    await bed.apply(workflow("w", "a"), workflow_run("r", "w", ttlAfterFinished="4s"))
    await bed.until_phase("r", "Succeeded")
    await bed.kubectl("delete", "workflow", "w", "-n", bed.namespace, "--timeout=20s")
    assert await names(bed) == {"r"}
    await eventually(lambda: names(bed), lambda left: not left)


async def test_limits_are_kept_also_when_they_come_later_or_the_operator_was_away(bed: Bed) -> None:
    await bed.start_operator()
    await bed.start_worker("a")
    await bed.apply(workflow("many", "a"), *(workflow_run(f"r{n}", "many") for n in range(6)))
    await asyncio.gather(*(bed.until_phase(f"r{n}", "Succeeded") for n in range(6)))
    assert len(await names(bed)) == 6, "without limits what people made stays"
    await bed.stop_operator()
    await bed.apply(workflow("many", "a", runHistory={"succeeded": 2}))
    await bed.start_operator()
    await eventually(lambda: names(bed), lambda left: len(left) == 2)
    await bed.apply(workflow("many", "a", runHistory={"succeeded": 1}))
    await eventually(lambda: names(bed), lambda left: len(left) == 1)


async def test_a_purged_run_is_gone_from_conductor_with_its_sub_workflows(bed: Bed) -> None:
    await bed.start_operator()
    await bed.start_worker("a")
    await bed.apply(
        workflow("inner", "a"),
        workflow(
            "outer",
            definition={
                "tasks": [
                    {
                        "name": "s",
                        "taskReferenceName": "s",
                        "type": "SUB_WORKFLOW",
                        "subWorkflowParam": {"name": "inner"},
                    }
                ]
            },
            runHistory={"purge": True, "ttlAfterFinished": "2s"},
        ),
        workflow_run("p", "outer"),
        workflow_run("kept", "inner"),
    )
    await bed.until_phase("p", "Succeeded")
    await bed.until_phase("kept", "Succeeded")
    run = await workflow_id(bed, "p")
    kept = await workflow_id(bed, "kept")
    await eventually(lambda: rows(bed, "inner"), lambda found: len(found) == 2)
    await eventually(lambda: names(bed), lambda left: left == {"kept"})
    assert (await bed.conductor.get_runs([run]))[run] is None
    await eventually(lambda: rows(bed, "outer"), lambda found: not found)
    await eventually(lambda: rows(bed, "inner"), lambda found: found == {kept})
    [event] = await eventually(lambda: bed.events("Purged"), bool)
    assert event["note"] == (
        f"run {run} was removed from Conductor with 1 runs that it had started; its data is gone"
    )
    [told] = await eventually(lambda: bed.events("RunsDeleted"), bool)
    assert told["note"].endswith("; removed from Conductor too")


async def test_deleting_a_running_run_with_purge_ends_and_removes_it(bed: Bed) -> None:
    await bed.start_operator()
    await bed.apply(workflow("long", "nobody"), workflow_run("p", "long", deletionPolicy="Purge"))
    await bed.until_phase("p", "Running")
    run = await workflow_id(bed, "p")
    await bed.kubectl("delete", "workflowrun", "p", "-n", bed.namespace, "--timeout=20s")
    assert (await bed.conductor.get_runs([run]))[run] is None
    await eventually(lambda: rows(bed, "long"), lambda found: not found)


async def test_a_purge_does_not_hang_when_conductor_is_away(bed: Bed) -> None:
    await bed.start_operator()
    await bed.start_worker("a")
    await bed.apply(workflow("w", "a"), workflow_run("p", "w", deletionPolicy="Purge"))
    await bed.until_phase("p", "Succeeded")
    await bed.stop_operator()
    await bed.start_operator(conductor_url="http://127.0.0.1:1/api", deletion_timeout=2.0)
    await bed.kubectl("delete", "workflowrun", "p", "-n", bed.namespace, "--timeout=20s")
    [event] = await eventually(lambda: bed.events("PurgeIncomplete"), bool)
    assert "no connection to Conductor" in event["note"]


async def test_an_output_that_conductor_keeps_elsewhere_is_a_path_in_the_status(bed: Bed) -> None:
    await bed.start_operator()
    sizes = {"four": 4_000_000, "eight": 8_000_000}
    for kind, size in sizes.items():
        big = {"status": "COMPLETED", "outputData": {"text": "x" * size}}
        await bed.start_worker(kind, answer=lambda _, big=big: big)
        await bed.apply(workflow(kind, kind), workflow_run(kind, kind))
    four = (await bed.until_phase("four", "Succeeded", within=60))["status"]
    eight = (await bed.until_phase("eight", "Succeeded", within=60))["status"]
    assert (four.get("outputTruncated"), four.get("outputPath")) == (True, None)
    assert eight["outputTruncated"] is True
    run = await bed.conductor._read("GET", f"/workflow/{eight['conductor']['workflowId']}")
    assert eight["outputPath"] == run["externalOutputPayloadStoragePath"]
