"""Whether a run gets on, and what it most likely waits for if not."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from podium.core.durations import from_milliseconds
from podium.core.run_status import latest_attempts, node_of
from podium.core.runs.approvals import waiting_tasks
from podium.core.runs.seen import Seen
from podium.ports import Polled, RunSeen, TaskSeen

_POLLED_WITHIN = timedelta(minutes=1)
_LATE = timedelta(seconds=30)
# So much later than its responseTimeout a worker counts as silent: Conductor looks about every second.
_OVERDUE = timedelta(seconds=4)


@dataclass(frozen=True)
class Stall:
    """Since when nothing moved, and why, most likely. `nudge`: Conductor itself is late."""

    since: datetime
    cause: str
    nudge: bool = False


def last_move(seen: Seen, view: RunSeen) -> datetime:
    """When the run moved last: a task that began, ended or gave a sign of life."""
    latest = max(
        (max(task.scheduled_ms, task.start_ms, task.end_ms, task.update_ms) for task in view.tasks), default=0
    )
    return from_milliseconds(max(latest, view.create_ms, view.retried_ms)) or seen.run.created


def has_open_tasks(view: RunSeen) -> bool:
    """Whether anything is still to be done, or waited for, before Conductor has to decide."""
    return any(task.state in ("SCHEDULED", "IN_PROGRESS") for task in latest_attempts(view.tasks))


def find_silence(view: RunSeen) -> tuple[int, datetime] | None:
    """The last sign of life of the worker that is overdue first, and when it has to be taken for lost.

    Conductor notices by itself, but late where the worker had extended its lease: after two minutes.
    """
    due: list[tuple[datetime, int]] = []
    for task in view.tasks:
        last_ms = max(task.update_ms, task.start_ms)
        last = from_milliseconds(last_ms)
        if task.state == "IN_PROGRESS" and task.system_type == "SIMPLE" and task.response_timeout_s and last:
            due.append((last + timedelta(seconds=task.response_timeout_s) + _OVERDUE, last_ms))
    at, mark_ms = min(due, default=(None, 0))
    return (mark_ms, at) if at is not None else None


def find_stall(seen: Seen, view: RunSeen, now: datetime) -> Stall:
    """Why a run that nothing moved for a while does not get on."""
    since = last_move(seen, view)
    nodes = view.nodes or {}
    waiting = [path for path, _, _ in waiting_tasks(seen, view)]
    open_tasks = [task for task in latest_attempts(view.tasks) if task.state in ("SCHEDULED", "IN_PROGRESS")]
    work = [task for task in open_tasks if task.system_type != "JOIN"]
    for task in work:
        if task.sub_workflow_id and seen.children.get(task.sub_workflow_id) == "Absent":
            name = node_of(task.ref, nodes)
            return Stall(
                since,
                f"the run of sub-workflow {name} ({task.sub_workflow_id}) was removed from Conductor: "
                "terminate this run, or Restart it",
            )
    if waiting:
        return Stall(since, f"{waiting[0]} waits for an approval")
    for task in work:
        if cause := _task_cause(seen, task, node_of(task.ref, nodes), now):
            return Stall(since, *cause)
    if work:
        first = node_of(work[0].ref, nodes)
        return Stall(
            since, f"{first} is being worked on" + (f" by {work[0].worker}" if work[0].worker else "")
        )
    return Stall(since, "no task is open: Conductor's sweeper is behind", nudge=True)


def _task_cause(seen: Seen, task: TaskSeen, name: str, now: datetime) -> tuple[str, bool] | None:
    moved = from_milliseconds(max(task.update_ms, task.start_ms, task.scheduled_ms))
    if moved is None:
        return None
    if task.state == "SCHEDULED" and task.system_type == "SIMPLE":
        again = moved + timedelta(seconds=task.callback_s)
        if task.callback_s and now < again + _LATE:
            return f"{name} is to be tried again in {max(0, round((again - now).total_seconds()))} s", False
        return _queue_cause(seen.pollers, task, name, now), False
    if task.state == "IN_PROGRESS" and task.response_timeout_s and task.system_type == "SIMPLE":
        overdue = now - moved - timedelta(seconds=task.response_timeout_s)
        if overdue > _LATE:
            what = f"the worker of {name} is silent for longer than the responseTimeout"
            return f"{what}, and Conductor's sweeper has not noticed", True
    return None


def _queue_cause(pollers: object, task: TaskSeen, name: str, now: datetime) -> str:
    where = f" in domain {task.domain}" if task.domain else ""
    if not isinstance(pollers, Sequence):
        return f"{name} waits for a worker of {task.task_type}{where}"
    known: list[Polled] = [
        item for item in pollers if item.task_type == task.task_type and item.domain == task.domain
    ]
    if any(now - item.at <= _POLLED_WITHIN for item in known):
        return f"{name} waits in the queue of {task.task_type}{where}: its workers are busy with others"
    return f"no worker polls {task.task_type}{where}, which {name} needs"
