"""`spec.action`: retry, restart, rerun, skip. Each id is acted on once, whatever is lost.

Conductor's actions are not idempotent. So the intent is written first, with a mark of the run as it
was; an outcome that is not known is read from the run itself: whether its mark has changed.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from podium.api.v1alpha1.workflow_run import Action
from podium.core import effects as do
from podium.core.definitions.findings import did_you_mean
from podium.core.durations import format_precise_time, format_time, parse_time
from podium.core.effects import Note, Report, RunEffect, Unknown
from podium.core.run_status import latest_attempts, node_of
from podium.core.runs.seen import LOOK_AGAIN, WAIT_FOR_CONDUCTOR, ActionOutcome, DefinitionFacts, Seen
from podium.core.runs.shape import Shape, why_not_rerun, why_not_skip
from podium.core.runs.words import has_ended, report_conditions, words_of
from podium.ports import Json, RunSeen, TaskSeen

_RUNNING = "the run has not ended: wait for its end; Restart ends it and begins anew"
_MOST_DEPTH = 5


@dataclass(frozen=True)
class Acted:
    """What the status says of the action, and when to look again."""

    fields: Json = field(default_factory=dict)
    notes: tuple[Note, ...] = ()
    again: timedelta | None = None
    urgent: bool = False
    """What it says is known now and is not to be found out later."""


def act(seen: Seen, now: datetime, view: RunSeen) -> RunEffect | Acted:
    """The next effect for `spec.action`, or what the status says of it."""
    run = seen.run
    assert run.spec is not None
    pending = run.status.get("pendingAction")
    if pending is not None:
        return _settle(seen, now, view, pending)
    action = new_action(seen)
    if action is None or not run.status["conductor"].get("workflowId"):
        return Acted(kept_action(run.status))
    if seen.asked is not None and seen.asked[0] == action.id:
        # It came to nothing: it has a rest, whatever wakes the run, as each try writes twice.
        left = seen.asked[1] + WAIT_FOR_CONDUCTOR - now
        if left > timedelta(0):
            return Acted(kept_action(run.status), again=left)
    return _begin(seen, now, view, action, attempt=1)


def new_action(seen: Seen) -> Action | None:
    """The action that was not acted on yet."""
    action = seen.run.spec.action if seen.run.spec else None
    last = seen.run.status.get("lastAction") or {}
    return None if action is None or action.id == last.get("id") else action


def kept_action(status: Json) -> Json:
    """What a status keeps of actions from the one before."""
    return {name: status[name] for name in ("pendingAction", "lastAction") if status.get(name)}


def refused(action_id: str, kind: str, why: str, now: datetime) -> Acted:
    """The action is answered with no, for good: another try needs another id."""
    last = {"id": action_id, "type": kind, "result": "Refused", "message": why[:256], "at": format_time(now)}
    return Acted({"lastAction": last}, (Note("Warning", "ActionRefused", f"{kind} {action_id}: {why}"),))


def done(action_id: str, kind: str, now: datetime) -> Acted:
    last = {"id": action_id, "type": kind, "result": "Done", "at": format_time(now)}
    return Acted({"lastAction": last}, (Note("Normal", "ActionDone", f"{kind} {action_id} was done"),))


# --- before it is sent ------------------------------------------------------------------------------


def _begin(seen: Seen, now: datetime, view: RunSeen, action: Action, attempt: int) -> RunEffect | Acted:
    if not seen.fresh:
        return do.ReadRun(view.workflow_id)
    if action.type in ("Rerun", "Skip") and not isinstance(seen.definition, DefinitionFacts):
        match seen.definition:
            case None:
                return do.FetchDefinition(view.name, view.version)
            case Unknown(_):
                return Acted(kept_action(seen.run.status), again=WAIT_FOR_CONDUCTOR)
            case _:
                why = f"version {view.version} of {view.name} is gone from Conductor: its tasks are not known"
                return refused(action.id, action.type, why, now)
    if why := why_refused(seen, view, action):
        return refused(action.id, action.type, why, now)
    if action.type == "Retry" and (missing := unread_children(seen, view)):
        return do.ReadChildren(missing)
    pending = {
        "id": action.id,
        "type": action.type,
        "at": format_precise_time(now),
        "mark": _mark(view, action),
        "attempt": attempt,
    }
    status = {**seen.run.status, "pendingAction": pending}
    return do.WriteIntent(report_conditions(seen, Report(status, words_of(seen.run)), now))


def why_refused(seen: Seen, view: RunSeen, action: Action) -> str:
    """Why Conductor would not do it, or would lose the run by it; empty if it can be done."""
    assert seen.run.spec is not None
    ended = has_ended(view)
    if seen.run.spec.desired_state == "Terminated":
        return "spec.desiredState is Terminated, and a terminated run stays so: make a new WorkflowRun"
    shape = seen.definition.shape if isinstance(seen.definition, DefinitionFacts) else {}
    match action.type:
        case "Retry":
            if not ended:
                return _RUNNING
            if view.state == "COMPLETED":
                return "the run succeeded, so nothing is to be retried: Restart and Rerun run it again"
        case "Restart":
            pass
        case "Rerun":
            return _RUNNING if not ended else _why_not_rerun(view, shape, action.from_task or "")
        case "Skip":
            if ended:
                return "the run has ended"
            if view.state == "PAUSED":
                return "the run is paused: resume it first"
            return _why_not_skip(view, shape, action.task or "")
    return ""


def _why_not_rerun(view: RunSeen, shape: Shape, name: str) -> str:
    ref = _find(view, shape, name)
    if ref is None:
        return _unknown(view, shape, name)
    if _entry(view, ref) is None:
        return f"{name} has not run in this run"
    return f"{name} cannot be run again: {why}; use Restart" if (why := why_not_rerun(shape, ref)) else ""


def _why_not_skip(view: RunSeen, shape: Shape, name: str) -> str:
    ref = _find(view, shape, name)
    if ref is None:
        return _unknown(view, shape, name)
    if any(task.ref == ref or task.ref.startswith(f"{ref}__") for task in view.tasks):
        return f"{name} has begun already"
    return f"{name} cannot be skipped: {why}" if (why := why_not_skip(shape, ref)) else ""


def _unknown(view: RunSeen, shape: Shape, name: str) -> str:
    ids = [node_of(ref, view.nodes or {}) for ref in shape]
    hint = did_you_mean(name, ids)
    return f"there is no task {name!r} in this run" + (f"; {hint}" if hint else "")


def _find(view: RunSeen, shape: Shape, name: str) -> str | None:
    """The reference name of a task, by the id that the user wrote or by itself."""
    by_id = {node: ref for ref, node in (view.nodes or {}).items()}
    ref = by_id.get(name, name)
    return ref if ref in shape else None


def _entry(view: RunSeen, ref: str) -> TaskSeen | None:
    return next((task for task in latest_attempts(view.tasks) if task.ref == ref), None)


# --- sending ----------------------------------------------------------------------------------------


def _send(seen: Seen, view: RunSeen, pending: Json) -> RunEffect | None:
    """The call for an intent that was written in this very pass; None if it no longer makes sense."""
    action = seen.run.spec.action if seen.run.spec else None
    if action is None or action.id != pending["id"]:
        return None
    shape = seen.definition.shape if isinstance(seen.definition, DefinitionFacts) else {}
    match action.type:
        case "Retry":
            return do.Retry(view.workflow_id, resume_children=can_resume_children(seen, view))
        case "Restart":
            if not has_ended(view) and "Terminate" not in seen.done:
                return do.Terminate(view.workflow_id, "ended to be restarted through its WorkflowRun")
            return do.Restart(view.workflow_id)
        case "Rerun":
            task = _entry(view, _find(view, shape, action.from_task or "") or "")
            return do.Rerun(view.workflow_id, task.task_id, action.input) if task else None
        case "Skip":
            return do.Skip(view.workflow_id, _find(view, shape, action.task or "") or "")


def unread_children(seen: Seen, view: RunSeen) -> tuple[str, ...]:
    """Failed sub-workflows' runs that were not read in this pass: a retry depends on them."""
    return tuple(
        task.sub_workflow_id
        for _, task in _failed_children(seen, view)
        if task.sub_workflow_id not in seen.read_children
    )


def can_resume_children(seen: Seen, view: RunSeen) -> bool:
    """Whether failed sub-workflows can go on where they failed.

    Not those that were begun anew before: Conductor would wake their superseded run, and the retried
    one would fail for ever. Nor those whose run was removed.
    """
    return all(
        task.attempt == 0 and seen.children.get(task.sub_workflow_id) not in (None, "Absent")
        for _, task in _failed_children(seen, view)
    )


def _failed_children(seen: Seen, view: RunSeen, depth: int = 0) -> list[tuple[int, TaskSeen]]:
    found = []
    for task in latest_attempts(view.tasks):
        if not task.sub_workflow_id or task.state in ("COMPLETED", "COMPLETED_WITH_ERRORS", "SKIPPED"):
            continue
        found.append((depth, task))
        child = seen.children.get(task.sub_workflow_id)
        if isinstance(child, RunSeen) and depth < _MOST_DEPTH:
            found += _failed_children(seen, child, depth + 1)
    return found


# --- what came of it --------------------------------------------------------------------------------


def _settle(seen: Seen, now: datetime, view: RunSeen, pending: Json) -> RunEffect | Acted:
    """An intent stands in the status: send it, or find out what came of it."""
    kept = kept_action(seen.run.status)
    last = {name: value for name, value in kept.items() if name == "lastAction"}
    action_id, kind = pending["id"], pending["type"]
    match seen.acted:
        case None if seen.intent_fresh:
            if kind == "Restart" and "Terminate" in seen.done and not has_ended(view):
                # It could not be ended now, so nothing was sent: the next pass begins anew.
                return Acted(last, again=WAIT_FOR_CONDUCTOR, urgent=True)
            effect = _send(seen, view, pending)
            return effect or refused(action_id, kind, "spec.action was changed before it was sent", now)
        case ActionOutcome("Refused", message):
            return refused(action_id, kind, message, now)
        case ActionOutcome("NotSent"):
            # Nothing has happened: the next pass begins anew.
            return Acted(last, again=WAIT_FOR_CONDUCTOR, urgent=True)
        case ActionOutcome("Sent"):
            return done(action_id, kind, now) if seen.fresh else do.ReadRun(view.workflow_id)
        case _:
            pass
    if not seen.fresh:
        return do.ReadRun(view.workflow_id)
    if has_happened(view, pending):
        return done(action_id, kind, now)
    if now - parse_time(pending["at"]) < seen.policy.unknown_start_wait:
        return Acted(kept, again=LOOK_AGAIN)
    action = seen.run.spec.action if seen.run.spec else None
    if action is None or action.id != action_id:
        return refused(action_id, kind, "it did not come through, and spec.action was changed meanwhile", now)
    return _begin(seen, now, view, action, attempt=pending.get("attempt", 1) + 1)


def _mark(view: RunSeen, action: Action) -> str:
    """What changes by the action and by nothing else."""
    match action.type:
        case "Retry":
            return str(view.retried_ms)
        case "Restart":
            return str(view.create_ms)
        case "Rerun":
            by_id = {node: ref for ref, node in (view.nodes or {}).items()}
            task = _entry(view, by_id.get(action.from_task or "", action.from_task or ""))
            return f"{task.task_id}@{task.scheduled_ms}" if task else ""
        case "Skip":
            by_id = {node: ref for ref, node in (view.nodes or {}).items()}
            return by_id.get(action.task or "", action.task or "")


def has_happened(view: RunSeen, pending: Json) -> bool:
    """Whether the run shows that the action came through."""
    mark: str = pending["mark"]
    match pending["type"]:
        case "Retry":
            return mark != str(view.retried_ms)
        case "Restart":
            return mark != str(view.create_ms)
        case "Rerun":
            return all(f"{task.task_id}@{task.scheduled_ms}" != mark for task in view.tasks)
        case _:
            return any(task.ref == mark and task.state == "SKIPPED" for task in view.tasks)
