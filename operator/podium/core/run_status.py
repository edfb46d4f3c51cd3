"""A run as Conductor shows it → the status that people read. Bounded, whatever the run's size."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from podium.api.v1alpha1.workflow_run import Phase, TaskStatus
from podium.core.conditions import json_bytes, shorten
from podium.core.durations import format_time, from_milliseconds
from podium.ports import Json, RunSeen, RunState, TaskSeen, TaskState

MOST_TASKS = 16
# Where Conductor puts the id of the failure workflow's run, or why it could not be started.
FAILURE_RUN = "conductor.failure_workflow"
_MOST_DEPTH = 5
MOST_OUTPUT_BYTES = 2048
_MOST_OUTPUT_DEPTH = 64
_LONGEST_KEY = 1000
_MOST_BYTES = 8192
_REST_BYTES = 2100
_TASK_MESSAGE = 96
_ITERATION = re.compile(r"__\d+$")
# What a compiler of ours adds between the user's nodes; nobody wrote it, so nobody sees it.
_CONTROL_TYPES = frozenset({"FORK", "FORK_JOIN", "FORK_JOIN_DYNAMIC", "JOIN", "EXCLUSIVE_JOIN", "NOOP"})

PHASES: dict[RunState, Phase] = {
    "RUNNING": "Running",
    "PAUSED": "Paused",
    "COMPLETED": "Succeeded",
    "FAILED": "Failed",
    "TIMED_OUT": "TimedOut",
    "TERMINATED": "Terminated",
}
_TASK_STATUS: dict[TaskState, TaskStatus] = {
    "SCHEDULED": "Pending",
    "IN_PROGRESS": "Running",
    "COMPLETED": "Completed",
    "COMPLETED_WITH_ERRORS": "CompletedWithErrors",
    "FAILED": "Failed",
    "FAILED_WITH_TERMINAL_ERROR": "Failed",
    "CANCELED": "Canceled",
    "TIMED_OUT": "TimedOut",
    "SKIPPED": "Skipped",
}
_COUNTED_AS = {
    "Pending": "pending",
    "Running": "running",
    "Completed": "completed",
    "CompletedWithErrors": "completed",
    "Skipped": "completed",
    "Failed": "failed",
    "TimedOut": "failed",
    "Canceled": "failed",
}
# Which tasks are worth one of the sixteen places: failures, then what runs, then what waits.
_INTEREST: dict[TaskStatus, int] = {
    "Failed": 0,
    "TimedOut": 0,
    "CompletedWithErrors": 1,
    "Running": 2,
    "Pending": 3,
    "Canceled": 4,
    "Completed": 5,
    "Skipped": 5,
}


Children = Mapping[str, RunSeen | Literal["Absent"]]
"""Runs of sub-workflows by their id, as far as they are known."""


@dataclass(frozen=True, slots=True)
class _Line:
    """One task to be shown, and where it hangs in the tree."""

    task: TaskSeen
    id: str
    parent: str
    order: tuple[int, ...]


def describe_run(seen: RunSeen, children: Children | None = None) -> Json:
    """The part of WorkflowRun.status that follows from Conductor's view of the run and its sub-workflows."""
    children = children or {}
    nodes = seen.nodes or {}
    latest = [task for task in latest_attempts(seen.tasks) if _is_shown(task, nodes)]
    statuses = {task.ref: _TASK_STATUS[task.state] for task in latest}
    counts = Counter(_COUNTED_AS[status] for status in statuses.values())
    ended = seen.state not in ("RUNNING", "PAUSED")
    known = len(latest) if ended and seen.state == "COMPLETED" else max(len(latest), len(nodes))
    status: Json = {
        "phase": PHASES[seen.state],
        "progress": f"{counts['completed']}/{known}",
        "counts": {name: counts[name] for name in ("pending", "running", "completed", "failed")},
    }
    current = [task for task in latest if task.state in ("IN_PROGRESS", "SCHEDULED")]
    if current and not ended:
        first = min(current, key=lambda task: (task.state != "IN_PROGRESS", task.seq))
        status["currentTask"] = node_of(first.ref, nodes)
    if started := from_milliseconds(seen.create_ms or seen.start_ms):
        status["startedAt"] = format_time(started)
    if ended:
        if finished := from_milliseconds(seen.end_ms):
            status["finishedAt"] = format_time(finished)
        output = {name: value for name, value in (seen.output or {}).items() if name != FAILURE_RUN}
        status |= bound_output(output, seen.output_path)
        if seen.state != "COMPLETED":
            status["message"] = explain_end(seen, children)
    # The message stands in three conditions too; the rest is what names the run and the conditions.
    room = _MOST_BYTES - _REST_BYTES - 3 * json_bytes(status.get("message", ""))
    lines = list(_lines(seen, children))
    for most in range(MOST_TASKS, -1, -1):
        status["tasks"] = [_describe_task(line) for line in _most_interesting(lines, most)]
        if json_bytes(status) <= room:
            break
    return status


def explain_end(seen: RunSeen, children: Children | None = None, depth: int = 0) -> str:
    """Why a run did not succeed, in words, with the task as the user named it."""
    nodes = seen.nodes or {}
    failed = [task for task in failed_tasks(seen) if _is_shown(task, nodes)]
    if not failed:
        return shorten(seen.reason or f"the run ended as {PHASES[seen.state]}; Conductor gives no reason")
    task = failed[0]
    what = "timed out" if task.state == "TIMED_OUT" else "failed"
    tries = f" after {task.attempt + 1} attempts" if task.attempt else ""
    child = (children or {}).get(task.sub_workflow_id)
    reason = task.reason
    if isinstance(child, RunSeen) and child.state != "COMPLETED" and depth < _MOST_DEPTH:
        reason = explain_end(child, children, depth + 1)
    why = f": {reason}" if reason else ""
    return shorten(f"{node_of(task.ref, nodes)} {what}{tries}{why}")


def latest_attempts(tasks: Iterable[TaskSeen]) -> list[TaskSeen]:
    """One entry per reference name, the latest attempt, in the order in which they were scheduled.

    A read during a decision of Conductor is not atomic: two entries of one task may both look alive.
    """
    latest: dict[str, TaskSeen] = {}
    for task in tasks:
        known = latest.get(task.ref)
        if known is None or (task.attempt, task.seq) > (known.attempt, known.seq):
            latest[task.ref] = task
    return sorted(latest.values(), key=lambda task: task.seq)


def failed_tasks(view: RunSeen) -> list[TaskSeen]:
    """The tasks whose failure stands, the one that failed first before the others."""
    failed = (
        task
        for task in latest_attempts(view.tasks)
        if task.state in ("FAILED", "FAILED_WITH_TERMINAL_ERROR", "TIMED_OUT")
    )
    return sorted(failed, key=lambda task: task.end_ms or task.seq)


def open_children(view: object) -> list[str]:
    """Runs of the sub-workflow tasks of a run that have not ended well."""
    if not isinstance(view, RunSeen):
        return []
    return [
        task.sub_workflow_id
        for task in latest_attempts(view.tasks)
        if task.sub_workflow_id and task.state not in ("COMPLETED", "SKIPPED")
    ]


def is_child(view: object, *parents: str) -> bool:
    """Whether a run may count as a sub-workflow of one of these: it has to say so itself, or to be gone.

    What a task names may be any run, also another tenant's.
    """
    return not isinstance(view, RunSeen) or view.parent_id in parents


def node_of(ref: str, nodes: Mapping[str, str]) -> str:
    """The id that the user wrote for a reference name; loop bodies keep their iteration."""
    if ref in nodes:
        return nodes[ref]
    plain = _ITERATION.sub("", ref)
    return nodes[plain] + ref[len(plain) :] if plain in nodes else ref


def bound_output(output: Json | None, path: str = "") -> Json:
    """`output` if it is at most 2 KiB, else only that it was cut, and where Conductor keeps it."""
    if path:
        return {"outputTruncated": True, "outputPath": shorten(path, 253)}
    if not output:
        return {}
    return {"output": output} if _is_small(output) else {"outputTruncated": True}


def _is_small(output: Json) -> bool:
    """Whether a status can hold it: the API server takes that for YAML, with keys of 1,024 bytes at most."""
    try:
        if json_bytes(output) > MOST_OUTPUT_BYTES:
            return False
    except RecursionError:
        return False
    level: list[Any] = [output]
    for _ in range(_MOST_OUTPUT_DEPTH):
        pairs = [pair for item in level if isinstance(item, dict) for pair in item.items()]
        if any(len(json.dumps(key)) > _LONGEST_KEY for key, _ in pairs):
            return False
        items = [inner for item in level if isinstance(item, list) for inner in item]
        level = [*(value for _, value in pairs), *items]
    return not level


def _is_shown(task: TaskSeen, nodes: Mapping[str, str]) -> bool:
    if task.ref in nodes or _ITERATION.sub("", task.ref) in nodes:
        return True
    return not nodes or task.system_type not in _CONTROL_TYPES


def _lines(
    seen: RunSeen, children: Children, parent: str = "", order: tuple[int, ...] = ()
) -> Iterator[_Line]:
    """The tasks of a run, those of its sub-workflows behind each; ids as people name them."""
    nodes = seen.nodes or {}
    latest = latest_attempts(seen.tasks)
    forks = {ref: node_of(task.ref, nodes) for task in latest for ref in task.forked}
    for task in latest:
        if not _is_shown(task, nodes):
            continue
        name = node_of(task.ref, nodes)
        place = (*order, task.seq)
        yield _Line(task, name, parent or forks.get(task.ref, ""), place)
        child = children.get(task.sub_workflow_id)
        if isinstance(child, RunSeen) and len(order) < _MOST_DEPTH:
            yield from _lines(child, children, f"{parent}/{name}" if parent else name, place)


def _most_interesting(lines: list[_Line], most: int) -> list[_Line]:
    """At most so many, the most telling ones; shown failures first, then in their order."""
    if len(lines) > most:
        # Of what is done, the latest says most.
        lines = sorted(lines, key=lambda line: (_interest(line.task), [-number for number in line.order]))[
            :most
        ]
    return sorted(lines, key=lambda line: (_interest(line.task) > 0, line.order))


def _interest(task: TaskSeen) -> int:
    return _INTEREST[_TASK_STATUS[task.state]]


def _describe_task(line: _Line) -> Json:
    task = line.task
    status = _TASK_STATUS[task.state]
    described: Json = {
        "id": shorten(line.id, 64),
        "ref": shorten(task.ref, 64),
        "type": shorten(task.task_type if task.system_type == "SIMPLE" else task.system_type, 48),
        "status": status,
        "attempts": task.attempt + 1,
    }
    if line.parent:
        described["parent"] = shorten(line.parent, 96)
    if task.sub_workflow_id:
        described["subWorkflowId"] = task.sub_workflow_id
    if started := from_milliseconds(task.start_ms):
        described["startedAt"] = format_time(started)
    if task.state not in ("SCHEDULED", "IN_PROGRESS") and (ended := from_milliseconds(task.end_ms)):
        described["completedAt"] = format_time(ended)
    if task.worker:
        described["worker"] = shorten(task.worker, 48)
    if task.reason and _INTEREST[status] <= 1:
        described["message"] = shorten(task.reason, _TASK_MESSAGE)
    return described
