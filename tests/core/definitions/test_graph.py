"""The form `graph`: what is refused, and laws of what comes out."""

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.definitions.shapes import (
    LAW,
    Json,
    all_tasks,
    compiled,
    graphs,
    lint,
    needs_of,
    node,
    reference,
    says,
    simulate,
)


def outline(tasks: list[Json]) -> list[Any]:
    """Only names: a fork is a list of its branches, a waiting join ends in what it waits for."""
    lines: list[Any] = []
    for task in tasks:
        ref = task["taskReferenceName"]
        match task["type"]:
            case "FORK_JOIN":
                lines.append([outline(branch) for branch in task["forkTasks"]])
            case "JOIN":
                lines.append(f"join {','.join(task['joinOn'])}".strip())
            case _:
                lines.append(ref)
    return lines


CASES: dict[str, tuple[list[Json], list[Any]]] = {
    "a chain needs no fork": ([node("a"), node("b", "a"), node("c", "b")], ["a", "b", "c"]),
    "roots run side by side": ([node("a"), node("b")], [[["a"], ["b"]], "join"]),
    "followers of one node": (
        [node("a"), node("b", "a"), node("c", "a")],
        ["a", [["b"], ["c"]], "join"],
    ),
    "a diamond meets behind a marker": (
        [node("a"), node("b", "a"), node("c", "a"), node("d", "b", "c")],
        ["a", [["b", "_done_b"], ["c", "join _done_b", "d"]], "join"],
    ),
    "a join stands behind the deepest dependency": (
        [node("a"), node("b"), node("c", "b"), node("d", "a", "c")],
        [[["a", "_done_a"], ["b", "c", "join _done_a", "d"]], "join"],
    ),
    "an implied dependency is dropped": ([node("a"), node("b", "a"), node("c", "a", "b")], ["a", "b", "c"]),
    "nodes with the same dependencies share a join": (
        [node("a"), node("b"), node("c", "a", "b"), node("d", "b", "a")],
        [[["a", "_done_a"], ["b", "join _done_a", [["c"], ["d"]], "join"]], "join"],
    ),
    "a reference is a dependency": ([node("a"), node("b", x=reference("a", "url"))], ["a", "b"]),
    "an expression is a dependency": ([node("a-1"), node("b", x="see ${a-1.output.url}")], ["a_1", "b"]),
}


@pytest.mark.parametrize(("nodes", "wanted"), CASES.values(), ids=CASES)
def test_a_graph_becomes_branches(nodes: list[Json], wanted: list[Any]) -> None:
    assert outline(compiled(graph={"nodes": nodes}).definition["tasks"]) == wanted


REFUSED: dict[str, tuple[list[Json], str]] = {
    "unknown dependency": (
        [node("fetch"), node("b", "fetsh")],
        "spec.graph.nodes[1].dependsOn[0]: there is no node 'fetsh'; did you mean 'fetch'?",
    ),
    "cycle": (
        [node("a", "c"), node("b", "a"), node("c", "b")],
        "spec.graph.nodes[0].dependsOn: the nodes wait for each other: a → b → c → a; take one of these",
    ),
    "cycle by reference": (
        [node("a", x=reference("b")), node("b", "a")],
        "the nodes wait for each other: a → b → a",
    ),
    "itself": ([node("a", "a")], "spec.graph.nodes[0].dependsOn[0]: 'a' cannot wait for itself"),
    "double id": ([node("a"), node("a")], "spec.graph.nodes[1].id: the id 'a' is there twice"),
    "ids that meet": (
        [node("node-1"), node("node_1")],
        "spec.graph.nodes[1].id: the ids 'node-1' and 'node_1' both become 'node_1' in Conductor",
    ),
    "the name of a marker": (
        [node("a"), node("b"), node("c", "a", "b"), node("_done_a")],
        "the id '_done_a' is the name of a task that Podium adds",
    ),
    "a word of Conductor's": ([node("workflow")], "the id 'workflow' begins with a word of Conductor's own"),
    "a type that Conductor runs itself": (
        [node("a", task_type="HTTP")],
        "spec.graph.nodes[0].type: HTTP is a task that Conductor runs itself, no worker can serve it",
    ),
}


@pytest.mark.parametrize(("nodes", "wanted"), REFUSED.values(), ids=REFUSED)
def test_a_wrong_graph_is_refused(nodes: list[Json], wanted: str) -> None:
    assert any(wanted in line for line in says(lint(graph={"nodes": nodes})))


def test_a_misspelt_key_is_pointed_out_and_an_editors_own_is_not() -> None:
    nodes = [node("a") | {"dependOn": [], "confg": {}, "position": {"x": 1}, "data": {}}]
    assert says(lint(graph={"nodes": nodes}), "warning") == [
        "spec.graph.nodes[0].dependOn: 'dependOn' is not a key of a node; did you mean 'dependsOn'?",
        "spec.graph.nodes[0].confg: 'confg' is not a key of a node; did you mean 'config'?",
    ]


def test_without_output_a_run_answers_what_nobody_needs() -> None:
    nodes = [node("a"), node("b-1", "a"), node("c", "a")]
    output = compiled(graph={"nodes": nodes}).definition["outputParameters"]
    assert output == {"b-1": "${b_1.output}", "c": "${c.output}"}


@LAW
@given(graphs(), st.integers())
def test_every_node_starts_as_soon_as_its_own_dependencies_are_done(nodes: list[Json], seed: int) -> None:
    made = compiled(graph={"nodes": nodes})
    log = simulate(made.definition["tasks"], random.Random(seed).choice)
    needs = needs_of(nodes)
    assert sorted(line for line in log if line[0] == "-") == sorted(f"-{ref}" for ref in made.nodes)
    for place, line in enumerate(log):
        ended = {made.nodes[other[1:]] for other in log[:place] if other[0] == "-"}
        started = {made.nodes[other[1:]] for other in log[: place + 1] if other[0] == "+"}
        if line[0] == "+":
            assert needs[made.nodes[line[1:]]] <= ended
        elif place + 1 < len(log) and log[place + 1][0] == "-":
            # Nothing more starts after this end: so nothing that could is left.
            now = ended | {made.nodes[line[1:]]}
            assert all(name in started for name, wanted in needs.items() if wanted <= now)


@LAW
@given(graphs())
def test_joins_only_wait_for_markers_and_names_are_unique(nodes: list[Json]) -> None:
    made = compiled(graph={"nodes": nodes})
    tasks = {task["taskReferenceName"]: task for task in all_tasks(made.definition["tasks"])}
    assert len(tasks) == len(list(all_tasks(made.definition["tasks"])))
    assert {ref for ref, task in tasks.items() if task["type"] == "SIMPLE"} == set(made.nodes)
    for task in tasks.values():
        for waited in task.get("joinOn", []):
            assert tasks[waited]["type"] == "NOOP"


@LAW
@given(graphs(), st.randoms())
def test_the_order_of_the_list_means_nothing(nodes: list[Json], source: random.Random) -> None:
    shuffled = list(nodes)
    source.shuffle(shuffled)
    one, other = compiled(graph={"nodes": nodes}), compiled(graph={"nodes": shuffled})
    assert (one.hash, one.spec_hash, one.definition) == (other.hash, other.spec_hash, other.definition)


def nesting(value: Any) -> int:
    """Levels of objects and lists, without Python's own recursion limit in the way."""
    deepest, todo = 0, [(value, 1)]
    while todo:
        item, depth = todo.pop()
        deepest = max(deepest, depth)
        inner = item.values() if isinstance(item, dict) else item if isinstance(item, list) else ()
        todo += [(part, depth + 1) for part in inner]
    return deepest


LARGE: dict[str, list[Json]] = {
    "chain": [node(f"n{i}", *([f"n{i - 1}"] if i else [])) for i in range(1000)],
    "wide": [node(f"n{i}") for i in range(1000)],
    "caterpillar": [
        item
        for i in range(500)
        for item in (node(f"s{i}", *([f"s{i - 1}"] if i else [])), node(f"l{i}", f"s{i}"))
    ],
    "layers": [
        node(f"n{j}-{i}", *([f"n{j - 1}-{k}" for k in range(30)] if j else []))
        for j in range(33)
        for i in range(30)
    ],
}


@pytest.mark.parametrize("nodes", LARGE.values(), ids=LARGE)
def test_a_thousand_nodes_of_any_shape_stay_shallow(nodes: list[Json]) -> None:
    made = compiled(graph={"nodes": nodes})
    assert nesting(made.definition) < 110  # Conductor's JSON reader stops at 1,000
    assert len(made.nodes) == len(nodes)
    if len(nodes) < 1000:
        assert len(simulate(made.definition["tasks"], min)) == 2 * len(nodes)
