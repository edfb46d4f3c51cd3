"""A run's family in Conductor: found, and removed with all its data. Bounded in size and time."""

import contextlib
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from podium.core.effects import FindFamily, Relative, Remove, Unknown
from podium.core.run_status import FAILURE_RUN
from podium.ports import Clock, Conductor, Conflict, Gone, PortError, Refused, RunSeen

log = logging.getLogger(__name__)

_MOST = 10_000
# Each answer carries all tasks and payloads of the runs in it.
_READ_AT_ONCE = 20


@dataclass(frozen=True)
class _Record:
    """What is kept of a run that was read."""

    parent_id: str
    active: bool
    outside: bool
    claims: bool
    """By its correlation id it is ours, though it has no parent: a failure workflow, or a duplicate."""


async def find_family(
    conductor: Conductor, clock: Clock, wanted: FindFamily
) -> tuple[Relative, ...] | Unknown:
    """The runs themselves and all that Conductor started because of them, children before parents.

    A task's output can name any run as its sub-workflow, so each one has to say itself whose it is.
    """
    records: dict[str, _Record] = {}
    try:
        # Restarts and reruns drop the tasks that name earlier children: the correlation id finds those.
        todo = [*wanted.workflow_ids, *await _related(conductor, wanted.correlation_id)]
        asked: set[str] = set()
        while todo := [item for item in dict.fromkeys(todo) if item not in asked][:_MOST]:
            if clock.now() >= wanted.until or len(asked) > _MOST:
                return Unknown("its sub-workflows could not all be found in time")
            part, todo = todo[:_READ_AT_ONCE], todo[_READ_AT_ONCE:]
            asked.update(part)
            views = await conductor.get_runs(part)
            if any(item not in views for item in part):
                return Unknown("Conductor cannot read all of its sub-workflows")
            for workflow_id, view in views.items():
                if view is not None:
                    records[workflow_id] = _record(view, wanted)
                    todo += _named_by(view)
    except PortError as error:
        return Unknown(str(error))
    return tuple(
        Relative(workflow_id, records[workflow_id].active, records[workflow_id].outside)
        for workflow_id in _family(records, wanted)
    )


async def remove_family(conductor: Conductor, clock: Clock, wanted: Remove) -> str:
    """Remove them, one by one; why it could not be done to the end, or ""."""
    for relative in wanted.family:
        if clock.now() >= wanted.until:
            return "there was no time to remove all of it"
        try:
            if relative.active:
                # Its workers are told, and a failure workflow does not follow.
                with contextlib.suppress(Conflict, Gone):
                    await conductor.terminate(relative.workflow_id, "its WorkflowRun was deleted")
            await conductor.remove(relative.workflow_id)
        except PortError as error:
            return str(error)
        log.debug("%s was removed from Conductor", relative.workflow_id)
    return ""


async def _related(conductor: Conductor, correlation_id: str) -> tuple[str, ...]:
    try:
        return await conductor.find_related(correlation_id)
    except Refused as error:
        # A server without a search: what the tasks name is found all the same.
        log.debug("no search by correlation id: %s", error)
        return ()


def _record(view: RunSeen, wanted: FindFamily) -> _Record:
    same_name = view.name == wanted.name and not view.parent_id
    return _Record(
        view.parent_id,
        view.state in ("RUNNING", "PAUSED"),
        view.outside,
        view.correlation_id == wanted.correlation_id and (view.failure_run or same_name),
    )


def _named_by(view: RunSeen) -> Iterator[str]:
    yield from (task.sub_workflow_id for task in view.tasks if task.sub_workflow_id)
    failure_run = (view.output or {}).get(FAILURE_RUN)
    if isinstance(failure_run, str) and " " not in failure_run:  # else it says why there is none
        yield failure_run


def _family(records: dict[str, _Record], wanted: FindFamily) -> Iterable[str]:
    """Who belongs to it, children before their parents, the runs themselves last."""
    family = dict.fromkeys(wanted.workflow_ids)
    grown = True
    while grown:
        new = [
            workflow_id
            for workflow_id, record in records.items()
            if workflow_id not in family and (record.claims or record.parent_id in family)
        ]
        family.update(dict.fromkeys(new))
        grown = bool(new)
    return [workflow_id for workflow_id in reversed(family) if workflow_id in records]
