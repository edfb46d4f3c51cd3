"""The form `flow`: nodes that run one after the other."""

from podium.api.v1alpha1.workflow import Flow
from podium.core.definitions.draft import Draft
from podium.core.definitions.findings import Report
from podium.core.definitions.nodes import read_nodes


def build_flow(flow: Flow, report: Report) -> Draft:
    """A chain of tasks. A node may only use the results of those before it."""
    nodes, names = read_nodes(flow.nodes, "spec.flow.nodes", report)
    ids = {node.ref: node.id for node in nodes}
    done: set[str] = set()
    for node in nodes:
        for use in node.uses:
            if use.ref == node.ref:
                report.error(use.path, f"{node.id!r} cannot use its own output", "name a node before it")
            elif use.ref not in done:
                report.error(
                    use.path,
                    f"{ids[use.ref]!r} runs after {node.id!r}, its output is not there yet",
                    f"move {ids[use.ref]!r} up in the list",
                )
        done.add(node.ref)
    return Draft(tasks=[node.task for node in nodes], nodes=ids, names=names)
