"""What is wrong or doubtful about schedules."""

from datetime import timedelta

from podium.api.v1alpha1.schedule import Backfill, Schedule
from podium.api.v1alpha1.workflow import WorkflowSpec
from podium.core.definitions.findings import Report
from podium.core.durations import parse_duration
from podium.core.schedules.cron import InvalidSchedule, parse_cron
from podium.core.schedules.span import read_span

_SHORTEST_DEADLINE = timedelta(seconds=10)


def check_schedules(spec: WorkflowSpec, report: Report) -> None:
    """Reports on spec.schedules."""
    for number, schedule in enumerate(spec.schedules):
        path = f"spec.schedules[{number}]"
        try:
            parse_cron(schedule.cron, schedule.time_zone)
        except InvalidSchedule as problem:
            report.error(f"{path}.{problem.field}", str(problem), problem.remedy)
        _check_deadline(schedule, f"{path}.startingDeadline", report)
        if schedule.time_field is not None and schedule.time_field in (schedule.input or {}):
            report.warning(
                f"{path}.timeField",
                f"the time takes the place of input.{schedule.time_field}",
                "take it out of input, or give another timeField",
            )
        if schedule.backfill is not None:
            _check_backfill(schedule.backfill, path, report)


def _check_deadline(schedule: Schedule, path: str, report: Report) -> None:
    try:
        deadline = parse_duration(schedule.starting_deadline)
    except ValueError:
        report.error(path, f"{schedule.starting_deadline!r} is not a duration", "write it like 90s or 10m")
        return
    if deadline < _SHORTEST_DEADLINE:
        report.warning(
            path,
            f"{schedule.starting_deadline} is so short that a restart of the operator misses times",
            "give 10s or more",
        )


def _check_backfill(backfill: Backfill, path: str, report: Report) -> None:
    try:
        read_span(backfill)
    except InvalidSchedule as problem:
        report.error(f"{path}.{problem.field}", str(problem), problem.remedy)
