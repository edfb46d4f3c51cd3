"""A run as Conductor shows it → the status that people read. Bounded, whatever the run's size."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping

from podium.api.v1alpha1.workflow_run import Phase, TaskStatus
from podium.core.conditions import json_bytes, shorten
from podium.core.durations import format_time, from_milliseconds
from podium.ports import Json, RunSeen, RunState, TaskSeen, TaskState

MOST_TASKS = 16
MOST_OUTPUT_BYTES = 2048
_MOST_BYTES = 8192
_REST_BYTES = 1700
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


def describe_run(seen: RunSeen) -> Json:
    """The part of WorkflowRun.status that follows from Conductor's view of the run."""
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
        status |= bound_output(seen.output)
        if seen.state != "COMPLETED":
            status["message"] = explain_end(seen)
    # The message stands in three conditions too; the rest is what names the run and the conditions.
    room = _MOST_BYTES - _REST_BYTES - 3 * json_bytes(status.get("message", ""))
    for most in range(MOST_TASKS, -1, -1):
        status["tasks"] = [_describe_task(task, nodes) for task in _most_interesting(latest, most)]
        if json_bytes(status) <= room:
            break
    return status


def explain_end(seen: RunSeen) -> str:
    """Why a run did not succeed, in words, with the task as the user named it."""
    nodes = seen.nodes or {}
    failed = [
        task
        for task in latest_attempts(seen.tasks)
        if task.state in ("FAILED", "FAILED_WITH_TERMINAL_ERROR", "TIMED_OUT") and _is_shown(task, nodes)
    ]
    if not failed:
        return shorten(seen.reason or f"the run ended as {PHASES[seen.state]}; Conductor gives no reason")
    task = min(failed, key=lambda task: task.end_ms or task.seq)
    what = "timed out" if task.state == "TIMED_OUT" else "failed"
    tries = f" after {task.attempt + 1} attempts" if task.attempt else ""
    why = f": {task.reason}" if task.reason else ""
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


def node_of(ref: str, nodes: Mapping[str, str]) -> str:
    """The id that the user wrote for a reference name; loop bodies keep their iteration."""
    if ref in nodes:
        return nodes[ref]
    plain = _ITERATION.sub("", ref)
    return nodes[plain] + ref[len(plain) :] if plain in nodes else ref


def bound_output(output: Json | None) -> Json:
    """`output` if it is at most 2 KiB, else only that it was cut."""
    if not output:
        return {}
    return {"output": output} if json_bytes(output) <= MOST_OUTPUT_BYTES else {"outputTruncated": True}


def _is_shown(task: TaskSeen, nodes: Mapping[str, str]) -> bool:
    if task.ref in nodes or _ITERATION.sub("", task.ref) in nodes:
        return True
    return not nodes or task.system_type not in _CONTROL_TYPES


def _most_interesting(tasks: list[TaskSeen], most: int) -> list[TaskSeen]:
    """At most so many, the most telling ones; shown failures first, then in their order."""
    if len(tasks) > most:
        # Of what is done, the latest says most.
        tasks = sorted(tasks, key=lambda task: (_INTEREST[_TASK_STATUS[task.state]], -task.seq))[:most]
    return sorted(tasks, key=lambda task: (_INTEREST[_TASK_STATUS[task.state]] > 0, task.seq))


def _describe_task(task: TaskSeen, nodes: Mapping[str, str]) -> Json:
    status = _TASK_STATUS[task.state]
    described: Json = {
        "id": shorten(node_of(task.ref, nodes), 64),
        "ref": shorten(task.ref, 64),
        "type": shorten(task.task_type, 48),
        "status": status,
        "attempts": task.attempt + 1,
    }
    if started := from_milliseconds(task.start_ms):
        described["startedAt"] = format_time(started)
    if task.state not in ("SCHEDULED", "IN_PROGRESS") and (ended := from_milliseconds(task.end_ms)):
        described["completedAt"] = format_time(ended)
    if task.worker:
        described["worker"] = shorten(task.worker, 48)
    if task.reason and _INTEREST[status] <= 1:
        described["message"] = shorten(task.reason, _TASK_MESSAGE)
    return described
