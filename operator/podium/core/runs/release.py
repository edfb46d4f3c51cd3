"""Deletion: the run is ended first, unless policy says otherwise, and the object never waits too long."""

from datetime import datetime, timedelta

from podium.api.v1alpha1 import FINALIZER
from podium.api.v1alpha1.workflow_run import FINISHED
from podium.core import effects as do
from podium.core.conditions import reconciling
from podium.core.durations import format_precise_time, parse_time
from podium.core.effects import Note, Report, RunEffect, Unknown
from podium.core.runs.act import has_happened
from podium.core.runs.seen import LOOK_AGAIN, Seen
from podium.core.runs.words import has_ended
from podium.ports import Json, RunSeen

_ONE_TRY = timedelta(seconds=10)


def release(seen: Seen, now: datetime) -> RunEffect:
    """Let a deleted object go: end its run, unless policy says to leave it; never wait too long."""
    run = seen.run
    conductor: Json = run.status.get("conductor") or {}
    workflow_id = conductor.get("workflowId") or (seen.outcome.workflow_id if seen.outcome else "")
    let_go = _let_go(seen)
    orphan = run.spec is not None and run.spec.deletion_policy == "Orphan"
    over = run.status.get("phase") in FINISHED and not run.status.get("pendingAction")
    if orphan or not conductor or (over and not is_purged(seen)):
        return let_go
    overdue = now >= _deadline(seen)
    if not workflow_id:
        return _release_unconfirmed(seen, now, conductor, let_go, overdue)
    match seen.conductor:
        case RunSeen() as view if seen.fresh:
            if seen.failure and not has_ended(view):
                return _give_up(seen, seen.failure) if overdue else _deleting(seen, seen.failure)
            if has_ended(view) and not overdue and _may_revive(seen, now, view):
                return _deleting(seen, "an action was sent and not confirmed: it may set the run going again")
            if has_ended(view) or "Terminate" in seen.done:
                return _purge(seen, now, (workflow_id,))
            return do.Terminate(workflow_id, "its WorkflowRun was deleted")
        case "Absent" if seen.fresh:
            return _purge(seen, now, (workflow_id,))
        case Unknown(error) if seen.fresh:
            return _give_up(seen, error) if overdue else _deleting(seen, error)
        case _:
            return do.ReadRun(workflow_id)


def _may_revive(seen: Seen, now: datetime, view: RunSeen) -> bool:
    """Whether an action that was sent may still come through."""
    pending = seen.run.status.get("pendingAction")
    if not pending or has_happened(view, pending):
        return False
    return now - parse_time(pending["at"]) < seen.policy.unknown_start_wait


def is_purged(seen: Seen) -> bool:
    """Whether Conductor is to forget the run with its object."""
    policy = seen.run.spec.deletion_policy if seen.run.spec is not None else ""
    return policy == "Purge" or (seen.purge and policy != "Orphan")


def _purge(seen: Seen, now: datetime, workflow_ids: tuple[str, ...]) -> RunEffect:
    """Its run has ended: let the object go, and before that have Conductor forget the run if so wished."""
    if not is_purged(seen):
        return _let_go(seen)
    conductor: Json = seen.run.status["conductor"]
    # What was begun late is tried once all the same.
    until = max(_deadline(seen), now + _ONE_TRY)
    match seen.family:
        case None:
            return do.FindFamily(workflow_ids, conductor["name"], conductor["correlationId"], until)
        case Unknown(error):
            pass
        case family if "Remove" not in seen.done and family:
            return do.Remove(family, until)
        case family if not seen.failure:
            return _let_go(seen, _purged_note(workflow_ids, family))
        case _:
            error = seen.failure
    return _give_up(seen, error) if now >= _deadline(seen) else _deleting(seen, error)


def _purged_note(workflow_ids: tuple[str, ...], family: tuple[do.Relative, ...]) -> Note | None:
    below = len({item.workflow_id for item in family} - set(workflow_ids))
    if not family:
        return None
    with_them = f" with {below} runs that it had started" if below else ""
    said = f"run {workflow_ids[0]} was removed from Conductor{with_them}"
    if any(item.outside for item in family):
        # Seen on 3.32.3: removing a run leaves its files in the payload store.
        return Note("Warning", "Purged", f"{said}; payloads that it kept outside of its database stay there")
    return Note("Normal", "Purged", f"{said}; its data is gone")


def _give_up(seen: Seen, why: str) -> do.SetFinalizers:
    """Nobody waits for Conductor for ever; what could not be done there is said."""
    note = Note("Warning", "PurgeIncomplete", f"not (wholly) removed from Conductor, where it stays: {why}")
    return _let_go(seen, note if is_purged(seen) else None)


def _let_go(seen: Seen, note: Note | None = None) -> do.SetFinalizers:
    return do.SetFinalizers(tuple(name for name in seen.run.finalizers if name != FINALIZER), note)


def _deadline(seen: Seen) -> datetime:
    assert seen.run.deleting_since is not None
    return seen.run.deleting_since + seen.policy.deletion_timeout


def _release_unconfirmed(
    seen: Seen, now: datetime, conductor: Json, let_go: do.SetFinalizers, overdue: bool
) -> RunEffect:
    match seen.lookup:
        case None:
            return do.LookUp(conductor["name"], conductor["correlationId"])
        case Unknown(error):
            return _give_up(seen, error) if overdue else _deleting(seen, error)
        case _ if seen.failure and "Remove" not in seen.done:
            return _give_up(seen, seen.failure) if overdue else _deleting(seen, seen.failure)
        case runs:
            for run in runs:
                if not has_ended(run) and f"Terminate {run.workflow_id}" not in seen.done:
                    return do.Terminate(run.workflow_id, "its WorkflowRun was deleted")
            waited = now - parse_time(conductor.get("requestedAt") or format_precise_time(seen.run.created))
            if runs:
                return _purge(seen, now, tuple(run.workflow_id for run in runs))
            if overdue or waited >= seen.policy.unknown_start_wait:
                return let_go
            return _deleting(seen, "a start was sent and not confirmed: looking for it in Conductor")


def _deleting(seen: Seen, why: str) -> Report:
    return Report(
        dict(seen.run.status),
        reconciling("Deleting", why),
        notes=(Note("Warning", "DeletionWaits", f"still ending its run in Conductor: {why}"),),
        requeue_after=LOOK_AGAIN,
    )
