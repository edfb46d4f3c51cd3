"""The form `flow`, references and expressions."""

from typing import Any

import pytest

from core.definitions.shapes import Json, compiled, lint, reference, says


def flow(*nodes: tuple[str, Json]) -> Json:
    return {"nodes": [{"id": name, "type": "exp.task", "config": config} for name, config in nodes]}


VALUES: dict[str, tuple[Any, Any]] = {
    "a reference": (reference("node-1", "imageUrl"), "${node_1.output.imageUrl}"),
    "at any depth": (
        {"a": [{"b": reference("node-1", "x")}]},
        {"a": [{"b": "${node_1.output.x}"}]},
    ),
    "the whole output": (reference("node-1"), "${node_1.output}"),
    "an empty key is the whole output": (reference("node-1", ""), "${node_1.output}"),
    "a key with dots is a path": (reference("node-1", "images[0].url"), "${node_1.output.images[0].url}"),
    "a key that needs quotes": (reference("node-1", "['a b'].c-d"), "${node_1.output['a b']['c-d']}"),
    "an id inside an expression": ("see ${node-1.output.url}!", "see ${node_1.output.url}!"),
    "two expressions": ("${node-1.output.a}${workflow.input.b}", "${node_1.output.a}${workflow.input.b}"),
    "an expression in an expression": (
        "${workflow.input.${node-1.output.key}}",
        "${workflow.input.${node_1.output.key}}",
    ),
    "the reference name is fine too": ("${node_1.output.url}", "${node_1.output.url}"),
    "an escaped one is text": ("costs $${ghost}", "costs $${ghost}"),
    "a dollar is text": ("5 $ {x}", "5 $ {x}"),
    "nulls mean absent": ({"a": None, "b": [None]}, {"b": [None]}),
    "what is no reference stays": ({"_type": "image", "x": 1}, {"_type": "image", "x": 1}),
    "the task's own id": ("${CPEWF_TASK_ID}", "${CPEWF_TASK_ID}"),
}


@pytest.mark.parametrize(("given", "wanted"), VALUES.values(), ids=VALUES)
def test_a_value_becomes_conductors(given: Any, wanted: Any) -> None:
    made = compiled(flow=flow(("node-1", {}), ("b", {"x": given})))
    assert made.definition["tasks"][1]["inputParameters"] == {"x": wanted}
    assert made.nodes == {"node_1": "node-1", "b": "b"}


REFUSED: dict[str, tuple[Any, str]] = {
    "unknown node": (
        reference("nod-1", "x"),
        "spec.flow.nodes[1].config.x.nodeId: there is no node 'nod-1'; did you mean 'node-1'?",
    ),
    "itself": (reference("b", "x"), "spec.flow.nodes[1].config.x.nodeId: 'b' cannot use its own output"),
    "a later one": (
        reference("c", "x"),
        "spec.flow.nodes[1].config.x.nodeId: 'c' runs after 'b', its output is not there yet; move 'c' up",
    ),
    "a later one in an expression": ("${c.output.x}", "'c' runs after 'b'"),
    "no node": ({"_type": "reference"}, "the reference does not say which node; give nodeId"),
    "a key that is no path": (reference("node-1", "a..b"), "outputKey: 'a..b' is not a path"),
    "a key with a brace": (reference("node-1", "['a}b']"), "outputKey: \"['a}b']\" is not a path"),
    "unknown in an expression": (
        "${ghost.output.y}",
        "spec.flow.nodes[1].config.x: the expression ${ghost.output.y} names no node of this workflow",
    ),
    "never closed": (
        "${node-1.output.y",
        "the expression '${node-1.output.y' is never closed; add the missing",
    ),
    "never closed inside": ("${a${b}", "is never closed"),
}


@pytest.mark.parametrize(("given", "wanted"), REFUSED.values(), ids=REFUSED)
def test_a_wrong_value_is_refused(given: Any, wanted: str) -> None:
    found = says(lint(flow=flow(("node-1", {}), ("b", {"x": given}), ("c", {}))))
    assert any(wanted in line for line in found), found


def test_a_forgotten_output_is_pointed_out() -> None:
    found = lint(flow=flow(("a", {}), ("b", {"x": "${a.url}"})))
    (said,) = says(found, "warning")
    assert said.startswith("spec.flow.nodes[1].config.x: ${a.url} is always empty")
    assert said.endswith("write ${a.output.url}")


def test_depends_on_has_no_place_in_a_flow() -> None:
    found = lint(flow={"nodes": [{"id": "a", "type": "t", "dependsOn": []}]})
    assert says(found, "warning") == [
        "spec.flow.nodes[0].dependsOn: a flow runs in the order of the list; use graph for dependencies"
    ]


def test_output_may_use_every_node() -> None:
    made = compiled(flow=flow(("a-1", {})), output={"x": reference("a-1", "y"), "z": "${a-1.output.z}"})
    assert made.definition["outputParameters"] == {"x": "${a_1.output.y}", "z": "${a_1.output.z}"}
    found = says(lint(flow=flow(("a", {})), output={"x": reference("b")}))
    assert found == ["spec.output.x.nodeId: there is no node 'b'; there is 'a'"]


def test_every_form_and_only_one() -> None:
    one = flow(("a", {}))
    assert says(lint()) == ["spec: there is none; give exactly one of flow, graph, stateMachine, definition"]
    assert says(lint(flow=one, definition={"tasks": []}))[0].startswith("spec: there are flow, definition")
