"""The WorkflowRuns that schedules make: one name for each reason, so that none is made twice."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from podium.api.v1alpha1 import API_VERSION
from podium.api.v1alpha1.schedule import (
    BACKFILL,
    RUN_NOW,
    SCHEDULE_LABEL,
    SCHEDULED_AT,
    WORKFLOW_LABEL,
    Schedule,
)
from podium.core.durations import format_time
from podium.core.objects import Workflow, WorkflowRun
from podium.core.schedules.cron import short_hash
from podium.ports import Json

_LONGEST = 63
"""So that a run's name can be a label's value too."""


@dataclass(frozen=True)
class Ticket:
    """Why a run is made. `id`: of the run-now or the back-fill."""

    schedule: str
    at: datetime
    cause: Literal["Clock", "Now", "Backfill"] = "Clock"
    id: str = ""

    def name(self, workflow: str) -> str:
        """The name of its run: always the same, and no other ticket's.

        Parts are joined by dots, which the names of schedules do not have: with dashes, the schedule b-c
        of a Workflow a would meet the schedule c of a Workflow a-b.
        """
        minutes = int(self.at.timestamp()) // 60
        match self.cause:
            case "Clock":
                tail = f"{minutes}"
            case "Now":
                tail = f"now-{short_hash(self.id)}"
            case "Backfill":
                tail = f"{minutes}-b{short_hash(self.id)}"
        return f"{_cut(f'{workflow}.{self.schedule}', _LONGEST - len(tail) - 1)}.{tail}"

    def fits(self, run: WorkflowRun) -> bool:
        """Whether a run was made for it. The moment of a run-now may be another one."""
        cause = "Now" if run.run_now else "Backfill" if run.backfill else "Clock"
        same = run.schedule == self.schedule and cause == self.cause
        if cause == "Now":
            return same and run.run_now == self.id
        return same and run.scheduled_at == self.at and run.backfill == self.id


def ticket_of(run: WorkflowRun) -> Ticket | None:
    """Why a run was made; None if no schedule made it."""
    if not run.schedule or run.scheduled_at is None:
        return None
    if run.run_now:
        return Ticket(run.schedule, run.scheduled_at, "Now", run.run_now)
    if run.backfill:
        return Ticket(run.schedule, run.scheduled_at, "Backfill", run.backfill)
    return Ticket(run.schedule, run.scheduled_at)


def build_run(workflow: Workflow, schedule: Schedule, ticket: Ticket) -> Json:
    """The manifest of a run. It goes with its Workflow, without standing in the way of its deletion."""
    given = dict(schedule.input or {})
    if schedule.time_field:
        given[schedule.time_field] = format_time(ticket.at)
    annotations = {SCHEDULED_AT: format_time(ticket.at)}
    if ticket.cause == "Now":
        annotations[RUN_NOW] = ticket.id
    elif ticket.cause == "Backfill":
        annotations[BACKFILL] = ticket.id
    spec: Json = {"workflow": workflow.key.name}
    if given or schedule.input is not None:
        spec["input"] = given
    wanted = workflow.spec
    if wanted is not None and wanted.deletion_policy == "Orphan" and not wanted.run_history.purge:
        # It is deleted with its Workflow, which shall leave Conductor as it is.
        spec["deletionPolicy"] = "Orphan"
    return {
        "apiVersion": API_VERSION,
        "kind": "WorkflowRun",
        "metadata": {
            "name": ticket.name(workflow.key.name),
            "namespace": workflow.key.namespace,
            "labels": {
                WORKFLOW_LABEL: _cut(workflow.key.name, _LONGEST),
                SCHEDULE_LABEL: schedule.name,
            },
            "annotations": annotations,
            "ownerReferences": [
                {
                    "apiVersion": API_VERSION,
                    "kind": "Workflow",
                    "name": workflow.key.name,
                    "uid": workflow.uid,
                    "controller": True,
                    "blockOwnerDeletion": False,
                }
            ],
        },
        "spec": spec,
    }


def _cut(name: str, longest: int) -> str:
    """A name of at most so many characters; a longer one ends in its hash."""
    if len(name) <= longest:
        return name
    return f"{name[: longest - 9].rstrip('-.')}-{short_hash(name)}"
