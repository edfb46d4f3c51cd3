"""Deletion: the run is ended first, unless policy says otherwise, and the object never waits too long."""

from datetime import datetime

from podium.api.v1alpha1 import FINALIZER
from podium.api.v1alpha1.workflow_run import FINISHED
from podium.core import effects as do
from podium.core.conditions import reconciling
from podium.core.durations import format_precise_time, parse_time
from podium.core.effects import Note, Report, RunEffect, Unknown
from podium.core.runs.seen import LOOK_AGAIN, Seen
from podium.core.runs.words import has_ended
from podium.ports import Json, RunSeen


def release(seen: Seen, now: datetime) -> RunEffect:
    """Let a deleted object go: end its run, unless policy says to leave it; never wait too long."""
    run = seen.run
    conductor: Json = run.status.get("conductor") or {}
    workflow_id = conductor.get("workflowId") or (seen.outcome.workflow_id if seen.outcome else "")
    let_go = do.SetFinalizers(tuple(name for name in run.finalizers if name != FINALIZER))
    orphan = run.spec is not None and run.spec.deletion_policy == "Orphan"
    if orphan or not conductor or run.status.get("phase") in FINISHED:
        return let_go
    assert run.deleting_since is not None
    overdue = now - run.deleting_since >= seen.policy.deletion_timeout
    if not workflow_id:
        return _release_unconfirmed(seen, now, conductor, let_go, overdue)
    match seen.conductor:
        case RunSeen() as view if seen.fresh:
            if seen.failure and not has_ended(view):
                return let_go if overdue else _deleting(seen, seen.failure)
            if has_ended(view) or "Terminate" in seen.done:
                return let_go
            return do.Terminate(workflow_id, "its WorkflowRun was deleted")
        case "Absent" if seen.fresh:
            return let_go
        case Unknown(error) if seen.fresh:
            return let_go if overdue else _deleting(seen, error)
        case _:
            return do.ReadRun(workflow_id)


def _release_unconfirmed(
    seen: Seen, now: datetime, conductor: Json, let_go: do.SetFinalizers, overdue: bool
) -> RunEffect:
    match seen.lookup:
        case None:
            return do.LookUp(conductor["name"], conductor["correlationId"])
        case Unknown(error):
            return let_go if overdue else _deleting(seen, error)
        case _ if seen.failure:
            return let_go if overdue else _deleting(seen, seen.failure)
        case runs:
            for run in runs:
                if not has_ended(run) and f"Terminate {run.workflow_id}" not in seen.done:
                    return do.Terminate(run.workflow_id, "its WorkflowRun was deleted")
            waited = now - parse_time(conductor.get("requestedAt") or format_precise_time(seen.run.created))
            if runs or overdue or waited >= seen.policy.unknown_start_wait:
                return let_go
            return _deleting(seen, "a start was sent and not confirmed: looking for it in Conductor")


def _deleting(seen: Seen, why: str) -> Report:
    return Report(
        dict(seen.run.status),
        reconciling("Deleting", why),
        notes=(Note("Warning", "DeletionWaits", f"still ending its run in Conductor: {why}"),),
        requeue_after=LOOK_AGAIN,
    )
