"""Carries out what a decision about a run asks of Conductor, and folds what came of it into `Seen`."""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, Literal, assert_never

from podium.core import effects as do
from podium.core.effects import Action, Change, ConductorEffect, Look, Unknown
from podium.core.run_status import is_child
from podium.core.runs import ActionOutcome, Seen, StartOutcome
from podium.ports import (
    Clock,
    Conflict,
    Gone,
    NotRegistered,
    NotSent,
    OutcomeUnknown,
    PortError,
    Recorder,
    Refused,
    RunSeen,
    TaskAnswer,
)
from podium.reconciler.connections import Link
from podium.reconciler.family import find_family, remove_family

log = logging.getLogger(__name__)


class RunCalls:
    """The calls to one Conductor. Nothing here decides; no port's error leaves it."""

    def __init__(self, link: Link, clock: Clock, recorder: Recorder, crash: Callable[[str], None]) -> None:
        self._link = link
        self._clock = clock
        self._recorder = recorder
        self._crash = crash

    async def carry_out(self, seen: Seen, effect: ConductorEffect) -> Seen:
        """What is seen afterwards."""
        match effect:
            case do.Start():
                return await self._start(seen, effect)
            case do.Answer(answer, task):
                return await self._answer(seen, answer, task)
            case do.Retry() | do.Restart() | do.Rerun() | do.Skip():
                return await self._act(seen, effect)
            case do.Pause() | do.Resume() | do.Terminate() | do.Nudge():
                return await self._change(seen, effect)
            case do.FindFamily():
                family = await find_family(self._link.conductor, self._clock, effect)
                return replace(seen, family=family)
            case do.Remove():
                failure = await remove_family(self._link.conductor, self._clock, effect)
                return replace(seen, done=seen.done | {"Remove"}, failure=failure)
            case _:
                return await self._look(seen, effect)

    # --- looking -------------------------------------------------------------------------------------

    async def _look(self, seen: Seen, effect: Look) -> Seen:
        match effect:
            case do.FetchDefinition(name, version):
                return replace(seen, definition=await self._definition(name, version))
            case do.LookUp(name, correlation_id):
                try:
                    found = await self._link.conductor.find_runs(name, correlation_id)
                except PortError as error:
                    return replace(seen, lookup=Unknown(str(error)))
                return replace(seen, lookup=tuple(found))
            case do.ReadRun(workflow_id):
                return await self._read(seen, workflow_id)
            case do.ReadStore():
                return await self._read_store(seen)
            case do.ReadChildren(workflow_ids):
                return await self._read_children(seen, workflow_ids)
            case do.ReadPollers():
                return replace(seen, pollers=await self._link.read_pollers(self._clock.now()))
        assert_never(effect)

    async def _read(self, seen: Seen, workflow_id: str) -> Seen:
        try:
            views = await self._link.conductor.get_runs([workflow_id])
        except PortError as error:
            return replace(seen, conductor=Unknown(str(error)), fresh=True)
        if workflow_id not in views:
            return replace(seen, conductor=Unknown("Conductor cannot read the run"), fresh=True)
        view = views[workflow_id]
        self._link.tracker.put(workflow_id, view)
        return replace(seen, conductor=view or "Absent", fresh=True)

    async def _read_store(self, seen: Seen) -> Seen:
        # What was seen of the run before counts no more: it is read again after the mark.
        seen = replace(seen, store_fresh=True, fresh=False, lookup=None)
        try:
            return replace(seen, store=await self._link.read_store(seen.policy.cluster_id))
        except PortError as error:
            return replace(seen, store=Unknown(str(error)))

    async def _read_children(self, seen: Seen, workflow_ids: tuple[str, ...]) -> Seen:
        read = seen.read_children | set(workflow_ids)
        try:
            views = await self._link.conductor.get_runs(workflow_ids)
        except PortError as error:
            log.debug("%s: cannot read its sub-workflows: %s", seen.run.key, error)
            return replace(seen, read_children=read)
        # Its id may not be in the status yet: a run can fail within the first second.
        own = seen.conductor.workflow_id if isinstance(seen.conductor, RunSeen) else ""
        parents = (own, *seen.children)
        found: dict[str, RunSeen | Literal["Absent"]] = {
            workflow_id: view or "Absent" for workflow_id, view in views.items() if is_child(view, *parents)
        }
        return replace(seen, read_children=read, children={**seen.children, **found})

    async def _definition(self, name: str, version: int) -> Any:
        if found := self._link.definitions.get(name, version):
            return found
        try:
            definition = await self._link.conductor.get_definition(name, version)
        except PortError as error:
            return Unknown(str(error))
        if definition is None:
            return "Absent"
        return self._link.definitions.learn(definition)

    # --- what must not be done twice -----------------------------------------------------------------

    async def _start(self, seen: Seen, effect: do.Start) -> Seen:
        try:
            workflow_id = await self._link.conductor.start(effect.request)
        except NotRegistered as error:
            outcome = StartOutcome("NotRegistered", "", str(error))
        except NotSent as error:
            outcome = StartOutcome("NotSent", "", str(error))
        except OutcomeUnknown as error:
            outcome = StartOutcome("Unknown", "", str(error))
        except Refused as error:
            outcome = StartOutcome("Refused", "", str(error))
        else:
            self._crash("after Start was answered")
            outcome = StartOutcome("Started", workflow_id)
            self._link.tracker.watch(workflow_id, seen.run.key)
        return replace(seen, intent_fresh=False, outcome=outcome)

    async def _act(self, seen: Seen, effect: Action) -> Seen:
        name = type(effect).__name__
        outcome = ActionOutcome("Sent")
        try:
            await self._call(effect)
        except NotSent as error:
            outcome = ActionOutcome("NotSent", str(error))
        except OutcomeUnknown as error:
            outcome = ActionOutcome("Unknown", str(error))
        except (Conflict, Gone, Refused) as error:
            outcome = ActionOutcome("Refused", str(error))
        self._crash(f"after {name} was answered")
        return replace(seen, acted=outcome, intent_fresh=False, fresh=False, done=seen.done | {name})

    def _call(self, effect: Action) -> Awaitable[None]:
        conductor = self._link.conductor
        match effect:
            case do.Retry(workflow_id, resume_children):
                return conductor.retry(workflow_id, resume_children=resume_children)
            case do.Restart(workflow_id):
                return conductor.restart(workflow_id)
            case do.Rerun(workflow_id, task_id, task_input):
                return conductor.rerun(workflow_id, task_id, task_input)
            case do.Skip(workflow_id, ref):
                return conductor.skip(workflow_id, ref)
        assert_never(effect)

    # --- what may be done again ----------------------------------------------------------------------

    async def _change(self, seen: Seen, effect: Change) -> Seen:
        conductor, workflow_id = self._link.conductor, effect.workflow_id
        match effect:
            case do.Pause():
                call = conductor.pause(workflow_id)
            case do.Resume():
                call = conductor.resume(workflow_id)
            case do.Nudge():
                log.info("%s: nothing moves in %s: asking Conductor to decide", seen.run.key, workflow_id)
                call = conductor.nudge(workflow_id)
            case do.Terminate(_, reason, duplicate):
                if duplicate:
                    self._tell_of_duplicate(seen, workflow_id, reason)
                call = conductor.terminate(workflow_id, reason)
        name = type(effect).__name__
        done = seen.done | {name, f"{name} {workflow_id}"}
        try:
            await call
        except (Conflict, Gone):
            pass  # it moved meanwhile: what it is now is read next
        except PortError as error:
            return replace(seen, done=done, failure=str(error))
        if (seen.run.status.get("conductor") or {}).get("workflowId") != workflow_id:
            return replace(seen, done=done)  # a duplicate, or one that is not recorded
        self._crash(f"after {name} was answered")
        return await self._read(replace(seen, done=done), workflow_id)

    async def _answer(self, seen: Seen, answer: TaskAnswer, task: str) -> Seen:
        done = seen.done | {f"Answer {answer.task_id}"}
        try:
            await self._link.conductor.answer(answer)
        except (Conflict, Gone, Refused) as error:
            log.warning("%s: the approval of %s: %s", seen.run.key, task, error)
        except PortError as error:
            return replace(seen, done=done, failure=str(error))
        else:
            said = "approved" if answer.approved else "rejected"
            self._recorder.event(
                seen.run.key,
                seen.run.uid,
                kind="Normal" if answer.approved else "Warning",
                reason="Approved" if answer.approved else "Rejected",
                message=f"{task} was {said} by {answer.by}",
            )
        self._crash("after Answer was answered")
        self._link.tracker.refresh(answer.workflow_id)
        whose = seen.conductor.workflow_id if isinstance(seen.conductor, RunSeen) else answer.workflow_id
        return await self._read(replace(seen, done=done), whose)

    def _tell_of_duplicate(self, seen: Seen, workflow_id: str, reason: str) -> None:
        run = seen.run
        log.warning("%s: ending %s, a duplicate", run.key, workflow_id)
        self._recorder.event(run.key, run.uid, kind="Warning", reason="DuplicateEnded", message=reason)
        self._recorder.count("duplicate_runs")
