"""Part of the kind Workflow: schedules, which start runs by the clock, and where they stand."""

from typing import Literal

from pydantic import Field

from podium.api.v1alpha1.meta import GROUP, Duration, Model, Opaque, Rule, Timestamp

# What a run that a schedule made carries: labels, then annotations.
WORKFLOW_LABEL = f"{GROUP}/workflow"
SCHEDULE_LABEL = f"{GROUP}/schedule"
SCHEDULED_AT = f"{GROUP}/scheduled-at"
RUN_NOW = f"{GROUP}/run-now"
BACKFILL = f"{GROUP}/backfill"

SCHEDULES_MANAGER = "podium-schedules"
"""The field manager of the schedules' part of a Workflow's status."""


class Backfill(Model):
    """Starts the runs of a span of time that is over, or was never scheduled."""

    rules = (
        Rule("self.start < self.end", "a back-fill begins before it ends: start must be earlier than end"),
    )

    id: str = Field(
        min_length=1, max_length=64, description="Done once per id; see status.schedules[].backfill."
    )
    start: Timestamp = Field(description="The first time that counts (it is part of the span).")
    end: Timestamp = Field(description="The end of the span (not part of it).")


class Schedule(Model):
    """Starts runs by the clock."""

    name: str = Field(
        min_length=1, max_length=40, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", description="Unique here."
    )
    cron: str = Field(min_length=1, max_length=128, description="Five fields: minute hour day month weekday.")
    time_zone: str = Field(
        default="UTC", max_length=64, description="An IANA time zone, such as Europe/Berlin."
    )
    concurrency_policy: Literal["Allow", "Forbid", "Replace"] = Field(
        default="Forbid", description="What happens while the run before still runs."
    )
    starting_deadline: Duration = Field(
        default="10m", description="A start missed by more than this is left out."
    )
    input: Opaque | None = Field(default=None, description="The input of the runs.")
    time_field: str | None = Field(
        default=None,
        min_length=1,
        max_length=253,
        description="The input key that gets the time for which a run stands (RFC 3339, UTC).",
    )
    suspend: bool = Field(default=False, description="No new runs while true; run now and back-fill work.")
    run_now: str | None = Field(
        default=None,
        min_length=1,
        max_length=64,
        description="Starts one run at once, whenever this text changes to one not acted on yet.",
    )
    backfill: Backfill | None = Field(default=None, description="Starts the runs of a span of time, once.")


class BackfillStatus(Model):
    """How far a back-fill has come."""

    id: str = Field(description="The id of spec.schedules[].backfill.")
    reached: Timestamp | None = Field(default=None, description="The last time whose run was started.")
    started: int = Field(default=0, description="Runs started.")
    done: bool = Field(default=False, description="Whether nothing is left to start.")
    message: str | None = Field(default=None, max_length=128, description="Why nothing was started.")


class ScheduleStatus(Model):
    """Where one schedule stands."""

    name: str = Field(description="Its name in spec.schedules.")
    since: Timestamp | None = Field(
        default=None,
        description="Times up to this one do not count: it was new, changed or resumed then.",
    )
    mark: str = Field(description="Of cron and time zone: another one begins anew.")
    last_time: Timestamp | None = Field(
        default=None, description="The last time that was dealt with: started or left out."
    )
    last_run: str | None = Field(default=None, description="The WorkflowRun that was made last.")
    next_time: Timestamp | None = Field(
        default=None, description="The first time that is not dealt with: when it fires next, or waits since."
    )
    suspended: bool = Field(default=False, description="Whether its times are passed over.")
    skipped: int = Field(default=0, description="Times that were left out.")
    last_run_now: str | None = Field(default=None, description="The runNow that was acted on last.")
    backfill: BackfillStatus | None = Field(default=None, description="The back-fill acted on last.")
