"""A run that exists in Conductor: what it shows becomes the status, what the user wants is done to it."""

from datetime import datetime, timedelta

from podium.api.v1alpha1.workflow_run import FINISHED
from podium.core import effects as do
from podium.core.conditions import Word
from podium.core.durations import format_precise_time, format_time, parse_time
from podium.core.effects import Note, Report, RunEffect, Unknown
from podium.core.run_status import describe_run
from podium.core.runs.seen import LOOK_AGAIN, SETTLE, WAIT_FOR_CONDUCTOR, Seen
from podium.core.runs.words import (
    active_words,
    base_status,
    failed_words,
    has_ended,
    transition_notes,
    words_of,
)
from podium.ports import Json, RunSeen


def follow(seen: Seen, now: datetime) -> RunEffect:
    run = seen.run
    assert run.spec is not None
    conductor: Json = dict(run.status["conductor"])
    if seen.outcome and seen.outcome.kind == "Started":
        conductor["workflowId"] = seen.outcome.workflow_id
    status = base_status(run, now) | {"conductor": conductor}
    workflow_id: str = conductor["workflowId"]
    match seen.conductor:
        case None:
            if run.status.get("phase") in FINISHED:
                # A run may be over before its late twin appears.
                return _reap(seen, now, conductor) or Report(
                    run.status, words=words_of(run), requeue_after=_next_look(seen, now, conductor)
                )
            if seen.outcome and seen.outcome.kind == "Started":
                # The id is written with the first tasks' state; a crash before that is looked up.
                status["phase"] = "Running"
                return Report(
                    status,
                    active_words("Running", "started"),
                    requeue_after=SETTLE,
                    urgent=False,
                )
            return do.ReadRun(workflow_id)
        case Unknown(error, reason):
            if run.status.get("phase") in FINISHED:
                return Report(run.status, words_of(run), requeue_after=WAIT_FOR_CONDUCTOR)
            kept = dict(run.status) | {"conductor": conductor}
            kept.setdefault("phase", "Running")
            if kept["phase"] == "Starting":
                kept["phase"] = "Running"
            return Report(
                kept,
                active_words(reason, error),
                requeue_after=WAIT_FOR_CONDUCTOR,
            )
        case "Absent":
            if not seen.fresh:
                return do.ReadRun(workflow_id)
            return _vanished(seen, now, status)
        case RunSeen() as view:
            return _follow_seen(seen, now, status, view)


def _follow_seen(seen: Seen, now: datetime, status: Json, view: RunSeen) -> RunEffect:
    spec = seen.run.spec
    assert spec is not None
    if effect := _wanted_change(seen, view):
        return effect
    conductor: Json = status["conductor"]
    if effect := _reap(seen, now, conductor):
        return effect
    status |= describe_run(view)
    before = seen.run.status.get("phase")
    notes = transition_notes(before, status, conductor)
    match status["phase"]:
        case "Succeeded":
            words: tuple[Word, ...] = (
                Word("Ready", "True", "Succeeded", f"{status['progress']} tasks done"),
                Word("Succeeded", "True", "Succeeded"),
                Word("Finished", "True", "Succeeded"),
            )
        case "Failed" | "TimedOut" | "Terminated" as phase:
            words = failed_words(phase, status.get("message", ""))
        case phase:
            message = seen.failure or f"{status['progress']} tasks done"
            words = active_words(phase, message)
    moved = before != status["phase"] or seen.run.generation != seen.run.status.get("observedGeneration")
    return Report(
        status,
        words,
        notes=notes,
        requeue_after=_next_look(seen, now, conductor),
        urgent=moved and not (before == "Starting" and status["phase"] == "Running"),
    )


def _wanted_change(seen: Seen, view: RunSeen) -> RunEffect | None:
    """Pause, resume or end the run, if the user wants that and it can be done."""
    assert seen.run.spec is not None
    match seen.run.spec.desired_state, view.state:
        case "Terminated", "RUNNING" | "PAUSED":
            effect: do.Terminate | do.Pause | do.Resume = do.Terminate(
                view.workflow_id, "terminated through its WorkflowRun"
            )
        case "Paused", "RUNNING":
            effect = do.Pause(view.workflow_id)
        case "Running", "PAUSED":
            effect = do.Resume(view.workflow_id)
        case _:
            return None
    if type(effect).__name__ in seen.done:
        return None
    # Conductor answers oddly to what no longer fits (a failed run becomes TERMINATED): look first.
    return effect if seen.fresh else do.ReadRun(view.workflow_id)


def _reap(seen: Seen, now: datetime, conductor: Json) -> RunEffect | None:
    """After a start that had to be repeated, look once more for a late twin, and end it."""
    if conductor.get("attempt", 1) == 1 or not _twin_may_come(seen, now, conductor):
        return None
    match seen.lookup:
        case None:
            return do.LookUp(conductor["name"], conductor["correlationId"])
        case Unknown():
            return None
        case runs:
            for run in runs:
                ours = run.workflow_id == conductor["workflowId"]
                if not ours and not has_ended(run) and f"Terminate {run.workflow_id}" not in seen.done:
                    return do.Terminate(
                        run.workflow_id,
                        f"Podium: a duplicate of {conductor['workflowId']}, which is kept",
                        duplicate=True,
                    )
    return None


def _twin_may_come(seen: Seen, now: datetime, conductor: Json) -> bool:
    requested = parse_time(conductor.get("requestedAt") or format_precise_time(seen.run.created))
    return now - requested < 2 * seen.policy.unknown_start_wait + timedelta(seconds=2)


def _next_look(seen: Seen, now: datetime, conductor: Json) -> timedelta | None:
    if conductor.get("attempt", 1) > 1 and _twin_may_come(seen, now, conductor):
        return max(seen.policy.unknown_start_wait, LOOK_AGAIN)
    return WAIT_FOR_CONDUCTOR if seen.failure else None


def _vanished(seen: Seen, now: datetime, status: Json) -> Report:
    run = seen.run
    if run.status.get("phase") in FINISHED:
        return Report(run.status, words=words_of(run))
    workflow_id = status["conductor"]["workflowId"]
    message = f"run {workflow_id} no longer exists in Conductor: it was removed there"
    status |= {"phase": "Failed", "finishedAt": format_time(now), "message": message}
    return Report(status, failed_words("Vanished", message), (Note("Warning", "Vanished", message),))
