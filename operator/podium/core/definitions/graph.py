"""The form `graph`: a node starts as soon as its own dependencies are done."""

from collections.abc import Iterable, Mapping

from podium.api.v1alpha1.workflow import Graph
from podium.core.definitions.draft import Draft
from podium.core.definitions.findings import Report, did_you_mean
from podium.core.definitions.lanes import build_lanes
from podium.core.definitions.names import check_generated
from podium.core.definitions.nodes import NamedNode, read_nodes


def build_graph(graph: Graph, report: Report) -> Draft:
    """Branches and meeting points of a graph; the order of the list has no meaning.

    Without spec.output a run's output has the output of every node that no other one needs, by its id.
    """
    nodes, names = read_nodes(graph.nodes, "spec.graph.nodes", report)
    depends_on = {node.id: list(node.depends_on) for node in reversed(graph.nodes)}
    needs = {node.ref: _needs_of(node, depends_on[node.id], names, report) for node in nodes}
    by_ref = {node.ref: node for node in sorted(nodes, key=lambda node: node.ref, reverse=True)}
    if cycle := find_cycle(needs):
        first = by_ref[cycle[0]]
        told = " → ".join(by_ref[ref].id for ref in cycle)
        if len(cycle) > 2:  # a node that needs itself has been reported where it says so
            report.error(
                f"{first.path}.dependsOn",
                f"the nodes wait for each other: {told}",
                "take one of these arrows out",
            )
        return Draft(tasks=[], nodes={}, names=names)
    tasks, generated = build_lanes(needs, {node.ref: node.task for node in nodes})
    check_generated(generated, names, "spec.graph.nodes", report)
    ids = {node.ref: node.id for node in nodes}
    needed = {ref for refs in needs.values() for ref in refs}
    ends = sorted(ref for ref in ids if ref not in needed)
    return Draft(
        tasks=tasks,
        nodes=dict(sorted(ids.items())),
        names=names,
        output={ids[ref]: f"${{{ref}.output}}" for ref in ends},
    )


def find_cycle(needs: Mapping[str, Iterable[str]]) -> list[str]:
    """Names on a cycle, in the order in which work would flow, first = last; empty if there is none."""
    left = {name: {other for other in others if other in needs} for name, others in needs.items()}
    ready = [name for name, others in left.items() if not others]
    followers: dict[str, list[str]] = {}
    for name, others in left.items():
        for other in others:
            followers.setdefault(other, []).append(name)
    while ready:
        done = ready.pop()
        del left[done]
        for name in followers.get(done, ()):
            left[name].discard(done)
            if not left[name]:
                ready.append(name)
    if not left:
        return []
    # Every name left needs another one that is left: walking back must meet itself.
    walk = [min(left)]
    while walk[-1] not in walk[:-1]:
        walk.append(min(left[walk[-1]]))
    return walk[walk.index(walk[-1]) :][::-1]


def _needs_of(node: NamedNode, depends_on: list[str], names: Mapping[str, str], report: Report) -> set[str]:
    needs: set[str] = set()
    for index, other in enumerate(depends_on):
        path = f"{node.path}.dependsOn[{index}]"
        if other not in names:
            report.error(path, f"there is no node {other!r}", did_you_mean(other, names))
        elif other == node.id:
            report.error(path, f"{other!r} cannot wait for itself", "take it out")
        else:
            needs.add(names[other])
    for use in node.uses:
        if use.ref == node.ref:
            report.error(use.path, f"{node.id!r} cannot use its own output", "name another node")
        elif use.ref in names.values():
            needs.add(use.ref)
    return needs
