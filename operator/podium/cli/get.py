"""`podium get`, `podium tree`: runs in a table, one run with its tasks as a tree."""

import io
import sys
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import get_args

import click
from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from podium.api.v1alpha1.workflow_run import Phase
from podium.cli.access import Place, cluster_options, json_option, print_json
from podium.cli.tables import age_of, format_age, format_table
from podium.cli.waiting import phase_of
from podium.ports import Json

_STYLES = {
    "Completed": "green",
    "CompletedWithErrors": "yellow",
    "Failed": "red",
    "TimedOut": "red",
    "Running": "cyan",
    "Canceled": "dim",
    "Skipped": "dim",
}


@click.command()
@click.argument("run", required=False)
@click.option("-w", "--workflow", metavar="NAME", help="Only the runs of this Workflow.")
@click.option("--phase", type=click.Choice(get_args(Phase), case_sensitive=False), help="Only those in it.")
@click.option("-A", "--all-namespaces", "everywhere", is_flag=True, help="The runs of all namespaces.")
@json_option
@cluster_options
async def get(
    place: Place, run: str | None, workflow: str | None, phase: str | None, everywhere: bool, output: str
) -> None:
    """Show the runs of a namespace, or one RUN with its tasks.

    \b
    Example:
      podium get --phase Failed
      podium get thumbnail-1
    """
    if run is not None:
        body = await place.get("WorkflowRun", run)
        if output == "json":
            print_json(body)
        else:
            click.echo(_describe(body, datetime.now(UTC)))
            _print_tree(body)
        return
    found = await place.cluster.list("WorkflowRun", None if everywhere else place.namespace)
    runs = [
        body
        for body in found
        if (workflow is None or body["spec"]["workflow"] == workflow)
        and (phase is None or phase_of(body) == phase)
    ]
    runs.sort(key=lambda body: str(body["metadata"]["creationTimestamp"]))
    if output == "json":
        print_json({"apiVersion": "v1", "kind": "List", "items": runs})
    elif not runs:
        where = "the cluster" if everywhere else f"namespace {place.namespace!r}"
        click.echo(f"there are no {'such ' if workflow or phase else ''}runs in {where}", err=True)
    else:
        click.echo(format_table(list(_rows(runs, everywhere, datetime.now(UTC)))))


@click.command()
@click.argument("run")
@json_option
@cluster_options
async def tree(place: Place, run: str, output: str) -> None:
    """Show the tasks of RUN as a tree: those of sub-workflows and dynamic forks below their task.

    \b
    Example:
      podium tree thumbnail-1
    """
    body = await place.get("WorkflowRun", run)
    if output == "json":
        print_json(grow(_tasks(body)))
    else:
        _print_tree(body)


def grow(tasks: Iterable[Json]) -> list[Json]:
    """Tasks, each with those below it under `tasks`; those whose parent is not shown stand for themselves."""
    nodes = [{**task, "tasks": []} for task in tasks]
    by_path: dict[str, Json] = {}
    for node in nodes:
        by_path.setdefault(path_of(node), node)
    roots: list[Json] = []
    for node in nodes:
        parent = by_path.get(str(node.get("parent") or ""))
        inside: list[Json] = roots if parent is None else parent["tasks"]
        inside.append(node)
    return [_without_empty(node) for node in roots]


def path_of(task: Json) -> str:
    """Where a task is: its own id behind that of the sub-workflow or dynamic fork that it belongs to."""
    return f"{task['parent']}/{task['id']}" if task.get("parent") else str(task["id"])


def _without_empty(node: Json) -> Json:
    below = [_without_empty(item) for item in node.pop("tasks")]
    return {**node, "tasks": below} if below else node


def _print_tree(body: Json) -> None:
    status = body.get("status") or {}
    top = Tree(Text(f"{body['metadata']['name']}  {phase_of(body) or 'not seen by the operator yet'}"))
    _plant(top, grow(_tasks(body)), datetime.now(UTC))
    counts = status.get("counts") or {}
    hidden = sum(counts.values()) - sum(not _is_in_another_run(task, _tasks(body)) for task in _tasks(body))
    if hidden > 0:
        top.add(Text(f"and {hidden} more tasks: {_in_words(counts)} in all", style="dim"))
    # A line is as long as it is, in a pipe and on a narrow terminal alike.
    out = sys.stdout
    paper = io.StringIO()
    Console(
        file=paper, width=4000, force_terminal=out.isatty(), highlight=False, color_system="standard"
    ).print(top)
    click.echo("\n".join(line.rstrip() for line in paper.getvalue().splitlines()))


def _plant(above: Tree, nodes: Iterable[Json], now: datetime) -> None:
    for node in nodes:
        style = _STYLES.get(node["status"], "")
        words = [str(node["id"]), str(node.get("type") or ""), node["status"], _took(node, now)]
        if int(node.get("attempts") or 1) > 1:
            words.append(f"{node['attempts']} attempts")
        if node.get("worker") and node["status"] == "Running":
            words.append(f"on {node['worker']}")
        line = Text("  ".join(word for word in words if word), style=style)
        if node.get("message"):
            line.append(f"  {node['message']}")
        _plant(above.add(line), node.get("tasks") or (), now)


def _took(node: Json, now: datetime) -> str:
    if not node.get("startedAt"):
        return ""
    end = datetime.fromisoformat(node["completedAt"]) if node.get("completedAt") else now
    return format_age(max(timedelta(), end - datetime.fromisoformat(node["startedAt"])))


def _rows(runs: Iterable[Json], everywhere: bool, now: datetime) -> Iterable[tuple[str, ...]]:
    first = ("NAMESPACE",) if everywhere else ()
    yield (*first, "NAME", "WORKFLOW", "PHASE", "PROGRESS", "CURRENT", "STARTED", "AGE")
    for body in runs:
        metadata, status = body["metadata"], body.get("status") or {}
        yield (
            *((metadata["namespace"],) if everywhere else ()),
            metadata["name"],
            body["spec"]["workflow"],
            phase_of(body),
            status.get("progress") or "",
            status.get("currentTask") or "",
            age_of(status.get("startedAt"), now),
            age_of(metadata["creationTimestamp"], now),
        )


def _describe(body: Json, now: datetime) -> str:
    status = body.get("status") or {}
    conductor = status.get("conductor") or {}
    ready: Json = next((item for item in status.get("conditions") or [] if item["type"] == "Ready"), {})
    last = status.get("lastAction") or {}
    said = [
        f"{item['task']}: {item['decision']} by {item['by']}"
        + (f", {item['note']}" if item.get("note") else "")
        for item in status.get("approvals") or []
    ]
    lines = {
        "Name": body["metadata"]["name"],
        "Workflow": body["spec"]["workflow"]
        + (f" version {conductor['version']}" if conductor.get("version") else ""),
        "Phase": phase_of(body) or "-",
        "Reason": ": ".join(part for part in (ready.get("reason"), ready.get("message")) if part),
        "Progress": status.get("progress"),
        "Conductor": conductor.get("workflowId"),
        "Started": age_of(status.get("startedAt"), now),
        "Finished": age_of(status.get("finishedAt"), now),
        "Action": " ".join(str(last[part]) for part in ("type", "result", "message") if last.get(part)),
        "Approvals": "; ".join(said),
    }
    ago = {"Started", "Finished"}
    return "\n".join(
        f"{name + ':':<11}{value}{' ago' if name in ago else ''}" for name, value in lines.items() if value
    )


def _tasks(body: Json) -> list[Json]:
    return (body.get("status") or {}).get("tasks") or []


def _is_in_another_run(task: Json, shown: Iterable[Json]) -> bool:
    """Whether it is in a sub-workflow: the counts are those of the run itself."""
    parents = {path_of(item): item for item in shown}
    above = parents.get(str(task.get("parent") or ""))
    return bool(task.get("parent")) and (above is None or bool(above.get("subWorkflowId")))


def _in_words(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{number} {name}" for name, number in counts.items() if number)
