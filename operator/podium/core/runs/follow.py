"""A run that exists in Conductor: what it shows becomes the status, what the user wants is done to it."""

from datetime import datetime, timedelta

from podium.api.v1alpha1.reasons import Reason
from podium.api.v1alpha1.workflow_run import FINISHED
from podium.core import effects as do
from podium.core.conditions import Word
from podium.core.durations import (
    format_precise_time,
    format_time,
    from_milliseconds,
    parse_duration,
    parse_time,
)
from podium.core.effects import Note, Report, RunEffect, Unknown
from podium.core.run_status import (
    FAILURE_RUN,
    PHASES,
    describe_run,
    explain_end,
    failed_tasks,
    latest_attempts,
)
from podium.core.runs.act import Acted, act, done, new_action, refused
from podium.core.runs.approvals import answer_waiting, waiting_tasks
from podium.core.runs.outage import judge_absence, sit_out
from podium.core.runs.progress import find_silence, find_stall, has_open_tasks, last_move
from podium.core.runs.seen import LOOK_AGAIN, SETTLE, WAIT_FOR_CONDUCTOR, Seen, WorkflowFacts
from podium.core.runs.words import (
    active_words,
    base_status,
    failed_words,
    has_ended,
    transition_notes,
    words_of,
)
from podium.ports import Json, RunSeen, RunState

_END_REASONS: dict[RunState, Reason] = {"TIMED_OUT": "TimedOut", "TERMINATED": "Terminated"}
_NEVER_TAKEN = "PendingTimeout: "
# Conductor decides what comes next within a second or two.
_LATE = timedelta(seconds=15)
# Until a run that was to be read anew has been.
_TIME_TO_READ = timedelta(seconds=3)
_LONG = timedelta(days=1)
_LOOK_AT_STALL = timedelta(minutes=1)
_MOST_REASONS = 8


def follow(seen: Seen, now: datetime) -> RunEffect:
    run = seen.run
    assert run.spec is not None
    conductor: Json = dict(run.status["conductor"])
    if seen.outcome and seen.outcome.kind == "Started":
        conductor["workflowId"] = seen.outcome.workflow_id
    status = base_status(run) | {"conductor": conductor}
    workflow_id: str = conductor["workflowId"]
    finished = run.status.get("phase") in FINISHED
    if (report := sit_out(seen, now)) is not None:
        return report
    match seen.conductor:
        case None:
            if finished:
                return _at_rest(seen, now, conductor)
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
            if finished:
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
            return _begin_anew(seen, now) or _judge(seen, now, conductor) or _vanished(seen, now, status)
        case RunSeen() as view:
            return _follow_seen(seen, now, status, view)


def _judge(seen: Seen, now: datetime, conductor: Json) -> RunEffect | None:
    """What the absence of a run means that had not ended, unless it was removed."""
    if seen.run.status.get("phase") in FINISHED:
        return None
    return judge_absence(seen, now, dict(seen.run.status) | {"conductor": conductor})


def _at_rest(seen: Seen, now: datetime, conductor: Json) -> RunEffect:
    """A run that has ended and whose end is written: it is read again only if something is wanted of it."""
    run = seen.run
    if new_action(seen) is not None or run.status.get("pendingAction"):
        return do.ReadRun(conductor["workflowId"])
    # A run may be over before its late twin appears.
    if effect := _reap(seen, now, conductor):
        return effect
    status = dict(run.status)
    if failure_run := run.status.get("failureRun"):
        status["failureRun"] = failure_run | _describe_failure_run(seen)
    return Report(status, words=words_of(run), requeue_after=_next_look(seen, now, conductor))


def _follow_seen(seen: Seen, now: datetime, status: Json, view: RunSeen) -> RunEffect:
    conductor: Json = status["conductor"]
    if effect := _change(seen, view) or _give_up_waiting(seen, now, view):
        return effect
    acted = act(seen, now, view)
    if not isinstance(acted, Acted):
        return acted
    if effect := answer_waiting(seen, view, acted.fields.get("lastAction") or {}) or _reap(
        seen, now, conductor
    ):
        return effect
    if has_ended(view) and view.state != "COMPLETED" and (unread := _unread_failures(seen, view)):
        return do.ReadChildren(unread)
    for name in ("pendingAction", "lastAction"):
        status.pop(name, None)
    status |= acted.fields | describe_run(view, seen.children)
    before = seen.run.status.get("phase")
    # What could not be done, though Conductor took it, is tried again.
    unfit = WAIT_FOR_CONDUCTOR if _wanted_change(seen, view) is not None else None
    waiting = _waiting(seen, now, view)
    looks = (_next_look(seen, now, conductor), acted.again, unfit, waiting[0] if waiting else None)
    again = [pause for pause in looks if pause is not None and pause > timedelta(0)]
    match status["phase"]:
        case "Succeeded":
            words: tuple[Word, ...] = (
                Word("Ready", "True", "Succeeded", f"{status['progress']} tasks done"),
                Word("Succeeded", "True", "Succeeded"),
                Word("Finished", "True", "Succeeded"),
            )
        case "Failed" | "TimedOut" | "Terminated":
            words = _end_words(seen, view, status)
        case "Paused":
            words = active_words("Paused", seen.failure or f"{status['progress']} tasks done")
        case _:
            progressing = _progress(seen, now, view)
            if not isinstance(progressing, tuple):
                return progressing
            word, look = progressing
            again.append(look)
            words = (*active_words("Running", _active_message(seen, view, status)), word)
    moved = before != status["phase"] or seen.run.generation != seen.run.status.get("observedGeneration")
    return Report(
        status,
        words,
        notes=(*acted.notes, *transition_notes(before, status, conductor)),
        requeue_after=min(again, default=None),
        urgent=bool(acted.notes)
        or acted.urgent
        or (moved and not (before == "Starting" and status["phase"] == "Running")),
    )


def _active_message(seen: Seen, view: RunSeen, status: Json) -> str:
    if seen.failure:
        return seen.failure
    waits = next((f"; {path} waits for an approval" for path, _, _ in waiting_tasks(seen, view)), "")
    return f"{status['progress']} tasks done{waits}"


def _end_words(seen: Seen, view: RunSeen, status: Json) -> tuple[Word, ...]:
    """Words of a run that did not end well; what Podium ended because nobody took it says so."""
    value = (view.output or {}).get(FAILURE_RUN)
    if isinstance(value, str):
        started = " " not in value
        status["failureRun"] = ({"workflowId": value} if started else {"message": value[:256]}) | (
            _describe_failure_run(seen) if started else {}
        )
    if view.state == "TERMINATED" and view.reason.startswith(_NEVER_TAKEN):
        status["phase"], status["message"] = "Failed", view.reason.removeprefix(_NEVER_TAKEN)
        return failed_words("PendingTimeout", status["message"])
    return failed_words(_END_REASONS.get(view.state, "Failed"), status.get("message", ""))


def _describe_failure_run(seen: Seen) -> Json:
    view = seen.failure_run
    if view is None:
        return {}
    if view == "Absent":
        return {"phase": "Failed", "message": "it no longer exists in Conductor"}
    described: Json = {"phase": PHASES[view.state]}
    if has_ended(view) and view.state != "COMPLETED":
        described["message"] = explain_end(view)
    return described


def _progress(seen: Seen, now: datetime, view: RunSeen) -> tuple[Word, timedelta] | RunEffect:
    """The condition Progressing, and when it may become another one; or what must be known for it."""
    deadline = (seen.workflow or WorkflowFacts("", None, suspended=False)).progress_deadline
    moved = last_move(seen, view)
    left = moved + deadline - now
    if left > timedelta(0):
        if view.tasks and not has_open_tasks(view):
            # Conductor can lose sight of a run whose last task has ended (seen on a busy server).
            late = now - moved >= _LATE
            if late and "Nudge" not in seen.done:
                return do.Nudge(view.workflow_id)
            left = min(left, _LATE if late else moved + _LATE - now)
        heard = _listen(seen, now, view)
        if not isinstance(heard, timedelta):
            return heard
        return Word("Progressing", "True", "Progressing"), min(left, heard)
    if seen.pollers is None:
        return do.ReadPollers()
    stall = find_stall(seen, view, now)
    if stall.nudge and "Nudge" not in seen.done:
        return do.Nudge(view.workflow_id)
    message = f"nothing has moved since {format_time(stall.since)}: {stall.cause}"
    return Word("Progressing", "False", "NoProgress", message), _LOOK_AT_STALL


def _listen(seen: Seen, now: datetime, view: RunSeen) -> timedelta | RunEffect:
    """Have Conductor look at a run whose worker is silent for too long; when to listen again."""
    silence = find_silence(view)
    if silence is None:
        return _LONG
    mark_ms, due = silence
    if now < due:
        return due - now
    # What is known may be old: a worker's signs of life are no news that anyone tells.
    if seen.refreshed is None or seen.refreshed[0] != mark_ms:
        return do.Refresh(view.workflow_id, mark_ms)
    read = seen.refreshed[1] + _TIME_TO_READ
    if now < read:
        return read - now
    return _LATE if "Nudge" in seen.done else do.Nudge(view.workflow_id)


def _wanted_change(seen: Seen, view: RunSeen) -> do.Terminate | do.Pause | do.Resume | None:
    """Pause, resume or end the run, if the user wants that and it is not so."""
    assert seen.run.spec is not None
    match seen.run.spec.desired_state, view.state:
        case "Terminated", "RUNNING" | "PAUSED":
            return do.Terminate(view.workflow_id, "terminated through its WorkflowRun")
        case "Paused", "RUNNING":
            return do.Pause(view.workflow_id)
        case "Running", "PAUSED":
            return do.Resume(view.workflow_id)
        case _:
            return None


def _change(seen: Seen, view: RunSeen) -> RunEffect | None:
    """The same as an effect of this pass, once."""
    effect = _wanted_change(seen, view)
    if effect is None or type(effect).__name__ in seen.done:
        return None
    # Conductor answers oddly to what no longer fits (a failed run becomes TERMINATED): look first.
    return effect if seen.fresh else do.ReadRun(view.workflow_id)


def _give_up_waiting(seen: Seen, now: datetime, view: RunSeen) -> RunEffect | None:
    """End a run of which no worker took a task within its pendingTimeout."""
    waiting = _waiting(seen, now, view)
    if waiting is None or waiting[0] > timedelta(0) or "Terminate" in seen.done:
        return None
    if not seen.fresh:
        return do.ReadRun(view.workflow_id)
    return do.Terminate(view.workflow_id, _NEVER_TAKEN + waiting[1])


def _waiting(seen: Seen, now: datetime, view: RunSeen) -> tuple[timedelta, str] | None:
    """How much is left of the pendingTimeout of a run of which no task was taken, and what it waits for.

    It counts from when the task could be taken: so anew for a run that is begun anew, and not for one that
    rests since someone wants it to.
    """
    spec = seen.run.spec
    if (
        spec is None
        or spec.pending_timeout is None
        or view.state != "RUNNING"
        or spec.desired_state == "Paused"
    ):
        return None
    tasks = [task for task in latest_attempts(view.tasks) if task.system_type == "SIMPLE"]
    scheduled = [task for task in tasks if task.state == "SCHEDULED"]
    if not scheduled or any(task.start_ms for task in view.tasks if task.system_type == "SIMPLE"):
        return None
    since = from_milliseconds(max(scheduled[0].scheduled_ms, view.create_ms)) or seen.run.created
    left = since + parse_duration(spec.pending_timeout) - now
    return left, f"no worker took {scheduled[0].task_type} within {spec.pending_timeout}"


def _unread_failures(seen: Seen, view: RunSeen) -> tuple[str, ...]:
    """Runs of the first failed sub-workflows, unless they were read: their own reason is the one to tell."""
    failed = [task.sub_workflow_id for task in failed_tasks(view) if task.sub_workflow_id]
    return tuple(item for item in failed[:_MOST_REASONS] if item not in seen.read_children)


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


def _begin_anew(seen: Seen, now: datetime) -> Report | None:
    """Restart of a run that Conductor no longer has: it is looked for once more, and then started again."""
    action = new_action(seen)
    if action is None or action.type != "Restart" or seen.run.spec is None:
        return None
    if seen.run.spec.desired_state == "Terminated":
        return None
    acted = done(action.id, action.type, now)
    # Nor the mark of the database: it was asked for in whatever database there is now.
    left_out = ("workflowId", "store")
    conductor = {name: value for name, value in seen.run.status["conductor"].items() if name not in left_out}
    status = acted.fields | {"phase": "Starting", "conductor": conductor}
    message = "Conductor no longer has the run: it is started again"
    return Report(status, active_words("Starting", message), acted.notes, requeue_after=timedelta(0))


def _vanished(seen: Seen, now: datetime, status: Json) -> Report:
    run = seen.run
    notes: tuple[Note, ...] = ()
    before = dict(run.status)
    action, pending = new_action(seen), before.pop("pendingAction", None)
    status.pop("pendingAction", None)
    asked = pending or (action and {"id": action.id, "type": action.type})
    if asked:
        why = "Conductor no longer has the run; Restart starts it again"
        acted = refused(asked["id"], asked["type"], why, now)
        status |= acted.fields
        notes = acted.notes
    # Another one that was asked for meanwhile has its answer next.
    again = timedelta(0) if pending and action and action.id != pending["id"] else None
    if before.get("phase") in FINISHED:
        return Report({**before, **status}, words_of(run), notes, requeue_after=again)
    workflow_id = status["conductor"]["workflowId"]
    message = f"run {workflow_id} no longer exists in Conductor: it was removed there"
    status |= {"phase": "Failed", "finishedAt": format_time(now), "message": message}
    notes = (*notes, Note("Warning", "Vanished", message))
    return Report(status, failed_words("Vanished", message), notes, requeue_after=again)
