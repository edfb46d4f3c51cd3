"""What flow and graph share: ids, keys that look misspelt, config."""

from collections.abc import Sequence
from dataclasses import dataclass

from podium.api.v1alpha1.workflow import Node
from podium.core.definitions.draft import Json, build_simple_task
from podium.core.definitions.expressions import Use, translate
from podium.core.definitions.findings import Report, nearest
from podium.core.definitions.names import check_task_type, name_nodes


@dataclass(frozen=True)
class NamedNode:
    """A node with its reference name, its task and the tasks that its config needs."""

    id: str
    ref: str
    path: str
    task: Json
    uses: tuple[Use, ...]


def read_nodes(nodes: Sequence[Node], path: str, report: Report) -> tuple[list[NamedNode], dict[str, str]]:
    """The nodes of a form, and id → reference name. A node whose id is there twice counts once."""
    names = name_nodes(((f"{path}[{index}].id", node.id) for index, node in enumerate(nodes)), report)
    named: dict[str, NamedNode] = {}
    for index, node in enumerate(nodes):
        where = f"{path}[{index}]"
        _check_keys(node, where, report)
        check_task_type(node.type, f"{where}.type", report)
        config, uses = translate(node.config or {}, f"{where}.config", names, report)
        ref = names[node.id]
        task = build_simple_task(ref, node.type, config)
        named.setdefault(node.id, NamedNode(node.id, ref, where, task, tuple(uses)))
    return list(named.values()), names


def _check_keys(node: Node, path: str, report: Report) -> None:
    """Editors add keys of their own; only one that looks like a misspelt one of ours is worth a word."""
    known = [field.alias or name for name, field in type(node).model_fields.items()]
    for key in node.model_extra or {}:
        if key == "dependsOn":
            report.warning(
                f"{path}.dependsOn", "a flow runs in the order of the list", "use graph for dependencies"
            )
        elif guess := nearest(key, known, cutoff=0.75):
            report.warning(f"{path}.{key}", f"{key!r} is not a key of a node", f"did you mean {guess!r}?")
