"""From the manifest to a started run: the intent first, then the start, and what to do when it got lost."""

from dataclasses import replace
from datetime import datetime, timedelta

from podium.api.v1alpha1 import FINALIZER
from podium.api.v1alpha1.reasons import Reason
from podium.api.v1alpha1.workflow_run import WorkflowRunSpec
from podium.core import effects as do
from podium.core.durations import format_precise_time, parse_time
from podium.core.effects import Note, Report, RunEffect, Unknown
from podium.core.run_input import InvalidInput, resolve_input
from podium.core.runs.outage import judge_absence
from podium.core.runs.seen import (
    LOOK_AGAIN,
    SETTLE,
    WAIT_FOR_CONDUCTOR,
    DefinitionFacts,
    Seen,
    StartOutcome,
    WorkflowFacts,
)
from podium.core.runs.words import (
    active_words,
    answer_unstarted,
    base_status,
    finish_unstarted,
    has_ended,
    report_conditions,
    starting,
    wait,
)
from podium.ports import Json, RunSeen, StartRequest

_LONGEST_WAIT = timedelta(minutes=1)


def begin(seen: Seen, now: datetime) -> RunEffect:
    run, workflow = seen.run, seen.workflow
    assert run.spec is not None
    if run.spec.desired_state == "Terminated":
        return finish_unstarted(seen, now, "Terminated", "Terminated", "terminated before it was started")
    blocked = _blocked(seen, now) or _rest(seen, now)
    if blocked is not None:
        return blocked
    assert workflow is not None
    version = run.spec.version or workflow.version
    assert version is not None
    if FINALIZER not in run.finalizers:
        return do.SetFinalizers((*run.finalizers, FINALIZER))
    match seen.definition:
        case None:
            return do.FetchDefinition(workflow.conductor_name, version)
        case Unknown(error, reason):
            return wait(seen, now, reason, error, again=WAIT_FOR_CONDUCTOR)
        case "Absent":
            return _without_version(seen, now, workflow, version)
        case DefinitionFacts() as definition:
            try:
                _resolve(run.spec, definition)
            except InvalidInput as error:
                return finish_unstarted(seen, now, "Failed", "InvalidInput", str(error))
    return _intend(seen, now, workflow.conductor_name, version, workflow.connection, attempt=1)


def _blocked(seen: Seen, now: datetime) -> Report | None:
    """What the run has to wait for before it can start, if anything."""
    spec, workflow = seen.run.spec, seen.workflow
    assert spec is not None
    if workflow is None:
        return wait(seen, now, "WorkflowNotFound", f"there is no Workflow {spec.workflow} here yet")
    if spec.desired_state == "Paused":
        return wait(seen, now, "Paused", "set desiredState to Running to start it")
    if workflow.suspended:
        return wait(seen, now, "WorkflowSuspended", f"Workflow {spec.workflow} is suspended")
    if isinstance(seen.definition, Unknown):
        return wait(seen, now, seen.definition.reason, seen.definition.error, again=WAIT_FOR_CONDUCTOR)
    if workflow.version is None:
        reason = workflow.problem or "it is not registered in Conductor yet"
        return wait(seen, now, "WorkflowNotReady", f"Workflow {spec.workflow}: {reason}")
    return None


def _without_version(seen: Seen, now: datetime, workflow: WorkflowFacts, version: int) -> Report:
    spec = seen.run.spec
    assert spec is not None
    if spec.version and version != workflow.version:
        message = f"spec.version: {workflow.conductor_name} has no version {version} in Conductor"
        return finish_unstarted(seen, now, "Failed", "VersionNotFound", message)
    return wait(seen, now, "WorkflowNotReady", f"version {version} is being restored", again=LOOK_AGAIN)


def _intend(
    seen: Seen, now: datetime, name: str, version: int, connection: str | None, attempt: int
) -> RunEffect:
    if seen.store is None:
        return do.ReadStore()
    if isinstance(seen.store, Unknown):
        error, reason = seen.store.error, seen.store.reason
        if attempt == 1:
            return wait(seen, now, reason, error, again=WAIT_FOR_CONDUCTOR)
        return starting(seen, reason, error, again=WAIT_FOR_CONDUCTOR)
    status = answer_unstarted(seen.run, now)
    status["phase"] = "Starting"
    status["conductor"] = {
        **({"connection": connection} if connection else {}),
        "name": name,
        "version": version,
        "correlationId": f"{seen.policy.cluster_id}.{seen.run.uid}",
        "attempt": attempt,
        "requestedAt": format_precise_time(now),
        **({"store": seen.store} if seen.store else {}),
    }
    words = active_words("Starting", f"starting {name} version {version}")
    return do.WriteIntent(report_conditions(seen, Report(status, words), now))


def continue_start(seen: Seen, now: datetime) -> RunEffect:
    run = seen.run
    conductor: Json = run.status["conductor"]
    if (report := _report_outcome(seen, now, conductor)) is not None:
        return report
    if seen.intent_fresh:
        return _start(seen, now)
    match seen.lookup:
        case None:
            return do.LookUp(conductor["name"], conductor["correlationId"])
        case Unknown(error, reason):
            return starting(seen, reason, error, again=WAIT_FOR_CONDUCTOR)
        case (first, *duplicates):
            for duplicate in duplicates:
                if f"Terminate {duplicate.workflow_id}" not in seen.done and not has_ended(duplicate):
                    return _terminate_duplicate(duplicate, first)
            return _adopt(seen, first)
        case _:
            pass
    waited = now - parse_time(conductor.get("requestedAt") or format_precise_time(run.created))
    if waited < seen.policy.unknown_start_wait:
        return starting(
            seen,
            "StartUnconfirmed",
            "a start was sent and not confirmed: looking for it in Conductor before another is sent",
            again=min(LOOK_AGAIN, seen.policy.unknown_start_wait - waited + timedelta(milliseconds=10)),
        )
    if run.spec and run.spec.desired_state == "Terminated":
        return finish_unstarted(seen, now, "Terminated", "Terminated", "terminated before it was started")
    # One that got through into a database that is gone may come back with it: no second one then.
    if (judged := judge_absence(seen, now, dict(run.status))) is not None:
        return judged
    return _intend(
        seen,
        now,
        conductor["name"],
        conductor["version"],
        conductor.get("connection"),
        attempt=conductor.get("attempt", 1) + 1,
    )


def _report_outcome(seen: Seen, now: datetime, conductor: Json) -> Report | None:
    """What the start of this pass came to, if it was not carried out or may not have been."""
    match seen.outcome:
        case StartOutcome(kind="Refused", message=message):
            return finish_unstarted(seen, now, "Failed", "StartRefused", message)
        case StartOutcome(kind="NotRegistered" | "NotSent", message=message) as outcome:
            if conductor.get("attempt", 1) > 1:
                # This one was not sent, but one before may have got through.
                return starting(seen, "ConductorUnavailable", message, again=WAIT_FOR_CONDUCTOR)
            # Nothing can have happened: without an intent the next try begins anew.
            return _rest(replace(seen, tried=(outcome, now)), now)
        case StartOutcome(kind="Unknown", message=message):
            return starting(seen, "StartUnconfirmed", message, again=LOOK_AGAIN)
        case _:
            return None


def _rest(seen: Seen, now: datetime) -> Report | None:
    """What came to nothing is tried again after a rest, whatever wakes the run: each try writes twice."""
    if seen.tried is None:
        return None
    outcome, at = seen.tried
    reason: Reason = "ConductorUnavailable"
    pause = WAIT_FOR_CONDUCTOR
    if outcome.kind == "NotRegistered":
        # What was applied together is there in seconds; what nobody applies is asked for less and less.
        pause = max(pause, min(_LONGEST_WAIT, (at - seen.run.created) / 10))
        reason = "WorkflowNotReady"
    left = at + pause - now
    return wait(seen, now, reason, outcome.message, again=left) if left > timedelta(0) else None


def _start(seen: Seen, now: datetime) -> RunEffect:
    run = seen.run
    assert run.spec is not None
    conductor: Json = run.status["conductor"]
    match seen.definition:
        case None:
            return do.FetchDefinition(conductor["name"], conductor["version"])
        case DefinitionFacts() as definition:
            pass
        case Unknown(error, reason):
            return starting(seen, reason, error, again=WAIT_FOR_CONDUCTOR)
        case "Absent":
            return starting(
                seen, "DefinitionMissing", "the pinned version is gone from Conductor", LOOK_AGAIN
            )
    try:
        resolved = _resolve(run.spec, definition)
    except InvalidInput as error:
        return finish_unstarted(seen, now, "Failed", "InvalidInput", str(error))
    return do.Start(
        StartRequest(
            name=conductor["name"],
            version=conductor["version"],
            correlation_id=conductor["correlationId"],
            input=resolved,
            priority=run.spec.priority,
            task_to_domain={"*": run.key.namespace} if seen.isolated else None,
        )
    )


def _resolve(spec: WorkflowRunSpec, definition: DefinitionFacts) -> Json:
    return resolve_input(spec.input, definition.input_defaults, definition.input_schema, spec.input_from)


def _adopt(seen: Seen, found: RunSeen) -> Report:
    status = base_status(seen.run)
    status["conductor"] = {**seen.run.status["conductor"], "workflowId": found.workflow_id}
    status["phase"] = "Running"
    # Once more after the time in which a late start could still appear, to end a duplicate.
    return Report(
        status,
        active_words("Running", "found in Conductor after an unconfirmed start"),
        notes=(Note("Normal", "Adopted", f"run {found.workflow_id} was found by its correlation id"),),
        requeue_after=SETTLE,
    )


def _terminate_duplicate(duplicate: RunSeen, kept: RunSeen) -> do.Terminate:
    return do.Terminate(
        duplicate.workflow_id, f"Podium: a duplicate of {kept.workflow_id}, which is kept", duplicate=True
    )
