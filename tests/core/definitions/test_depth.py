"""How deeply a spec may be nested, wherever that is."""

import inspect
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.definitions.shapes import LAW, Json, compiled, lint, native, says, simple, spec_of
from podium.api.v1alpha1.workflow_run import WorkflowRunSpec
from podium.core.definitions import Finding, lint_workflow
from podium.core.definitions.depth import DEEPEST
from podium.core.definitions.references import lint_references
from podium.core.values import every_value


def deep(levels: int, bottom: Any = "x") -> Any:
    for _ in range(levels):
        bottom = {"x": bottom}
    return bottom


def inline(levels: int) -> Json:
    tasks = [simple("a")]
    for index in range(levels):
        param = {"name": "in", "workflowDefinition": native(*tasks)}
        tasks = [
            {
                "name": "s",
                "taskReferenceName": f"s{index}",
                "type": "SUB_WORKFLOW",
                "subWorkflowParam": param,
            }
        ]
    return native(*tasks)


def switches(levels: int) -> Json:
    tasks = [simple("a")]
    for index in range(levels):
        switch = simple(f"s{index}", type="SWITCH", evaluatorType="value-param", expression="x")
        tasks = [switch | {"inputParameters": {"x": 1}, "decisionCases": {"a": tasks}}]
    return native(*tasks)


def flow(value: Any) -> Json:
    return {"nodes": [{"id": "a", "type": "t", "config": {"x": value}}]}


TOO_DEEP: dict[str, tuple[Json, str]] = {
    "variables": ({"definition": native(simple("a"), variables=deep(600))}, "spec.definition.variables.x.x"),
    "input template": ({"definition": native(simple("a"), inputTemplate=deep(5_000))}, "spec.definition.inp"),
    "definitions in definitions": ({"definition": inline(300)}, "spec.definition.tasks[0].subWorkflowParam."),
    "switches in switches": ({"definition": switches(300)}, "spec.definition.tasks[0].decisionCases.a[0]."),
    "config": ({"flow": flow(deep(600))}, "spec.flow.nodes[0].config.x.x.x"),
    "lists": ({"flow": flow([deep(130, [[]])])}, "spec.flow.nodes[0].config.x[0].x"),
    "expressions": ({"flow": flow("${" * 3_000 + "}" * 3_000)}, "spec.flow.nodes[0].config.x: "),
    "output": ({"flow": flow(1), "output": deep(600)}, "spec.output.x.x"),
    "schema": ({"flow": flow(1), "inputSchema": deep(600)}, "spec.inputSchema.x.x"),
    "defaults": ({"flow": flow(1), "inputDefaults": deep(600)}, "spec.inputDefaults.x.x"),
    "a schedule's input": (
        {"flow": flow(1), "schedules": [{"name": "s", "cron": "0 0 * * *", "input": deep(600)}]},
        "spec.schedules[0].input.x",
    ),
    "an editor's own key": (
        {"flow": {"nodes": [{"id": "a", "type": "t", "position": deep(600)}]}},
        "spec.flow.nodes[0].position.x",
    ),
    "a result's path": (
        {"stateMachine": {"startAt": "a", "steps": {"a": {"functionName": "f", "resultPath": ".x" * 2_000}}}},
        "spec.stateMachine.steps.a.resultPath: ",
    ),
}


@pytest.mark.parametrize(("parts", "where"), TOO_DEEP.values(), ids=TOO_DEEP)
def test_what_is_nested_too_deep_is_told_and_not_tried(parts: Json, where: str) -> None:
    (said,) = says(lint(**parts))
    assert said.startswith(where)
    assert f"nested deeper than {DEEPEST} levels" in said
    run = WorkflowRunSpec.model_validate(
        {"workflow": "w", "inputFrom": [{"toField": "t", "secretKeyRef": {"name": "s", "key": "k"}}]}
    )
    assert len(list(lint_references(run, spec_of(**parts)))) == 1


FINE: dict[str, Json] = {
    "variables": {"definition": native(simple("a"), variables=deep(DEEPEST - 2))},
    "definitions in definitions": {"definition": inline(20)},
    "switches in switches": {"definition": switches(40)},
    "config": {"flow": flow(deep(DEEPEST - 5))},
    "expressions": {"flow": flow("${workflow.input." * 100 + "x" + "}" * 100)},
    "expressions side by side": {"flow": flow("${workflow.input.x} $${y} {z}}" * 500)},
    "a result's path": {
        "stateMachine": {"startAt": "a", "steps": {"a": {"functionName": "f", "resultPath": ".x" * DEEPEST}}}
    },
}


@pytest.mark.parametrize("parts", FINE.values(), ids=FINE)
def test_the_deepest_that_is_allowed_compiles(parts: Json) -> None:
    assert compiled(**parts).hash


def test_where_the_stack_ends_all_the_same_it_is_a_finding() -> None:
    spec = spec_of(flow=flow(deep(DEEPEST - 5)))

    def go_down(frames: int) -> list[Finding]:
        if frames:
            return go_down(frames - 1)
        return lint_workflow(spec, namespace="exp", name="w")

    found = go_down(sys.getrecursionlimit() - len(inspect.stack(0)) - 200)
    assert says(found) == ["spec: nested too deep; make it flatter"]


@LAW
@given(st.recursive(st.integers(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_every_value_is_seen_once_with_its_level(value: Any) -> None:
    def count(item: Any, level: int) -> list[tuple[Any, int]]:
        inside = item.values() if isinstance(item, dict) else item if isinstance(item, list) else ()
        return [(item, level), *(pair for part in inside for pair in count(part, level + 1))]

    found = [
        (item, level)
        for path, item, level in every_value(spec_of(flow=flow(value)), "spec")
        if path.startswith("spec.flow.nodes[0].config.x")
    ]
    assert found == count(value, 5)
