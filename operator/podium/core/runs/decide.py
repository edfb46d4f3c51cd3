"""What to do next about a WorkflowRun.

`decide_run` is asked again after every effect, with what came of it folded into `Seen`; the last
answer of a pass is always a Report. Exactly one run in Conductor per WorkflowRun follows from the
order: the intent stands in the status before a start is sent, and a start that may have got through
is looked up, for longer than it can take, before another one is sent.
"""

from datetime import datetime

from podium.api.v1alpha1 import FINALIZER
from podium.api.v1alpha1.workflow_run import FINISHED
from podium.core.effects import Report, RunEffect
from podium.core.runs.follow import follow
from podium.core.runs.release import release
from podium.core.runs.seen import Seen
from podium.core.runs.start import begin, continue_start
from podium.core.runs.words import finish_unstarted, words_of


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
        return Report(run.status, words=words_of(run))
    if conductor.get("correlationId"):
        return continue_start(seen, now)
    return begin(seen, now)
