"""Names: of nodes, of definitions, of other workflows."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.definitions.shapes import LAW, Json, compiled, lint, native, reference, says, simple, spec_of
from podium.core.definitions import InvalidWorkflow, Rules, compile_workflow, conductor_name
from podium.core.definitions.findings import Report
from podium.core.definitions.names import name_nodes, safe_ref

REFS = {
    "node-1": "node_1",
    "1": "n_1",
    "a b.c": "a_b_c",
    "café": "cafe",
    "_x": "_x",
    "größe": "gro_e_",
    "步骤1": "1_",
    "步骤": "node_",
    "--": "node_",
}


@pytest.mark.parametrize(("identifier", "ref"), REFS.items())
def test_an_id_stays_recognisable(identifier: str, ref: str) -> None:
    made = safe_ref(identifier)
    assert made.removeprefix("n_").startswith(ref.removeprefix("n_"))
    assert re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", made)
    assert made == ref or len(made.removeprefix("n_")) == len(ref.removeprefix("n_")) + 6


@LAW
@given(st.lists(st.text(min_size=1, max_size=12), unique=True, max_size=20))
def test_ids_stay_apart_or_are_reported(ids: list[str]) -> None:
    report = Report()
    refs = name_nodes([(f"nodes[{index}]", identifier) for index, identifier in enumerate(ids)], report)
    assert set(refs) == set(ids)
    assert all(re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", ref) for ref in refs.values())
    assert report.failed or len(set(refs.values())) == len(ids)


@pytest.mark.parametrize("identifier", ["workflow", "workflow.step", "workflow[0]", "NETFLIX_ENV.x"])
def test_an_id_that_an_expression_could_not_tell_from_conductors_words_is_refused(identifier: str) -> None:
    nodes = [
        {"id": identifier, "type": "t"},
        {"id": "b", "type": "t", "config": {"x": f"${{{identifier}.output.y}}"}},
    ]
    for parts in (
        {"flow": {"nodes": nodes}},
        {"graph": {"nodes": nodes}},
        {"stateMachine": {"startAt": identifier, "steps": {identifier: {"functionName": "f"}}}},
    ):
        assert "begins with a word of Conductor's own; give another id" in says(lint(**parts))[0]


@pytest.mark.parametrize("identifier", ["workflows", "workflow-1", "my.workflow", "workflow_x.y"])
def test_an_id_that_only_looks_like_one_of_them_is_fine(identifier: str) -> None:
    nodes = [
        {"id": identifier, "type": "t"},
        {"id": "b", "type": "t", "config": {"x": f"${{{identifier}.output.y}}"}},
    ]
    made = compiled(flow={"nodes": nodes}).definition["tasks"]
    assert made[1]["inputParameters"]["x"] == f"${{{made[0]['taskReferenceName']}.output.y}}"


def test_a_definition_is_named_by_its_namespace() -> None:
    spec = spec_of(flow={"nodes": [{"id": "a", "type": "t"}]})
    assert conductor_name("studio", "video", spec) == "studio.video"


def test_adopting_a_name_needs_leave() -> None:
    spec = spec_of(flow={"nodes": [{"id": "a", "type": "t"}]}, conductorName="old name")
    allowed = Rules(allowed_names=frozenset({"old name"}))
    made = compile_workflow(spec, namespace="n", name="w", rules=allowed)
    assert made.definition["name"] == "old name"
    with pytest.raises(InvalidWorkflow, match=r"spec\.conductorName: 'old name' may not be adopted here"):
        compile_workflow(spec, namespace="n", name="w")


OTHERS = {
    "a plain name is of this namespace": ("notify", Rules(), "exp.notify", ""),
    "an allowed one stays": ("other.x", Rules(allowed_names=frozenset({"other.x"})), "other.x", ""),
    "another namespace's": ("other.x", Rules(), None, "'other.x' is not a Workflow of this namespace"),
    "one with a dot, shared": ("other.x", Rules(isolation="Shared"), "other.x", ""),
    "no name of a Workflow": ("Notify_Me", Rules(), None, "'Notify_Me' cannot be the name of a Workflow"),
    "our own prefix is a plain name first": ("exp.x", Rules(), "exp.exp.x", "write 'x' if that is meant"),
    "one only known at run time": (
        "${workflow.input.x}",
        Rules(),
        "${workflow.input.x}",
        "it comes out as exp.",
    ),
}


@pytest.mark.parametrize(("name", "rules", "wanted", "word"), OTHERS.values(), ids=OTHERS)
def test_names_of_other_workflows(name: str, rules: Rules, wanted: str | None, word: str) -> None:
    sub = {"name": "s", "taskReferenceName": "s", "type": "SUB_WORKFLOW", "subWorkflowParam": {"name": name}}
    start = {
        "name": "t",
        "taskReferenceName": "t",
        "type": "START_WORKFLOW",
        "inputParameters": {"startWorkflow": {"name": name}},
    }
    parts = {"definition": native(sub, start), "failureWorkflow": name}
    found = [str(item) for item in lint(rules, **parts)]
    assert len([line for line in found if word in line]) == 3 if word else not found
    if wanted is None:
        assert says(lint(rules, **parts))
        return
    definition = compiled(rules, **parts).definition
    assert definition["failureWorkflow"] == wanted
    assert definition["tasks"][0]["subWorkflowParam"] == {"name": wanted}
    assert definition["tasks"][1]["inputParameters"]["startWorkflow"]["name"] == wanted


def task(kind: str, **parts: object) -> dict[str, object]:
    return {"name": "s", "taskReferenceName": "s", "type": kind, **parts}


def start(**request: object) -> dict[str, object]:
    return task("START_WORKFLOW", inputParameters={"startWorkflow": request})


def sub(**param: object) -> dict[str, object]:
    return task("SUB_WORKFLOW", subWorkflowParam=param)


def fan(**inputs: object) -> list[dict[str, object]]:
    fork = task("FORK_JOIN_DYNAMIC", inputParameters={"forkTaskInputs": [], **inputs})
    return [fork, task("JOIN", taskReferenceName="j")]


REACHING_OUT = {
    "a key that means nothing to START_WORKFLOW": (
        [start(name="other.x", workflowDefinition={"x": 1})],
        "startWorkflow.name: 'other.x' is not a Workflow of this namespace",
    ),
    "nor to a dynamic fork": (
        fan(forkTaskWorkflow="other.x", workflowDefinition={"x": 1}),
        "forkTaskWorkflow: 'other.x' is not a Workflow of this namespace",
    ),
    "a definition that is only known at run time": (
        [sub(name="other.x", workflowDefinition="${workflow.input.none}")],
        "subWorkflowParam.name: 'other.x' is not a Workflow of this namespace",
    ),
    "one that is none": ([sub(name="x", workflowDefinition="x")], "workflowDefinition: 'x' is not a defin"),
    "a name that Conductor makes a text": ([start(name=5)], "startWorkflow.name: 5 is not a text"),
    "a definition to start": (
        [start(name="x", workflowDef=native(sub(name="other.x")))],
        "startWorkflow.workflowDef: the expressions of a definition in START_WORKFLOW would be those of",
    ),
    "a request that is none": (
        [task("START_WORKFLOW", inputParameters={"startWorkflow": "other.x"})],
        "inputParameters.startWorkflow: 'other.x' is not an object",
    ),
}


@pytest.mark.parametrize(("tasks", "wanted"), REACHING_OUT.values(), ids=REACHING_OUT)
def test_no_workflow_outside_is_reached_by_another_way(tasks: list[Json], wanted: str) -> None:
    found = says(lint(definition=native(*tasks)))
    assert any(wanted in line for line in found), found


KNOWN_LATE = {
    "a definition": sub(name="x", workflowDefinition="${workflow.input.d}"),
    "a definition to start": start(name="x", workflowDef="${workflow.input.d}"),
    "a request": task("START_WORKFLOW", inputParameters={"startWorkflow": "${workflow.input.d}"}),
    "a request by reference": task("START_WORKFLOW", inputParameters={"startWorkflow": reference("a", "x")}),
    "a name by reference": start(name=reference("a", "x")),
}


@pytest.mark.parametrize("given_task", KNOWN_LATE.values(), ids=KNOWN_LATE)
def test_what_says_which_workflow_at_run_time_only_is_pointed_out(given_task: Json) -> None:
    found = lint(definition=native(simple("a"), given_task))
    assert not says(found)
    (said,) = says(found, "warning")
    assert "which workflow" in said
    assert "is can only be known when it runs" in said
    assert said.endswith("see to it that it only names Workflows of exp")
    assert not lint(Rules(isolation="Shared"), definition=native(simple("a"), given_task))


def test_an_inline_definition_needs_no_name_of_a_workflow() -> None:
    param = {"name": "Any name", "workflowDefinition": native(simple("a"))}
    made = compiled(definition=native(sub(**param))).definition["tasks"][0]["subWorkflowParam"]
    assert made["name"] == "Any name"


def test_domains_of_others_are_refused_under_isolation() -> None:
    def sub(domain: str) -> dict[str, object]:
        return {
            "name": "s",
            "taskReferenceName": "s",
            "type": "SUB_WORKFLOW",
            "subWorkflowParam": {"name": "x", "taskToDomain": {"*": domain}},
        }

    assert "tasks go to workers of 'exp' only" in says(lint(definition=native(sub("other"))))[0]
    assert not lint(definition=native(sub("exp")))
    assert not lint(Rules(isolation="Shared"), definition=native(sub("other")))


@pytest.mark.parametrize("task_type", ["a/b", "a:b", "..", "SIMPLE", "WAIT", "a,b", " a"])
def test_a_type_that_nobody_could_poll_for(task_type: str) -> None:
    assert says(lint(flow={"nodes": [{"id": "a", "type": task_type}]}))[0].startswith(
        "spec.flow.nodes[0].type"
    )
    assert says(lint(definition=native(simple("a", name=task_type))))[0].startswith(
        "spec.definition.tasks[0].name"
    )
