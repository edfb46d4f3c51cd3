"""Which version stands in Conductor, which old ones stay, and what is done when somebody changes them."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from podium.api.v1alpha1 import FINALIZER
from podium.core import effects as do
from podium.core.calls import Called, calls_in, find_callers, needed_versions
from podium.core.definitions import check_workflow
from podium.core.effects import Report
from podium.core.objects import Workflow, project_workflow
from podium.core.ownership import with_owner
from podium.core.workflow import Policy, RunTally, Seen, decide_workflow

Json = dict[str, Any]
NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
POLICY = Policy("c")
OWNER = "c/studio/child"


def workflow(name: str = "child", status: Json | None = None, **spec: Any) -> Workflow:
    metadata = {
        "name": name,
        "namespace": "studio",
        "uid": f"uid-{name}",
        "generation": 2,
        "creationTimestamp": "2026-01-01T00:00:00Z",
        "finalizers": [FINALIZER],
    }
    if "definition" not in spec:
        spec = {"flow": {"nodes": [{"id": "a", "type": "t"}]}} | spec
    made = project_workflow({"metadata": metadata, "spec": spec, "status": status or {}})
    assert made.spec is not None, made.spec_error
    return made


def calling(name: str, *tasks: Json, **spec: Any) -> Workflow:
    return workflow(name, definition={"tasks": list(tasks)}, **spec)


def sub(name: str, **more: Any) -> Json:
    call = {"name": name, **more}
    return {"name": "s", "taskReferenceName": "s", "type": "SUB_WORKFLOW", "subWorkflowParam": call}


def seen(of: Workflow, *definitions: Json, **more: Any) -> Seen:
    assert of.spec is not None
    checked = check_workflow(of.spec, namespace="studio", name=of.key.name, rules=POLICY.rules)
    return Seen(of, POLICY, definitions, frozenset({"t", "u"}), (), RunTally(), checked=checked, **more)


def definition_of(of: Workflow, version: int, at: datetime = NOW) -> Json:
    checked = seen(of).checked
    assert checked is not None
    assert checked.compiled is not None
    stored = with_owner(checked.compiled.definition, OWNER, version)
    return {**stored, "updateTime": int(at.timestamp() * 1000)}


OLD = workflow(flow={"nodes": [{"id": "a", "type": "u"}]})


def registered(version: int, **spec: Any) -> Workflow:
    """The current one, as its status says after it was registered."""
    checked = seen(workflow(**spec)).checked
    assert checked is not None
    assert checked.compiled is not None
    known = {"name": "studio.child", "version": version, "hash": checked.compiled.hash}
    return workflow(status={"conductor": known}, **spec)


def test_a_version_that_was_removed_has_its_number_again_though_older_ones_remain() -> None:
    step = decide_workflow(seen(registered(2), definition_of(OLD, 1)), NOW)
    assert isinstance(step, do.PutDefinition)
    assert step.definition["version"] == 2, "runs may be pinned to it"


def test_a_version_that_somebody_wrote_over_without_any_mark_is_ours_and_restored() -> None:
    theirs = {**definition_of(workflow(), 1), "metadata": {}, "description": "mine"}
    step = decide_workflow(seen(registered(1), theirs), NOW)
    assert isinstance(step, do.PutDefinition)
    assert step.definition["version"] == 1
    assert step.definition["metadata"]["podium"]["owner"] == OWNER


def test_a_version_that_belongs_to_another_owner_by_now_is_not_taken() -> None:
    theirs = with_owner(definition_of(workflow(), 1), "other/studio/child", 1)
    step = decide_workflow(seen(registered(1), theirs), NOW)
    assert isinstance(step, Report)
    assert "NameTaken" in {word.reason for word in step.words}


def deleted(called: Called) -> list[int]:
    """Versions that go, of three, of which the third is current; they were made an hour after each other."""
    of = registered(3, revisionHistoryLimit=0)
    versions = [
        definition_of(OLD, 1, NOW - timedelta(hours=3)),
        definition_of(OLD, 2, NOW - timedelta(hours=2)),
        definition_of(of, 3, NOW - timedelta(hours=1)),
    ]
    at, gone = seen(of, *versions, called=called), []
    while isinstance(step := decide_workflow(at, NOW), do.DeleteDefinition):
        gone.append(step.version)
        at = replace(at, done=at.done | {f"delete {step.version}"})
    return gone


@pytest.mark.parametrize(
    ("called", "gone"),
    [
        (Called(), [1, 2]),
        (Called(frozenset({1})), [2]),
        (Called(since=NOW - timedelta(minutes=30)), [1, 2]),
        (Called(since=NOW - timedelta(minutes=90)), [1]),
        (Called(since=NOW - timedelta(minutes=150)), []),
    ],
)
def test_versions_that_runs_of_callers_need_stay(called: Called, gone: list[int]) -> None:
    assert deleted(called) == gone


def test_versions_without_a_time_stay_while_a_caller_runs() -> None:
    assert needed_versions([{"version": 1}, {"version": 2}], Called(since=NOW)) == {1}


def test_whoever_names_it_calls_it_at_any_depth_and_through_others() -> None:
    child = workflow()
    fork = {"type": "FORK_JOIN", "forkTasks": [[sub("child", version=3)]]}
    inline = {
        "type": "SUB_WORKFLOW",
        "subWorkflowParam": {"workflowDefinition": {"tasks": [sub("studio.child")]}},
    }
    started = {
        "type": "START_WORKFLOW",
        "inputParameters": {"startWorkflow": {"name": "child", "version": 5}},
    }
    everyone = [
        child,
        calling("direct", fork),
        calling("inline", inline),
        calling("starts", started),
        calling("dynamic", sub("${workflow.input.which}")),
        calling("forks", {"type": "FORK_JOIN_DYNAMIC", "inputParameters": {"forkTaskWorkflow": "child"}}),
        workflow("fails", failureWorkflow="child"),
        calling("grandparent", sub("direct")),
        calling("stranger", sub("other")),
        workflow("alone"),
    ]
    versions, callers = find_callers(child, [(item, calls_in(item.spec)) for item in everyone])
    assert versions == {3, 5}
    assert callers == {"direct", "inline", "starts", "dynamic", "forks", "fails", "grandparent"}


def test_one_that_calls_itself_is_among_its_callers() -> None:
    of = calling("child", sub("child"))
    assert find_callers(of, [(of, calls_in(of.spec))])[1] == {"child"}
