"""Workflows for tests: shorthands, random graphs, and what a compiled definition would do."""

from collections.abc import Callable, Iterator
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st

from podium.api.v1alpha1.workflow import WorkflowSpec
from podium.core.definitions import Compiled, Finding, Rules, compile_workflow, lint_workflow

Json = dict[str, Any]
LAW = settings(deadline=None)
"""A slow machine is no counterexample."""


def spec_of(**parts: Any) -> WorkflowSpec:
    """A spec from its parts as they stand in a manifest."""
    return WorkflowSpec.model_validate(parts)


def compiled(rules: Rules | None = None, /, **parts: Any) -> Compiled:
    """The definition of a spec, for `exp.w`."""
    return compile_workflow(spec_of(**parts), namespace="exp", name="w", rules=rules)


def lint(rules: Rules | None = None, /, **parts: Any) -> list[Finding]:
    """What lint says about a spec."""
    return lint_workflow(spec_of(**parts), namespace="exp", name="w", rules=rules)


def says(found: list[Finding], level: str = "error") -> list[str]:
    """`path: message; remedy` of the findings of one level."""
    return [str(item) for item in found if item.level == level]


def node(identifier: str, *depends_on: str, task_type: str = "exp.task", **config: Any) -> Json:
    """A node of a graph."""
    made: Json = {"id": identifier, "type": task_type, "dependsOn": list(depends_on)}
    return made | ({"config": config} if config else {})


def reference(node_id: str, key: str | None = None) -> Json:
    """What a visual editor writes for a reference."""
    return {"_type": "reference", "nodeId": node_id} | ({} if key is None else {"outputKey": key})


def native(*tasks: Json, **rest: Any) -> Json:
    """A native definition."""
    return {"tasks": list(tasks), **rest}


def simple(ref: str, /, **rest: Any) -> Json:
    """A SIMPLE task whose name is its type."""
    return {"name": "exp.task", "taskReferenceName": ref, "type": "SIMPLE", **rest}


@st.composite
def graphs(draw: st.DrawFn, most: int = 14) -> list[Json]:
    """Nodes of a random graph without cycles; dependencies by dependsOn, reference and expression."""
    count = draw(st.integers(1, most))
    ids = draw(st.permutations([f"n-{index}" for index in range(count)]))
    nodes = []
    for index, identifier in enumerate(ids):
        needs = draw(st.lists(st.sampled_from(ids[:index]), max_size=4, unique=True)) if index else []
        made: Json = {"id": identifier, "type": "exp.task", "dependsOn": [], "config": {}}
        for other in needs:
            match draw(st.sampled_from(["dependsOn", "reference", "expression"])):
                case "dependsOn":
                    made["dependsOn"].append(other)
                case "reference":
                    made["config"][f"from {other}"] = {"deep": [reference(other, "at")]}
                case _:
                    made["config"][f"text {other}"] = f"<${{{other}.output.at}}>"
        nodes.append(made)
    return nodes


def needs_of(nodes: list[Json]) -> dict[str, set[str]]:
    """Id → the ids it needs, however that is said."""
    return {
        item["id"]: {
            *item.get("dependsOn", []),
            *(key.partition(" ")[2] for key in item.get("config", {})),
        }
        for item in nodes
    }


def all_tasks(tasks: list[Json]) -> Iterator[Json]:
    """Every task, forked ones too."""
    for task in tasks:
        yield task
        for branch in task.get("forkTasks", []):
            yield from all_tasks(branch)


def simulate(tasks: list[Json], choose: Callable[[list[str]], str]) -> list[str]:
    """Runs a definition as Conductor would; `choose` says which open task is done next.

    Answers the reference names of SIMPLE tasks in the order of their starts and ends: `+a`, `-a`.
    Raises AssertionError if the run would hang, or end before everything is done.
    """
    log: list[str] = []
    done: set[str] = set()
    open_tasks: dict[str, list[Json]] = {}
    waiting: list[tuple[Json, list[Json]]] = []

    def go(rest: list[Json]) -> None:
        while rest:
            task, rest = rest[0], rest[1:]
            match task["type"]:
                case "SIMPLE":
                    log.append(f"+{task['taskReferenceName']}")
                    open_tasks[task["taskReferenceName"]] = rest
                    return
                case "FORK_JOIN":
                    assert rest[0]["type"] == "JOIN", "a fork without its join"
                    for branch in task["forkTasks"]:
                        go(branch)
                case "JOIN":
                    waiting.append((task, rest))
                    return
                case "NOOP":
                    done.add(task["taskReferenceName"])

    def settle() -> None:
        for entry in list(waiting):
            task, rest = entry
            if all(ref in done for ref in task["joinOn"]):
                waiting.remove(entry)
                done.add(task["taskReferenceName"])
                go(rest)
                settle()
                return

    go(tasks)
    settle()
    while open_tasks:
        ref = choose(sorted(open_tasks))
        rest = open_tasks.pop(ref)
        log.append(f"-{ref}")
        done.add(ref)
        go(rest)
        settle()
    assert not waiting, f"the run hangs at {[task['taskReferenceName'] for task, _ in waiting]}"
    return log
