"""Reports and their words: what a run's status says in each state."""

from datetime import datetime, timedelta
from typing import Literal

from podium.api.v1alpha1.reasons import Reason
from podium.core.conditions import Word, reconciling, stalled, write_conditions
from podium.core.durations import format_time, parse_duration, parse_time
from podium.core.effects import Note, Report
from podium.core.objects import WorkflowRun, conditions_of
from podium.core.runs.seen import Seen
from podium.ports import Json, RunSeen

_NEWS_AFTER = timedelta(seconds=10)


def report_conditions(seen: Seen, report: Report, now: datetime) -> Json:
    """The status of a report, with its conditions and generation: what is written."""
    status = dict(report.status or {})
    status.pop("approvals", None)  # people's, never ours to write
    status["observedGeneration"] = seen.run.generation
    words = tuple(word for word in report.words if word.type != "ActionDone")
    status["conditions"] = write_conditions(
        (*words, *_action_word(status)), conditions_of(seen.run), generation=seen.run.generation, now=now
    )
    return status


def _action_word(status: Json) -> tuple[Word, ...]:
    if pending := status.get("pendingAction"):
        return (Word("ActionDone", "False", "ActionPending", f"{pending['type']} {pending['id']}"),)
    match status.get("lastAction"):
        case {"id": action_id, "type": kind, "result": "Done"}:
            return (Word("ActionDone", "True", "ActionDone", f"{kind} {action_id}"),)
        case {"id": action_id, "type": kind, **rest}:
            return (
                Word(
                    "ActionDone", "False", "ActionRefused", f"{kind} {action_id}: {rest.get('message', '')}"
                ),
            )
        case _:
            return ()


def active_words(reason: Reason, message: str) -> tuple[Word, ...]:
    return (*reconciling(reason, message), Word("Succeeded", "Unknown", reason, message))


def failed_words(reason: Reason, message: str) -> tuple[Word, ...]:
    return (
        *stalled(reason, message),
        Word("Succeeded", "False", reason, message),
        Word("Finished", "True", reason),
    )


def wait(seen: Seen, now: datetime, reason: Reason, message: str, again: timedelta | None = None) -> Report:
    """It cannot be started yet, or it has waited for as long as it may."""
    status = answer_unstarted(seen.run, now) | {"phase": "Pending"}
    spec = seen.run.spec
    if spec and spec.pending_timeout and spec.desired_state != "Paused":
        left = _waits_since(seen.run) + parse_duration(spec.pending_timeout) - now
        if left <= timedelta(0):
            why = f"not started within {spec.pending_timeout}: {message}"
            return finish_unstarted(seen, now, "Failed", "PendingTimeout", why)
        again = min(again, left) if again else left
    quiet = seen.run.created + _NEWS_AFTER - now
    if quiet > timedelta(0):
        # Manifests applied together come in any order: waiting a moment is no news.
        return Report(status, active_words(reason, message), (), min(again, quiet) if again else quiet)
    notes = (Note("Normal", reason, message),)
    return Report(status, active_words(reason, message), notes, again)


def _waits_since(run: WorkflowRun) -> datetime:
    """When it was made, or started again by an action."""
    last = run.status.get("lastAction") or {}
    again = (last.get("type"), last.get("result")) == ("Restart", "Done")
    return max(run.created, parse_time(last["at"])) if again else run.created


def starting(seen: Seen, reason: Reason, message: str, again: timedelta) -> Report:
    status = base_status(seen.run) | {"phase": "Starting", "conductor": seen.run.status["conductor"]}
    notes = (Note("Warning", reason, message),) if changed_reason(seen, reason) else ()
    return Report(status, active_words(reason, message), notes, again)


def finish_unstarted(
    seen: Seen, now: datetime, phase: Literal["Failed", "Terminated"], reason: Reason, message: str
) -> Report:
    status = answer_unstarted(seen.run, now) | {"phase": phase, "message": message[:256]}
    status["finishedAt"] = seen.run.status.get("finishedAt") or format_time(now)
    if conductor := seen.run.status.get("conductor"):
        status["conductor"] = conductor
    already = seen.run.status.get("phase") == phase
    notes = () if already else (Note("Warning", reason, message),)
    return Report(status, failed_words(reason, message), notes)


def base_status(run: WorkflowRun) -> Json:
    """What every status keeps from the one before."""
    return {name: run.status[name] for name in ("pendingAction", "lastAction") if run.status.get(name)}


def answer_unstarted(run: WorkflowRun, now: datetime) -> Json:
    """As `base_status`, for a run that is not in Conductor: an action has nothing to act on."""
    action = run.spec.action if run.spec else None
    last = run.status.get("lastAction")
    if action is not None and (not last or last.get("id") != action.id):
        last = {
            "id": action.id,
            "type": action.type,
            "result": "Refused",
            "message": "the run has not started",
            "at": format_time(now),
        }
    return {"lastAction": last} if last else {}


def words_of(run: WorkflowRun) -> tuple[Word, ...]:
    return tuple(
        Word(item["type"], item["status"], item["reason"], item.get("message", ""))
        for item in conditions_of(run)
    )


def changed_reason(seen: Seen, reason: Reason) -> bool:
    return all(item.get("reason") != reason for item in conditions_of(seen.run))


def has_ended(view: RunSeen) -> bool:
    return view.state not in ("RUNNING", "PAUSED")


def started_note(conductor: Json) -> Note:
    return Note(
        "Normal",
        "Started",
        f"{conductor['name']} version {conductor['version']} runs in Conductor as {conductor['workflowId']}",
    )


def transition_notes(before: str | None, status: Json, conductor: Json) -> tuple[Note, ...]:
    after = status["phase"]
    if before == after:
        return ()
    started = (started_note(conductor),) if before == "Starting" else ()
    if after == "Running":
        return started or (Note("Normal", "Running", "the run goes on"),)
    if after == "Succeeded":
        return (*started, Note("Normal", "Succeeded", f"{status['progress']} tasks done"))
    if after == "Paused":
        return (*started, Note("Normal", "Paused", "no new tasks are scheduled until it is resumed"))
    return (*started, Note("Warning", after, status.get("message", f"run {conductor['workflowId']} ended")))
