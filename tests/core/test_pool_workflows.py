"""What Workflows say of the task types of a pool: how long their attempts take, how many may run at once."""

from datetime import timedelta
from typing import Any

import pytest

from podium.core.objects import Workflow, project_workflow
from podium.core.pools.demand import TaskLimit
from podium.core.pools.workflows import NO_LIMIT, limits_in, longest_task_in, uses_of

Json = dict[str, Any]
FLOW = {"flow": {"nodes": [{"id": "a", "type": "render"}]}}
HOUR = timedelta(hours=1)


def workflow(types: tuple[str, ...] = ("render",), **spec: Any) -> Workflow:
    metadata = {
        "name": "w",
        "namespace": "studio",
        "uid": "u",
        "resourceVersion": "1",
        "creationTimestamp": "2026-01-01T00:00:00Z",
    }
    if "definition" not in spec:
        spec = FLOW | spec
    made = project_workflow({"metadata": metadata, "spec": spec, "status": {"taskTypes": list(types)}})
    assert made.spec is not None, made.spec_error
    return made


def task(own: Json, name: str = "render") -> Json:
    return {"name": name, "taskReferenceName": name, "type": "SIMPLE", "taskDefinition": own}


def native(*tasks: Json, **spec: Any) -> Workflow:
    return workflow(definition={"tasks": list(tasks)}, **spec)


DYNAMIC = {"types": (), "taskTypes": {"render": {"timeout": "2h", "concurrencyLimit": 3}}}
FORKED = {"type": "FORK_JOIN", "forkTasks": [[task({"timeoutSeconds": 7200, "concurrentExecLimit": 3})]]}


@pytest.mark.parametrize(
    ("of", "longest", "at_once"),
    [
        (workflow(), timedelta(minutes=10), None),
        (workflow(taskDefaults={"timeout": "1h"}), HOUR, None),
        (
            workflow(taskTypes={"render": {"timeout": "2h", "concurrencyLimit": 3}}),
            2 * HOUR,
            3,
        ),
        (workflow(**DYNAMIC), 2 * HOUR, 3),
        (workflow(taskTypes={"render": {"timeout": "0s"}}), NO_LIMIT, None),
        (workflow(taskTypes={"render": {"timeout": "72h"}}), 72 * HOUR, None),
        (native(task({"timeoutSeconds": 7200, "concurrentExecLimit": 3})), 2 * HOUR, 3),
        (native(FORKED), 2 * HOUR, 3),
        (native(task({"retryCount": 1})), NO_LIMIT, None),
        (native(task({"timeoutSeconds": 60}), taskDefaults={"timeout": "1h"}), HOUR, None),
        (native(task({"timeoutSeconds": 10**30})), timedelta(days=3650), None),
        (
            native(task({"timeoutSeconds": "${workflow.input.t}", "concurrentExecLimit": None})),
            NO_LIMIT,
            None,
        ),
        (workflow(types=("other",)), timedelta(), None),
    ],
)
def test_a_workflow_says_how_long_and_how_many(of: Workflow, longest: timedelta, at_once: int | None) -> None:
    uses = [uses_of(of)]
    assert longest_task_in(uses, ["render"], None) == longest
    assert limits_in(uses, ["render"], None) == ({"render": TaskLimit(at_once)} if at_once else {})


def test_where_workflows_differ_the_longest_and_the_widest_hold() -> None:
    narrow = workflow(taskTypes={"render": {"timeout": "1h", "concurrencyLimit": 2}})
    wide = workflow(taskTypes={"render": {"timeout": "5m", "concurrencyLimit": 9}})
    uses = [uses_of(narrow), uses_of(wide)]
    assert longest_task_in(uses, ["render"], None) == HOUR
    assert limits_in(uses, ["render"], None) == {"render": TaskLimit(9)}
    assert limits_in([*uses, uses_of(workflow())], ["render"], None) == {}, "one without a limit has none"


def test_what_goes_through_another_conductor_does_not_count() -> None:
    uses = [uses_of(workflow(connection="orkes", taskDefaults={"timeout": "1h"}))]
    assert longest_task_in(uses, ["render"], None) == timedelta()
    assert longest_task_in(uses, ["render"], "orkes") == HOUR
