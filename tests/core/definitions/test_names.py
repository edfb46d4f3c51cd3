"""Names: of nodes, of definitions, of other workflows."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.definitions.shapes import LAW, compiled, lint, native, says, simple, spec_of
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
