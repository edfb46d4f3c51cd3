"""`podium logs`: what workers wrote to the logs of a run's tasks."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator

import click

from podium.adapters.console import LogLine, PersonalConductor
from podium.cli.access import Place, Told, cluster_options, json_option
from podium.cli.conductors import conductor_option, open_conductor
from podium.core.definitions.findings import did_you_mean
from podium.core.durations import format_time, from_milliseconds
from podium.core.run_status import node_of
from podium.ports import TaskSeen

_LOOK_EVERY = 1.0
_DEEPEST = 8
# What Conductor does by itself has no worker, and so no log.
_WITHOUT_LOG = frozenset(
    {"FORK", "FORK_JOIN", "FORK_JOIN_DYNAMIC", "JOIN", "EXCLUSIVE_JOIN", "NOOP", "SWITCH"}
)


@click.command()
@click.argument("run")
@click.argument("task", required=False)
@click.option("-f", "--follow", is_flag=True, help="Go on printing what is added, until the run ends.")
@json_option
@conductor_option
@cluster_options
async def logs(
    place: Place, run: str, task: str | None, follow: bool, output: str, conductor_url: str | None
) -> None:
    """Print the task logs of RUN, or of one TASK, with all attempts and sub-workflows.

    These are the lines that workers send to Conductor (`log(…)` in a function); what a worker prints is in
    the log of its pod.

    \b
    Example:
      podium logs thumbnail-1 scale -f
    """
    body = await place.get("WorkflowRun", run)
    workflow_id = ((body.get("status") or {}).get("conductor") or {}).get("workflowId")
    if not workflow_id:
        raise Told(f"{run} was not started in Conductor: it has no logs")
    async with open_conductor(place, body, conductor_url, "task logs are in Conductor") as conductor:
        printed: Counter[str] = Counter()
        while True:
            tasks, active = await _list_tasks(conductor, workflow_id)
            if task is not None:
                tasks = _choose(tasks, task, run, active and follow)
            async for title, line in _new_lines(conductor, tasks, printed):
                _print(title, line, output)
            if not (follow and active):
                return
            await asyncio.sleep(_LOOK_EVERY)


async def _list_tasks(
    conductor: PersonalConductor, workflow_id: str
) -> tuple[dict[str, list[TaskSeen]], bool]:
    """Path of a task (`call/scale` in a sub-workflow) → its attempts; and whether the run still goes on."""
    found: dict[str, list[TaskSeen]] = {}
    active = False
    level = [("", workflow_id)]
    for _ in range(_DEEPEST):
        runs = await conductor.get_runs([item for _, item in level])
        below = []
        for path, item in level:
            seen = runs.get(item)
            if seen is None:
                continue
            active = active or (item == workflow_id and seen.state in ("RUNNING", "PAUSED"))
            for entry in sorted(seen.tasks, key=lambda one: one.seq):
                here = path + node_of(entry.ref, seen.nodes or {})
                found.setdefault(here, []).append(entry)
                if entry.sub_workflow_id:
                    below.append((f"{here}/", entry.sub_workflow_id))
        level = list(dict.fromkeys(below))
        if not level:
            break
    if not found and not active:
        raise Told(f"Conductor no longer has run {workflow_id}: its logs are gone")
    return found, active


def _choose(
    tasks: dict[str, list[TaskSeen]], task: str, run: str, may_come: bool
) -> dict[str, list[TaskSeen]]:
    chosen = {
        path: entries
        for path, entries in tasks.items()
        if path == task or path.startswith(f"{task}/") or any(entry.ref == task for entry in entries)
    }
    if not chosen and not may_come:
        hint = did_you_mean(task, tasks)
        raise Told(f"{run} has no task {task!r} yet" + (f"; {hint}" if hint else ""))
    return chosen


async def _new_lines(
    conductor: PersonalConductor, tasks: dict[str, list[TaskSeen]], printed: Counter[str]
) -> AsyncIterator[tuple[str, LogLine]]:
    for path, entries in tasks.items():
        for entry in entries:
            if entry.system_type in _WITHOUT_LOG:
                continue
            lines = await conductor.list_logs(entry.task_id)
            title = path if len(entries) == 1 else f"{path}#{entry.attempt + 1}"
            for line in lines[printed[entry.task_id] :]:
                yield title, line
            printed[entry.task_id] = max(len(lines), printed[entry.task_id])


def _print(title: str, line: LogLine, output: str) -> None:
    at = from_milliseconds(line.at_ms)
    time = format_time(at) if at else "-"
    if output == "json":
        click.echo(json.dumps({"task": title, "at": time, "text": line.text}, ensure_ascii=False))
    else:
        click.echo(f"{time}  {title}  {line.text}")
