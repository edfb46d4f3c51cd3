"""`status.approvals`: what people say to tasks that wait for them."""

from collections.abc import Iterator
from datetime import timedelta

from podium.core import effects as do
from podium.core.durations import from_milliseconds, parse_time
from podium.core.run_status import latest_attempts, node_of
from podium.core.runs.seen import Seen
from podium.ports import Json, RunSeen, TaskAnswer, TaskSeen

# Times are written to the second, and clocks differ a little.
_EARLY = timedelta(seconds=5)
_MOST_DEPTH = 5


def answer_waiting(seen: Seen, view: RunSeen, last_action: Json) -> do.Answer | None:
    """The next answer to give.

    An approval counts for the attempt that it names, if it was made since that attempt waits; never
    if the run was begun anew after it (`last_action`: that of the status to be).
    """
    said = [
        item
        for item in seen.run.status.get("approvals") or ()
        if item.get("decision") and _is_time(item["at"]) and not was_begun_anew_since(item["at"], last_action)
    ]
    if not said:
        return None
    for path, child, task in waiting_tasks(seen, view):
        if f"Answer {task.task_id}" in seen.done:
            continue
        for item in said:
            if item["task"] in (path, task.ref) and _fits(item, task):
                return do.Answer(_answer(child, task, item), path)
    return None


def _is_time(text: str) -> bool:
    """The API server lets more pass than there is, such as an offset of 99 hours."""
    try:
        return parse_time(text).tzinfo is not None
    except ValueError:
        return False


def was_begun_anew_since(time: str, last_action: Json) -> bool:
    """Whether the run asks again what was answered at `time`: it was restarted, or run again, after that."""
    anew = last_action.get("type") in ("Restart", "Rerun") and last_action.get("result") == "Done"
    return anew and parse_time(time) <= parse_time(last_action["at"])


def waiting_tasks(
    seen: Seen, view: RunSeen, path: str = "", depth: int = 0
) -> Iterator[tuple[str, RunSeen, TaskSeen]]:
    """(path, run, task) of the tasks that wait for a person, also those inside sub-workflows: parent/task."""
    for task in latest_attempts(view.tasks):
        name = path + node_of(task.ref, view.nodes or {})
        if task.system_type in ("HUMAN", "WAIT") and task.state == "IN_PROGRESS" and not _is_timed(task):
            yield name, view, task
        child = seen.children.get(task.sub_workflow_id)
        if isinstance(child, RunSeen) and child.state in ("RUNNING", "PAUSED") and depth < _MOST_DEPTH:
            yield from waiting_tasks(seen, child, f"{name}/", depth + 1)


def _is_timed(task: TaskSeen) -> bool:
    """A WAIT for a time: it ends by itself."""
    return task.system_type == "WAIT" and task.timed


def _fits(item: Json, task: TaskSeen) -> bool:
    began = from_milliseconds(task.start_ms)
    return item.get("attempt", 1) == task.attempt + 1 and (
        began is None or parse_time(item["at"]) >= began - _EARLY
    )


def _answer(run: RunSeen, task: TaskSeen, item: Json) -> TaskAnswer:
    by, note = str(item.get("by", "")), str(item.get("note") or "")
    approved = item["decision"] == "Approve"
    approval = {"decision": item["decision"], "by": by, "at": item["at"], "note": note}
    return TaskAnswer(
        workflow_id=run.workflow_id,
        task_id=task.task_id,
        approved=approved,
        by=by,
        reason="" if approved else f"rejected by {by}" + (f": {note}" if note else ""),
        output={**(item.get("output") or {}), "approval": approval},
    )
