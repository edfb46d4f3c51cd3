"""A Workflow becomes a definition in a real Conductor, and stays what its manifest says."""

import json
from datetime import UTC, datetime

import pytest

from podium.ports import Json
from support.bed import Bed, condition, is_ready, workflow, workflow_run
from support.eventually import eventually

pytestmark = pytest.mark.slow


def task(kind: str, **given: object) -> Json:
    return {"name": kind.lower(), "taskReferenceName": kind.lower(), "type": kind, "inputParameters": given}


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


async def versions(bed: Bed, name: str) -> list[int]:
    return [item["version"] for item in await bed.conductor.get_definitions(f"{bed.namespace}.{name}")]


async def test_an_applied_workflow_is_registered(bed: Bed) -> None:
    await bed.start_operator()
    await bed.apply(workflow("video", "make", "publish"))
    body = await bed.until_ready("video")
    assert body["status"]["conductor"]["name"] == f"{bed.namespace}.video"
    assert body["status"]["conductor"]["version"] == 1
    assert body["status"]["taskTypes"] == ["make", "publish"]
    assert await versions(bed, "video") == [1]
    # Nobody polls these types, and a person should hear of it before a run waits for ever.
    assert condition(body, "WorkersAvailable")["status"] == "False"
    assert "make, publish" in condition(body, "WorkersAvailable")["message"]
    assert {"make", "publish"} <= await bed.conductor.list_task_types()


async def test_an_unchanged_apply_writes_nothing(bed: Bed) -> None:
    await bed.start_operator()
    await bed.apply(workflow("same", "a", revisionHistoryLimit=5))
    await bed.until_ready("same")
    await eventually(lambda: bed.get("Workflow", "same"), lambda body: condition(body, "WorkersAvailable"))
    before = await bed.get("Workflow", "same")
    stamps = await bed.conductor.list_definition_stamps()
    assert "unchanged" in await bed.apply(workflow("same", "a", revisionHistoryLimit=5))
    # What the definition does not depend on is a new generation, and no new version.
    await bed.apply(workflow("same", "a", revisionHistoryLimit=6))
    body = await bed.until(
        "Workflow", "same", lambda body: is_ready(body) and body["metadata"]["generation"] == 2
    )
    assert body["status"]["conductor"] == before["status"]["conductor"]
    after = await bed.conductor.list_definition_stamps()
    assert {pair: at for pair, at in after.items() if pair[0] == f"{bed.namespace}.same"} == {
        pair: at for pair, at in stamps.items() if pair[0] == f"{bed.namespace}.same"
    }


async def test_a_changed_spec_is_a_new_version_and_old_ones_go(bed: Bed) -> None:
    await bed.start_operator()
    for number in range(1, 5):
        await bed.apply(workflow("grow", *["a"] * number, revisionHistoryLimit=1))
        await bed.until(
            "Workflow",
            "grow",
            lambda body, number=number: is_ready(body) and body["status"]["conductor"]["version"] == number,
        )
    await eventually(lambda: versions(bed, "grow"), lambda found: found == [3, 4])


async def test_a_version_that_a_run_refers_to_stays(bed: Bed) -> None:
    await bed.start_operator()
    await bed.apply(workflow("kept", "a", revisionHistoryLimit=0), workflow_run("r", "kept"))
    await bed.until_phase("r", "Running")
    await bed.apply(workflow("kept", "a", "b", revisionHistoryLimit=0))
    await bed.until("Workflow", "kept", lambda body: body["status"]["conductor"]["version"] == 2)
    assert await versions(bed, "kept") == [1, 2]
    await bed.kubectl("delete", "workflowrun", "r", "-n", bed.namespace)
    await eventually(lambda: versions(bed, "kept"), lambda found: found == [2], within=15)


async def test_a_version_that_a_run_of_another_workflow_will_call_stays(bed: Bed) -> None:
    """Conductor writes it into the run that calls at its start, and fails that if it is gone by then."""
    await bed.start_operator()
    child = workflow("child", definition={"tasks": [task("SET_VARIABLE", a=1)]}, revisionHistoryLimit=0)
    call = {**task("SUB_WORKFLOW"), "subWorkflowParam": {"name": "child"}}
    await bed.apply(child)
    await bed.until_ready("child")
    await bed.apply(
        workflow("parent", definition={"tasks": [task("HUMAN"), call]}), workflow_run("p", "parent")
    )
    await bed.until_phase("p", "Running")
    child["spec"]["definition"] = {"tasks": [task("SET_VARIABLE", a=2)]}
    await bed.apply(child)
    await bed.until("Workflow", "child", lambda body: body["status"]["conductor"]["version"] == 2)
    assert await versions(bed, "child") == [1, 2]
    said = [{"task": "human", "attempt": 1, "decision": "Approve", "by": "alex", "at": now()}]
    patch = json.dumps({"status": {"approvals": said}})
    await bed.kubectl(
        *(
            "patch",
            "workflowrun",
            "p",
            "-n",
            bed.namespace,
            "--subresource=status",
            "--type=merge",
            "-p",
            patch,
        )
    )
    await bed.until_phase("p", "Succeeded")


@pytest.mark.parametrize("how", ["altered", "written over", "removed"])
async def test_a_definition_changed_by_hand_is_restored(bed: Bed, how: str) -> None:
    await bed.start_operator()
    await bed.apply(workflow("drift", "a", "b"))
    await bed.until_ready("drift")
    [original] = await bed.conductor.get_definitions(f"{bed.namespace}.drift")
    if how == "altered":
        await bed.conductor.put_definition({**original, "timeoutSeconds": 7, "timeoutPolicy": "TIME_OUT_WF"})
    elif how == "written over":
        await bed.conductor.put_definition({**original, "timeoutSeconds": 7, "metadata": {}})
    else:
        await bed.conductor.delete_definition(original["name"], 1)

    async def stored() -> list[Json]:
        return await bed.conductor.get_definitions(original["name"])

    [restored] = await eventually(
        stored, lambda found: [item["timeoutSeconds"] for item in found] == [original["timeoutSeconds"]]
    )
    assert restored["version"] == 1
    assert restored["tasks"] == original["tasks"]
    events = await eventually(
        lambda: bed.kubectl("get", "events.events.k8s.io", "-n", bed.namespace),
        lambda text: "Restored" in text,
    )
    assert "altered or removed" in events


async def test_deleting_a_workflow_removes_its_definitions_and_orphaning_does_not(bed: Bed) -> None:
    await bed.start_operator()
    await bed.apply(workflow("gone", "a"), workflow("left", "a", deletionPolicy="Orphan"))
    await bed.until_ready("gone")
    await bed.until_ready("left")
    await bed.kubectl("delete", "workflow", "gone", "left", "-n", bed.namespace, "--timeout=20s")
    assert await versions(bed, "gone") == []
    assert await versions(bed, "left") == [1]
    # Made again, it takes back what it left: same owner, same content, same version.
    await bed.apply(workflow("left", "a"))
    body = await bed.until_ready("left")
    assert body["status"]["conductor"]["version"] == 1


async def test_a_definition_of_someone_else_is_adopted_only_when_asked(bed: Bed) -> None:
    name = f"{bed.namespace}.theirs"
    theirs = {
        "name": name,
        "version": 5,
        "timeoutSeconds": 60,
        "tasks": [{"name": "x", "taskReferenceName": "x", "type": "SIMPLE"}],
    }
    await bed.conductor.put_definition(theirs)
    await bed.start_operator()
    await bed.apply(workflow("theirs", "a"))
    body = await bed.until("Workflow", "theirs", lambda body: condition(body, "Stalled"))
    assert condition(body, "Ready")["reason"] == "NameTaken"
    assert f"set spec.conductorName: {name}" in condition(body, "Ready")["message"]
    assert await versions(bed, "theirs") == [5]
    await bed.apply(workflow("theirs", "a", conductorName=name))
    body = await bed.until_ready("theirs")
    assert body["status"]["conductor"] == {**body["status"]["conductor"], "name": name, "version": 6}
    assert await versions(bed, "theirs") == [5, 6]


async def test_what_lint_refuses_is_stalled_with_the_field(bed: Bed) -> None:
    await bed.start_operator()
    nodes = [{"id": "a", "type": "x", "dependsOn": ["b"]}, {"id": "b", "type": "x", "dependsOn": ["a"]}]
    await bed.apply(workflow("loop", graph={"nodes": nodes}))
    body = await bed.until("Workflow", "loop", lambda body: condition(body, "Stalled"))
    assert condition(body, "Ready")["reason"] == "InvalidDefinition"
    assert "spec.graph" in condition(body, "Ready")["message"]
    assert await versions(bed, "loop") == []
    # Mended, it goes on by itself.
    await bed.apply(workflow("loop", graph={"nodes": [{"id": "a", "type": "x"}]}))
    assert not condition(await bed.until_ready("loop"), "Stalled")


async def test_two_workflows_that_share_a_task_type_do_not_fight(bed: Bed) -> None:
    await bed.start_operator()
    kind = f"shared-{bed.namespace}"
    await bed.apply(
        workflow("one", kind, taskTypes={kind: {"retries": 1}}),
        workflow("two", kind, taskTypes={kind: {"retries": 7}}),
    )
    await bed.until_ready("one")
    await bed.until_ready("two")
    retries = [
        (await bed.conductor.get_definitions(f"{bed.namespace}.{name}"))[0]["tasks"][0]["taskDefinition"][
            "retryCount"
        ]
        for name in ("one", "two")
    ]
    assert retries == [1, 7]
    stamps = await bed.conductor.list_definition_stamps()
    # Neither writes again while the other is there: three drift looks later nothing has moved.
    sweeps = bed.conductor.requests
    await eventually(lambda: _bump(bed), lambda _: bed.conductor.requests > sweeps + 5, every=0.5)
    assert await bed.conductor.list_definition_stamps() == stamps


async def _bump(bed: Bed) -> None:
    await bed.conductor.list_task_types()
