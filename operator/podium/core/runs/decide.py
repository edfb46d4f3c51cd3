"""What to do next about a WorkflowRun.

`decide_run` is asked again after every effect, with what came of it folded into `Seen`; the last
answer of a pass is always a Report. Exactly one run in Conductor per WorkflowRun follows from the
order: the intent stands in the status before a start is sent, and a start that may have got through
is looked up, for longer than it can take, before another one is sent.
"""

from datetime import datetime, timedelta

from podium.api.v1alpha1 import FINALIZER
from podium.api.v1alpha1.workflow_run import FINISHED
from podium.core.effects import Report, RunEffect
from podium.core.runs.act import done, new_action, refused
from podium.core.runs.follow import follow
from podium.core.runs.release import release
from podium.core.runs.seen import Seen
from podium.core.runs.start import begin, continue_start
from podium.core.runs.words import active_words, finish_unstarted, words_of


def decide_run(seen: Seen, now: datetime) -> RunEffect:
    """The next effect, or the Report that ends this pass."""
    run = seen.run
    if run.deleting_since is not None:
        return release(seen, now) if FINALIZER in run.finalizers else Report(None)
    if run.spec is None:
        return finish_unstarted(seen, now, "Failed", "InvalidSpec", run.spec_error)
    conductor = run.status.get("conductor") or {}
    if conductor.get("workflowId") or (seen.outcome and seen.outcome.kind == "Started"):
        return follow(seen, now)
    if run.status.get("phase") in FINISHED:
        return _ended_unstarted(seen, now)
    if conductor.get("correlationId"):
        return continue_start(seen, now)
    return begin(seen, now)


def _ended_unstarted(seen: Seen, now: datetime) -> Report:
    """It was over before it was in Conductor: only Restart can still do something."""
    action = new_action(seen)
    if action is None:
        return Report(seen.run.status, words_of(seen.run))
    assert seen.run.spec is not None
    if action.type != "Restart" or seen.run.spec.desired_state == "Terminated":
        acted = refused(action.id, action.type, "the run never started in Conductor", now)
        return Report({**seen.run.status, **acted.fields}, words_of(seen.run), acted.notes)
    acted = done(action.id, action.type, now)
    kept = {name: seen.run.status[name] for name in ("conductor",) if seen.run.status.get(name)}
    status = {**kept, **acted.fields, "phase": "Starting" if kept else "Pending"}
    return Report(status, active_words("Starting", "started again"), acted.notes, timedelta(0))
