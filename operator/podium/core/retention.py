"""Which finished runs of a Workflow go, and when to look again.

What goes here goes from Kubernetes; whether it stays in Conductor is decided when it is released.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from podium.api.v1alpha1.schedule import ScheduleStatus
from podium.api.v1alpha1.workflow_run import FINISHED
from podium.core.durations import parse_duration, parse_time
from podium.core.objects import Workflow, WorkflowRun, conditions_of, is_finished
from podium.core.schedules.decide import Seen
from podium.core.schedules.status import is_settled, read_standings
from podium.ports import Key

Why = Literal["ttl", "history"]
_Due = tuple[datetime, WorkflowRun, Why]

SCHEDULED_KEPT = 10
"""Finished runs that stay of each schedule and of each outcome, where runHistory says nothing."""
TRACKING_KEYS = frozenset(
    {
        "argocd.argoproj.io/tracking-id",
        "app.kubernetes.io/instance",
        "kustomize.toolkit.fluxcd.io/name",
        "helm.toolkit.fluxcd.io/name",
        "meta.helm.sh/release-name",
    }
)
"""Labels and annotations of those who would create a deleted run again, and have it run again."""
_AGAIN = timedelta(seconds=1)
_HELD_BACK = timedelta(minutes=1)
# Conductor tells of a failure first, and then starts the failure workflow: a sweep brings its id.
_FAILURE_RUN_KNOWN = timedelta(seconds=30)


@dataclass(frozen=True)
class Policy:
    """The operator's settings that decide."""

    tracking_keys: frozenset[str] = TRACKING_KEYS
    most: int = 20
    """Deletions of one pass."""
    late_twin: timedelta = timedelta(seconds=182)
    """For so long after a repeated start a duplicate may appear, which the run's object must end."""

    @classmethod
    def of(cls, more_keys: Iterable[str], unknown_start_wait: float) -> "Policy":
        """`more_keys`: that mean tracking too; `unknown_start_wait`: the setting, in seconds."""
        return cls(TRACKING_KEYS.union(more_keys), late_twin=timedelta(seconds=2 * unknown_start_wait + 2))


@dataclass(frozen=True)
class Deletion:
    """A run that goes: this very one, by its uid, as it was when that was decided."""

    key: Key
    uid: str
    resource_version: str
    why: Why
    purged: bool
    """It goes from Conductor too."""


@dataclass(frozen=True)
class Verdict:
    """What one pass may delete, oldest first, and when the next one is wanted."""

    deletions: tuple[Deletion, ...]
    again: timedelta | None


def decide_retention(
    runs: Iterable[WorkflowRun],
    workflow: Workflow | None,
    now: datetime,
    policy: Policy,
    is_away: Callable[[WorkflowRun], bool] = lambda _: False,
) -> Verdict:
    """`runs`: all of one Workflow; `workflow`: None if it is gone. Then only a run's own TTL counts.

    `is_away(run)`: whether its Conductor cannot be asked to remove it now.
    """
    due: list[_Due] = []
    waits: list[timedelta] = []
    kept: list[tuple[datetime, WorkflowRun]] = []
    for run in runs:
        finished = _finished_at(run)
        if finished is None or run.deleting_since is not None or run.marks & policy.tracking_keys:
            continue
        ttl = _ttl(run, workflow)
        if ttl is None or finished + ttl > now:
            kept.append((finished, run))
            if ttl is not None:
                waits.append(finished + ttl - now)
        else:
            due.append((finished, run, "ttl"))
    due += [(finished, run, "history") for finished, run in _surplus(kept, workflow)]
    due.sort(key=lambda item: (item[0], item[1].key))
    deletions, held_back = _pick(due, workflow, now, policy, is_away)
    if held_back:
        waits.append(_HELD_BACK)
    if len(deletions) > policy.most:
        waits.append(_AGAIN)
    return Verdict(tuple(deletions[: policy.most]), min(waits, default=None))


def _pick(
    due: Iterable[_Due],
    workflow: Workflow | None,
    now: datetime,
    policy: Policy,
    is_away: Callable[[WorkflowRun], bool],
) -> tuple[list[Deletion], bool]:
    """Of those that are due the first that may go, at most one more than a pass deletes.

    And whether others before them may not go yet.
    """
    purge = workflow is not None and workflow.spec is not None and workflow.spec.run_history.purge
    standings = read_standings(workflow) if workflow is not None else {}
    deletions: list[Deletion] = []
    held_back = False
    for finished, run, why in due:
        purged = _is_purged(run, purge)
        if not _is_free(run, workflow, standings, now, policy) or (
            purged and run.status.get("conductor") and (_has_failure_run(run, finished, now) or is_away(run))
        ):
            held_back = True
            continue
        deletions.append(Deletion(run.key, run.uid, run.resource_version, why, purged))
        if len(deletions) > policy.most:
            break
    return deletions, held_back


def _finished_at(run: WorkflowRun) -> datetime | None:
    """When it ended; None if it has not, or if nobody knows when."""
    if run.spec is None or not is_finished(run):
        return None
    told = run.status.get("finishedAt") or next(
        (item.get("lastTransitionTime") for item in conditions_of(run) if item["type"] == "Finished"), None
    )
    return parse_time(told) if told else None


def _ttl(run: WorkflowRun, workflow: Workflow | None) -> timedelta | None:
    assert run.spec is not None
    text = run.spec.ttl_after_finished
    if text is None and workflow is not None and workflow.spec is not None:
        text = workflow.spec.run_history.ttl_after_finished
    return parse_duration(text) if text is not None else None


def _surplus(
    kept: list[tuple[datetime, WorkflowRun]], workflow: Workflow | None
) -> list[tuple[datetime, WorkflowRun]]:
    """Those over the limits, oldest first."""
    if workflow is None or workflow.spec is None:
        return []
    history = workflow.spec.run_history
    made = Seen(workflow, tuple(run for _, run in kept if run.schedule)).made
    groups: defaultdict[tuple[bool, str], list[tuple[datetime, WorkflowRun]]] = defaultdict(list)
    for finished, run in kept:
        succeeded = run.status.get("phase") == "Succeeded"
        limited = (history.succeeded if succeeded else history.failed) is not None
        if limited or run.key.name in made:
            groups[succeeded, "" if limited else run.schedule].append((finished, run))
    surplus = []
    for (succeeded, _), group in groups.items():
        limit = history.succeeded if succeeded else history.failed
        group.sort(key=lambda item: (item[0], item[1].key))
        surplus += group[: max(0, len(group) - (SCHEDULED_KEPT if limit is None else limit))]
    return surplus


def _is_free(
    run: WorkflowRun,
    workflow: Workflow | None,
    standings: Mapping[str, ScheduleStatus],
    now: datetime,
    policy: Policy,
) -> bool:
    """Whether nothing is going on with it that its object is still needed for."""
    assert run.spec is not None
    status = run.status
    if status.get("observedGeneration") != run.generation:
        return False  # someone changed it, and that was not looked at yet
    action, last = run.spec.action, status.get("lastAction") or {}
    if status.get("pendingAction") or (action is not None and action.id != last.get("id")):
        return False
    conductor = status.get("conductor") or {}
    if conductor.get("attempt", 1) > 1:
        requested = conductor.get("requestedAt")
        if requested and now - parse_time(requested) < policy.late_twin:
            return False
    # A schedule that has not written down that it made a run makes it again if it is gone.
    return not run.schedule or workflow is None or is_settled(run, workflow, standings)


def _has_failure_run(run: WorkflowRun, finished: datetime, now: datetime) -> bool:
    """Whether its failure workflow is at work, or may be: a purge would end that too."""
    failure_run = run.status.get("failureRun")
    if failure_run is not None:
        return bool(failure_run.get("workflowId")) and failure_run.get("phase") not in FINISHED
    begun = run.status["conductor"].get("workflowId")
    failed = run.status.get("phase") in ("Failed", "TimedOut")
    return bool(begun) and failed and now - finished < _FAILURE_RUN_KNOWN


def _is_purged(run: WorkflowRun, by_workflow: bool) -> bool:
    assert run.spec is not None
    policy = run.spec.deletion_policy
    return policy == "Purge" or (by_workflow and policy != "Orphan")
