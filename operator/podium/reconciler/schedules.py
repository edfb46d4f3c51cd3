"""One pass over the schedules of a Workflow: it makes WorkflowRuns, and needs no Conductor for that."""

import contextlib
import logging
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from typing import Literal

from podium.api.v1alpha1.reasons import EventReason
from podium.api.v1alpha1.schedule import SCHEDULES_MANAGER
from podium.core.effects import Report
from podium.core.objects import Workflow, project_workflow, project_workflow_run
from podium.core.schedules import Seen, Ticket, decide_schedules
from podium.core.schedules import effects as do
from podium.core.schedules.effects import ScheduleEffect
from podium.ports import Clock, Cluster, Conflict, Gone, Json, Key, Recorder, Refused, RetryLater
from podium.reconciler.store import Store

log = logging.getLogger(__name__)

# Then others have their turn.
_MOST_EFFECTS = 200


class ScheduleReconciler:
    """Makes the runs of schedules. Keys are `Schedules/<namespace>/<workflow>`."""

    def __init__(
        self,
        cluster: Cluster,
        clock: Clock,
        recorder: Recorder,
        store: Store,
        *,
        take_in: Callable[[Key, Json], None],
        longest_wait: float = 60.0,
        crash: Callable[[str], None] = lambda _: None,
    ) -> None:
        """`take_in(key, object)`: what an answer shows, as if the watch had told it.

        `longest_wait`: seconds after which the time is looked at again, whatever comes next: the queue's
        timers stand still while a machine sleeps, and do not see that its clock was set.

        `crash(point)`: called at every boundary of an effect; tests throw there.
        """
        self._cluster = cluster
        self._clock = clock
        self._recorder = recorder
        self._store = store
        self._take_in = take_in
        self._longest_wait = longest_wait
        self._crash = crash
        self._uncertain: defaultdict[Key, set[Key]] = defaultdict(set)
        """Workflow → runs of it whose making was not answered."""

    async def reconcile(self, key: Key) -> float | None:
        """One pass; seconds until the next one is wanted, if any. Raises PortError to be tried again."""
        of = Key("Workflow", key.namespace, key.name)
        workflow = self._store.workflows.get(of)
        if workflow is None:
            self._uncertain.pop(of, None)
            return None
        if workflow.spec is None:
            return None
        if not workflow.spec.schedules and not workflow.status.get("schedules"):
            return None
        await self._clear_up(of)
        runs = self._store.runs_of(key.namespace, key.name)
        seen = Seen(workflow, tuple(run for run in runs if run.schedule))
        for _ in range(_MOST_EFFECTS):
            effect = decide_schedules(seen, self._clock.now())
            if isinstance(effect, Report):
                rest = effect.requeue_after
                return min(rest.total_seconds(), self._longest_wait) if rest is not None else None
            self._crash(f"before {type(effect).__name__}")
            seen = await self._carry_out(seen, effect)
            self._crash(f"after {type(effect).__name__}")
        return 0.0

    async def _clear_up(self, workflow: Key) -> None:
        """Look for runs whose making was not answered: unknown is not absent."""
        for key in list(self._uncertain.get(workflow, ())):
            with contextlib.suppress(Gone):
                self._take_in(key, await self._cluster.get(key))
            self._uncertain[workflow].discard(key)
        self._uncertain.pop(workflow, None)

    async def _carry_out(self, seen: Seen, effect: ScheduleEffect) -> Seen:
        workflow = seen.workflow
        match effect:
            case do.ReadWorkflow():
                return self._with_workflow(seen, await self._cluster.get(workflow.key))
            case do.CreateRun(ticket, body):
                return await self._create(seen, ticket, body)
            case do.EndRun(schedule, key, uid):
                return await self._end(seen, schedule, key, uid)
            case do.WriteSchedules(status, notes, skipped):
                body = await self._cluster.apply_status(
                    workflow.key,
                    status,
                    uid=workflow.uid,
                    resource_version=workflow.resource_version,
                    field_manager=SCHEDULES_MANAGER,
                )
                self._recorder.count("schedule_skips", skipped)
                for note in notes:
                    self._tell(workflow, note.kind, note.reason, note.message)
                return self._with_workflow(seen, body)
            case Report():
                raise AssertionError("a report is not carried out")

    async def _create(self, seen: Seen, ticket: Ticket, body: Json) -> Seen:
        workflow = seen.workflow
        key = Key("WorkflowRun", workflow.key.namespace, body["metadata"]["name"])
        try:
            made = await self._cluster.create(body)
        except Conflict:
            try:
                there = await self._cluster.get(key)
            except Gone as error:
                # To the queue that would mean that the Workflow is gone.
                raise RetryLater(f"{key} was there, and is gone: {error}") from error
            if not ticket.fits(project_workflow_run(there)):
                return replace(seen, taken=seen.taken | {key.name})
            return self._with_run(seen, key, there)
        except RetryLater:
            self._uncertain[workflow.key].add(key)
            raise
        except Refused as error:
            log.warning("%s: schedule %s: %s", workflow.key, ticket.schedule, error)
            self._tell(workflow, "Warning", "RunRefused", f"{ticket.schedule}: {error}")
            return replace(seen, refused=seen.refused | {key.name})
        log.info("%s: schedule %s made %s", workflow.key, ticket.schedule, key.name)
        if ticket.cause == "Clock":
            self._recorder.count("schedule_fires")
            late = (self._clock.now() - ticket.at).total_seconds()
            self._recorder.observe("schedule_lateness_seconds", max(0.0, late))
        return self._with_run(seen, key, made)

    async def _end(self, seen: Seen, schedule: str, key: Key, uid: str) -> Seen:
        try:
            ended = await self._cluster.patch(key, {"spec": {"desiredState": "Terminated"}}, uid=uid)
        except Gone:
            return replace(seen, runs=tuple(run for run in seen.runs if run.key != key))
        except Refused as error:
            log.warning("%s: schedule %s cannot end %s: %s", seen.workflow.key, schedule, key.name, error)
            self._tell(seen.workflow, "Warning", "EndRefused", f"{schedule}: {key.name}: {error}")
            return replace(seen, refused=seen.refused | {key.name})
        return self._with_run(seen, key, ended)

    def _with_run(self, seen: Seen, key: Key, body: Json) -> Seen:
        self._take_in(key, body)
        others = tuple(run for run in seen.runs if run.key != key)
        return replace(seen, runs=(*others, project_workflow_run(body)))

    def _with_workflow(self, seen: Seen, body: Json) -> Seen:
        workflow = project_workflow(body)
        known = self._store.workflows.get(workflow.key)
        # Its deletion may be told before the answer comes: that must not bring it back.
        if known is not None and known.uid == workflow.uid:
            self._take_in(workflow.key, body)
        return replace(seen, workflow=workflow, fresh=True)

    def _tell(
        self, workflow: Workflow, kind: Literal["Normal", "Warning"], reason: EventReason, message: str
    ) -> None:
        self._recorder.event(workflow.key, workflow.uid, kind=kind, reason=reason, message=message)
