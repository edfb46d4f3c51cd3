"""One pass over a WorkflowRun: look, decide, do, until the decision is a report; then one status write."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal

from podium.api.v1alpha1.workflow_run import FINISHED
from podium.core import effects as do
from podium.core.durations import parse_duration
from podium.core.effects import Report, RunEffect, Unknown
from podium.core.objects import WorkflowRun, is_finished, project_workflow_run
from podium.core.run_status import is_child, open_children
from podium.core.runs import (
    Policy,
    Seen,
    StartOutcome,
    WorkflowFacts,
    decide_run,
    is_purged,
    new_action,
    report_conditions,
)
from podium.ports import Clock, Cluster, Gone, Json, Key, Recorder, RunSeen
from podium.reconciler.connections import Connections, Link, hurried, usable
from podium.reconciler.run_calls import RunCalls
from podium.reconciler.store import Store

log = logging.getLogger(__name__)

_MOST_EFFECTS = 20
_MOST_CHILDREN = 16
# Part of the status interval in which changes are gathered before they are written.
_GATHER = 0.4


@dataclass
class _Memory:
    """What is known of a run beyond its status, until the status says it."""

    uid: str
    link: Link | Unknown
    """Its Conductor, in this pass."""
    started_id: str = ""
    written: datetime | None = None
    changed: datetime | None = None
    """Since when something is to be written that is not urgent."""
    children: frozenset[str] = frozenset()
    """Runs of sub-workflows that are watched for it."""
    tried: tuple[StartOutcome, datetime] | None = None
    """The last start that came to nothing, and when."""
    asked: tuple[str, datetime] | None = None
    """The action whose intent was written last, and when."""
    refreshed: tuple[int, datetime] | None = None
    """For which sign of life it was to be read anew, and when."""

    def remember(self, outcome: StartOutcome, now: datetime) -> None:
        """What came of a start."""
        if outcome.kind == "Started":
            self.started_id = outcome.workflow_id
        elif outcome.kind in ("NotRegistered", "NotSent"):
            self.tried = (outcome, now)


class RunReconciler:
    """Brings WorkflowRuns and Conductor's runs together."""

    def __init__(
        self,
        cluster: Cluster,
        connections: Connections,
        clock: Clock,
        recorder: Recorder,
        store: Store,
        policy: Policy,
        *,
        status_interval: float,
        on_phase: Callable[[WorkflowRun], None] = lambda _: None,
        crash: Callable[[str], None] = lambda _: None,
    ) -> None:
        """`on_phase(run)`: its phase changed.

        `crash(point)`: called at every boundary of an effect; tests throw there.
        """
        self._cluster = cluster
        self._connections = connections
        self._clock = clock
        self._recorder = recorder
        self._store = store
        self._policy = policy
        self._status_interval = status_interval
        self._on_phase = on_phase
        self._crash = crash
        self._memory: dict[Key, _Memory] = {}

    async def reconcile(self, key: Key) -> float | None:
        """One pass; seconds until the next one is wanted, if any. Raises PortError to be tried again."""
        run = self._store.runs.get(key)
        if run is None:
            self._forget(key)
            return None
        memory = self._remember(run)
        seen = self._look(run, memory)
        for _ in range(_MOST_EFFECTS):
            effect = decide_run(seen, self._clock.now())
            if isinstance(effect, Report):
                return await self._report(seen, effect, memory)
            self._crash(f"before {type(effect).__name__}")
            seen = await self._carry_out(seen, effect, memory)
            self._crash(f"after {type(effect).__name__}")
        raise RuntimeError(f"{key}: no report after {_MOST_EFFECTS} effects")

    # --- looking -------------------------------------------------------------------------------------

    def _look(self, run: WorkflowRun, memory: _Memory) -> Seen:
        workflow_id = (run.status.get("conductor") or {}).get("workflowId") or memory.started_id
        outcome = StartOutcome("Started", memory.started_id) if memory.started_id else None
        seen = Seen(run=run, workflow=self._workflow_facts(run), policy=self._policy, outcome=outcome)
        seen = replace(
            seen,
            purge=self._wants_purge(run),
            refreshed=memory.refreshed,
            tried=memory.tried,
            asked=memory.asked,
        )
        link = memory.link
        if isinstance(link, Unknown):
            # Whatever would be asked of it cannot be known; a run that is at rest asks nothing.
            wanted = new_action(seen) is not None or "pendingAction" in run.status
            wanted = wanted or (run.deleting_since is not None and is_purged(seen))
            unseen = link if wanted or not is_finished(run) else None
            return replace(seen, conductor=unseen, definition=link, lookup=link, fresh=True)
        seen = replace(seen, isolated=link.isolated, outage=link.conductor.outage, store=link.store)
        if not workflow_id:
            return seen
        link.tracker.watch(workflow_id, run.key)
        view: Any = link.tracker.view(workflow_id)
        return replace(
            seen,
            conductor=view,
            children=self._children(link, run.key, view, memory),
            failure_run=self._failure_run(link, run),
        )

    def _children(self, link: Link, key: Key, view: Any, memory: _Memory) -> dict[str, Any]:
        """Views of the sub-workflows that have not ended well, which are watched from now on."""
        found: dict[str, Any] = {}
        todo = [view]
        while todo and len(found) < _MOST_CHILDREN:
            parent = todo.pop()
            for workflow_id in open_children(parent):
                # A task may name any run, also its own.
                if workflow_id in found or workflow_id == view.workflow_id:
                    continue
                link.tracker.watch(workflow_id, key)
                child = link.tracker.view(workflow_id)
                found[workflow_id] = child if is_child(child, parent.workflow_id) else None
                todo.append(found[workflow_id])
        for workflow_id in memory.children - found.keys():
            link.tracker.forget(workflow_id)
        memory.children = frozenset(found)
        return {workflow_id: seen for workflow_id, seen in found.items() if seen is not None}

    def _failure_run(self, link: Link, run: WorkflowRun) -> RunSeen | Literal["Absent"] | None:
        failure_run = run.status.get("failureRun") or {}
        workflow_id = failure_run.get("workflowId")
        if not workflow_id or failure_run.get("phase") in FINISHED:
            return None
        link.tracker.watch(workflow_id, run.key)
        view = link.tracker.view(workflow_id)
        if view == "Absent":
            return "Absent"
        return view if isinstance(view, RunSeen) else None

    def _wants_purge(self, run: WorkflowRun) -> bool:
        if run.deleting_since is None or run.spec is None:
            return False
        workflow = self._store.workflow_of(run)
        return workflow is not None and workflow.spec is not None and workflow.spec.run_history.purge

    def _workflow_facts(self, run: WorkflowRun) -> WorkflowFacts | None:
        workflow = self._store.workflow_of(run)
        if workflow is None or workflow.deleting_since is not None or workflow.spec is None:
            return None
        conductor = workflow.status.get("conductor") or {}
        current = workflow.status.get("observedGeneration") == workflow.generation
        ready: Json = next(
            (item for item in workflow.status.get("conditions") or [] if item["type"] == "Ready"), {}
        )
        usable = current and (ready.get("status") == "True" or ready.get("reason") == "ConductorUnavailable")
        return WorkflowFacts(
            conductor_name=conductor.get("name", ""),
            version=conductor.get("version") if usable else None,
            suspended=workflow.spec.suspend,
            problem=ready.get("message", "") if ready.get("status") == "False" and current else "",
            connection=workflow.spec.connection,
            progress_deadline=(
                parse_duration(workflow.spec.progress_deadline)
                if workflow.spec.progress_deadline
                else self._policy.progress_deadline
            ),
        )

    # --- doing ---------------------------------------------------------------------------------------

    async def _carry_out(self, seen: Seen, effect: RunEffect, memory: _Memory) -> Seen:
        run = seen.run
        match effect:
            case do.SetFinalizers(finalizers, note):
                body = await self._cluster.patch_finalizers(
                    run.key, finalizers, resource_version=run.resource_version
                )
                if note is not None:
                    self._recorder.event(
                        run.key, run.uid, kind=note.kind, reason=note.reason, message=note.message
                    )
                return replace(seen, run=self._keep(body))
            case do.Refresh(workflow_id, mark_ms):
                usable(memory.link).tracker.refresh(workflow_id)
                memory.refreshed = (mark_ms, self._clock.now())
                return replace(seen, refreshed=memory.refreshed)
            case do.WriteIntent(status):
                body = await self._cluster.apply_status(
                    run.key, status, uid=run.uid, resource_version=run.resource_version
                )
                memory.written = self._clock.now()
                if pending := status.get("pendingAction"):
                    memory.asked = (pending["id"], memory.written)
                return replace(seen, run=self._keep(body), intent_fresh=True, lookup=None, outcome=None)
            case Report():
                raise AssertionError("a report is not carried out")
            case _:
                timeout, now = self._policy.deletion_timeout, self._clock.now()
                link = hurried(usable(memory.link), run.deleting_since, timeout, now)
                calls = RunCalls(link, self._clock, self._recorder, self._crash)
                after = await calls.carry_out(seen, effect)
                if isinstance(effect, do.Start) and after.outcome is not None:
                    memory.remember(after.outcome, self._clock.now())
                return after

    # --- reporting -----------------------------------------------------------------------------------

    async def _report(self, seen: Seen, report: Report, memory: _Memory) -> float | None:
        run, now = seen.run, self._clock.now()
        again = report.requeue_after.total_seconds() if report.requeue_after else None
        if report.status is None:
            return again
        status = report_conditions(seen, report, now)
        if _means_the_same(status, run.status):
            memory.changed = None
            self._after_write(run, memory)
            return again
        if not report.urgent and (rest := self._rest(seen, memory, now)) > 0:
            return min(rest, again) if again is not None else rest
        self._crash("before the report")
        try:
            # The version, not the uid, is what keeps it from an object that was made again.
            body = await self._cluster.apply_status(
                run.key, status, uid=run.uid, resource_version=run.resource_version
            )
        except Gone:
            return None
        memory.written, memory.changed = now, None
        self._crash("after the report")
        stored = self._keep(body)
        if stored.status.get("phase") != run.status.get("phase"):
            self._on_phase(stored)
        for note in report.notes:
            self._recorder.event(run.key, run.uid, kind=note.kind, reason=note.reason, message=note.message)
        self._after_write(stored, memory)
        return again

    def _rest(self, seen: Seen, memory: _Memory, now: datetime) -> float:
        """Seconds until a change that is not urgent is written.

        A task's end, the next one's beginning and its poll come shortly after each other: they share
        a write, as does everything else within the interval.
        """
        memory.changed = memory.changed or now
        gathered = (now - memory.changed).total_seconds()
        rest = self._status_interval * _GATHER - gathered
        if memory.written and seen.run.status.get("phase") != "Starting":
            rest = max(rest, self._status_interval - (now - memory.written).total_seconds())
        return rest

    def _after_write(self, run: WorkflowRun, memory: _Memory) -> None:
        workflow_id = (run.status.get("conductor") or {}).get("workflowId")
        if workflow_id and workflow_id == memory.started_id:
            memory.started_id = ""
        if workflow_id and is_finished(run) and isinstance(memory.link, Link):
            memory.link.tracker.settle(workflow_id)
            # Nothing else may wake this run: its failure run has to be watched from now on.
            self._failure_run(memory.link, run)

    def _keep(self, body: Json) -> WorkflowRun:
        run = project_workflow_run(body)
        known = self._store.runs.get(run.key)
        # Its deletion may be told before the answer to a write comes: that must not bring it back.
        if known is not None and known.uid == run.uid:
            self._store.put_run(run)
        return run

    def _remember(self, run: WorkflowRun) -> _Memory:
        link = self._connections.of_run(run)
        memory = self._memory.get(run.key)
        if memory is None or memory.uid != run.uid:
            memory = self._memory[run.key] = _Memory(run.uid, link)
        memory.link = link
        return memory

    def _forget(self, key: Key) -> None:
        self._memory.pop(key, None)
        self._connections.forget_run(key)


def _means_the_same(status: Json, before: Json) -> bool:
    """Whether a write would change nothing (approvals are people's, not ours)."""
    return status == {name: value for name, value in before.items() if name != "approvals"}
