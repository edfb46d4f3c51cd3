"""The manifests and the functions agree: each task that a workflow names is there, and takes what it gets."""

from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

import podium_workers.audio
import podium_workers.patterns  # noqa: F401
from podium.cli.lint import lint
from podium_workers import registry
from support.firmware import SAMPLE

MANIFESTS = sorted(SAMPLE.parent.rglob("*.yaml"))
BODIES = [body for path in MANIFESTS for body in yaml.safe_load_all(path.read_text())]
WORKFLOWS = {body["metadata"]["name"]: body["spec"] for body in BODIES if body["kind"] == "Workflow"}


def find_tasks(tasks: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for task in tasks:
        yield task
        for branch in [
            *task.get("forkTasks", []),
            *task.get("decisionCases", {}).values(),
            task.get("defaultCase", []),
        ]:
            yield from find_tasks(branch)


def all_tasks(name: str) -> list[dict[str, Any]]:
    return list(find_tasks(WORKFLOWS[name]["definition"]["tasks"]))


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.stem)
def test_each_manifest_passes_lint_without_a_word(path: Any) -> None:
    done = CliRunner().invoke(lint, ["--strict", str(path)])
    assert (done.exit_code, done.stdout) == (0, ""), done.stdout


@pytest.mark.parametrize("name", WORKFLOWS)
def test_each_task_is_given_what_its_function_takes(name: str) -> None:
    for task in all_tasks(name):
        if task["type"] != "SIMPLE":
            continue
        assert task["name"] in registry, task["name"]
        signature = registry[task["name"]].signature
        given = set(task["inputParameters"])
        assert given <= {parameter.name for parameter in signature.parameters}, task["taskReferenceName"]
        assert {item.name for item in signature.parameters if item.required} <= given


@pytest.mark.parametrize("name", WORKFLOWS)
def test_each_input_that_is_read_is_in_the_schema(name: str) -> None:
    spec = WORKFLOWS[name]
    known = {"reason", "workflowId", "failureStatus", "failedWorkflow"} | set(
        spec.get("inputSchema", {}).get("properties", {})
    )
    text = yaml.safe_dump(spec)
    read = {part.split("}")[0].split(".")[0].split("[")[0] for part in text.split("${workflow.input.")[1:]}
    if "inputSchema" in spec:
        assert read <= known
    assert set(spec.get("inputDefaults", {})) <= known


@pytest.mark.parametrize("name", WORKFLOWS)
def test_no_case_is_empty_because_conductor_would_take_the_default(name: str) -> None:
    for task in all_tasks(name):
        assert all(task.get("decisionCases", {"x": ["y"]}).values()), task["taskReferenceName"]


def test_every_task_has_a_pool() -> None:
    served = [kind for body in BODIES if body["kind"] == "WorkerPool" for kind in body["spec"]["taskTypes"]]
    used = {task["name"] for name in WORKFLOWS for task in all_tasks(name) if task["type"] == "SIMPLE"}
    assert used <= set(served)
    assert len(served) == len(set(served))
    assert all(kind in registry for kind in served)
