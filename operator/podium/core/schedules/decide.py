"""What to do next about the schedules of a Workflow: which run to make, and what to write before."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import assert_never

from podium.api.v1alpha1.schedule import Schedule
from podium.core.conditions import Word
from podium.core.effects import Note, Report
from podium.core.objects import Workflow, WorkflowRun, conditions_of, is_finished
from podium.core.schedules import effects as do
from podium.core.schedules.effects import ScheduleEffect
from podium.core.schedules.progress import Line, Runs, build_line
from podium.core.schedules.runs import Ticket, build_run, ticket_of
from podium.core.schedules.status import CONDITION, build_status, is_written, read_standings

AT_ONCE = 10
"""Runs of one back-fill that are active at once, under the policy Allow."""
_TRY_AGAIN = timedelta(seconds=30)


@dataclass(frozen=True)
class Seen:
    """Everything known about the schedules of one Workflow at one moment."""

    workflow: Workflow
    runs: tuple[WorkflowRun, ...]
    """Those of its runs that have a schedule."""
    fresh: bool = False
    """Whether the Workflow was read anew in this pass."""
    taken: frozenset[str] = frozenset()
    """Names of runs to be that something else has."""
    refused: frozenset[str] = frozenset()
    """Names of runs that the API server refused to make or to end in this pass: others may go."""

    @cached_property
    def made(self) -> dict[str, WorkflowRun]:
        """The runs that schedules made, by name; a copy that someone made of one is none."""
        name = self.workflow.key.name
        tickets = ((run, ticket_of(run)) for run in self.runs)
        return {run.key.name: run for run, ticket in tickets if ticket and ticket.name(name) == run.key.name}


def decide_schedules(seen: Seen, now: datetime) -> ScheduleEffect:
    """The next effect, or the Report that ends this pass.

    What must stand is written before anything is started; a run that is there moves the status on,
    whoever made it and whenever the operator died. So a time has one run, or is left out and counted.
    """
    workflow = seen.workflow
    if workflow.deleting_since is not None or workflow.spec is None:
        return Report(None)
    standings = read_standings(workflow)
    runs = Runs(workflow.key.name, seen.made, seen.taken)
    lines = [
        build_line(schedule, standings.get(schedule.name), runs, now, held=workflow.spec.suspend)
        for schedule in workflow.spec.schedules
    ]
    if (write := _write(seen, lines, now)) is not None:
        return write
    for line in lines:
        if (effect := _act(seen, line)) is not None:
            return effect
    rest = _until_next(lines, now)
    if seen.refused:
        rest = min(rest or _TRY_AGAIN, _TRY_AGAIN)
    return Report(None, requeue_after=rest)


# --- writing ----------------------------------------------------------------------------------------


def _write(seen: Seen, lines: list[Line], now: datetime) -> ScheduleEffect | None:
    word = _word(seen, lines)
    started = [line.started for line in lines if line.started is not None]
    status = build_status(
        seen.workflow, [line.standing for line in lines], word, max(started, default=None), now
    )
    if is_written(seen.workflow, status):
        return None
    notes = tuple(note for line in lines for note in line.notes)
    if word is not None and word.reason == "InvalidSchedule" and _is_news(seen.workflow, word):
        notes = (*notes, Note("Warning", word.reason, word.message))
    return do.WriteSchedules(status, notes, skipped=sum(line.skipped for line in lines))


def _word(seen: Seen, lines: list[Line]) -> Word | None:
    assert seen.workflow.spec is not None
    if not lines:
        return None
    wrong = [(number, line.problem) for number, line in enumerate(lines) if line.problem is not None]
    if wrong:
        number, problem = wrong[0]
        more = f" (and {len(wrong) - 1} more: podium lint shows them)" if len(wrong) > 1 else ""
        where = f"spec.schedules[{number}].{problem.field}"
        return Word(CONDITION, "False", "InvalidSchedule", f"{where}: {problem}; {problem.remedy}{more}")
    if seen.workflow.spec.suspend:
        return Word(CONDITION, "False", "Suspended", "spec.suspend is true: its times are passed over")
    held = sum(line.standing.suspended for line in lines)
    if held == len(lines):
        return Word(
            CONDITION, "False", "Suspended", "every schedule is suspended: their times are passed over"
        )
    counts = f"{len(lines)} schedule{'s' if len(lines) > 1 else ''}"
    return Word(CONDITION, "True", "Scheduled", f"{counts}, {held} suspended" if held else counts)


def _is_news(workflow: Workflow, word: Word) -> bool:
    return not any(
        item["type"] == word.type and item["message"] == word.message for item in conditions_of(workflow)
    )


# --- acting -----------------------------------------------------------------------------------------


def _act(seen: Seen, line: Line) -> ScheduleEffect | None:
    active = [
        run for run in seen.made.values() if run.schedule == line.schedule.name and not is_finished(run)
    ]
    asked = _make(seen, line.schedule, line.run_now) if line.run_now is not None else None
    return asked or _act_on_time(seen, line, active) or _fill(seen, line, active)


def _act_on_time(seen: Seen, line: Line, active: list[WorkflowRun]) -> ScheduleEffect | None:
    if line.due is None:
        return None
    match line.schedule.concurrency_policy:
        case "Allow":
            return _make(seen, line.schedule, line.due)
        case "Forbid":
            return None if active else _make(seen, line.schedule, line.due)
        case "Replace":
            return _replace(seen, line.schedule, line.due, active)
        case policy:
            assert_never(policy)


def _fill(seen: Seen, line: Line, active: list[WorkflowRun]) -> ScheduleEffect | None:
    if line.backfill is None:
        return None
    policy = line.schedule.concurrency_policy
    in_the_way = active if policy == "Forbid" else [run for run in active if run.backfill]
    at_once = AT_ONCE if policy == "Allow" else 1
    return _make(seen, line.schedule, line.backfill) if len(in_the_way) < at_once else None


def _make(seen: Seen, schedule: Schedule, ticket: Ticket) -> ScheduleEffect | None:
    if ticket.name(seen.workflow.key.name) in seen.refused:
        return None
    # A look at the object itself, before something that cannot be taken back: the watch may be behind.
    if not seen.fresh:
        return do.ReadWorkflow()
    return do.CreateRun(ticket, build_run(seen.workflow, schedule, ticket))


def _replace(seen: Seen, schedule: Schedule, due: Ticket, active: list[WorkflowRun]) -> ScheduleEffect | None:
    to_end = [run for run in active if _is_to_end(run)]
    for run in to_end:
        if run.key.name not in seen.refused:
            return do.EndRun(schedule.name, run.key, run.uid) if seen.fresh else do.ReadWorkflow()
    # One that cannot be ended goes on: another one beside it would be two at once.
    return None if to_end else _make(seen, schedule, due)


def _is_to_end(run: WorkflowRun) -> bool:
    ticket = ticket_of(run)
    by_the_clock = ticket is not None and ticket.cause == "Clock"
    return by_the_clock and run.spec is not None and run.spec.desired_state != "Terminated"


def _until_next(lines: list[Line], now: datetime) -> timedelta | None:
    """Until the first time comes, or the deadline of one that waits is over."""
    moments = [moment for line in lines if (moment := line.wake) is not None]
    return max(min(moments) - now, timedelta()) if moments else None
