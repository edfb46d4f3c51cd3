"""One schedule: where it stands now, given the runs that are there, and what it wants next."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import islice

from podium.api.v1alpha1.schedule import Backfill, BackfillStatus, Schedule, ScheduleStatus
from podium.core.conditions import shorten
from podium.core.durations import format_time, parse_duration, parse_time
from podium.core.effects import Note
from podium.core.objects import WorkflowRun
from podium.core.schedules.cron import Cron, InvalidSchedule, mark_of, parse_cron
from podium.core.schedules.runs import Ticket
from podium.core.schedules.span import read_span
from podium.core.schedules.status import is_id

MOST_BACKFILL = 10_000
"""Times that one back-fill may have."""
_MOST_TIMES = 1_000
"""Times that are dealt with before they are written down: nothing else is done while they are counted."""
_LONGEST_MESSAGE = 128
"""Letters of why a back-fill was refused."""
_SECOND = timedelta(seconds=1)
_INSTANT = timedelta(microseconds=1)
_CLOCKS_APART = timedelta(minutes=5)
"""How far the clocks of two replicas may be apart without a word."""


@dataclass(frozen=True)
class Line:
    """One schedule as it is to stand, and what it wants next (once that is written)."""

    schedule: Schedule
    standing: ScheduleStatus
    cron: Cron | None = None
    problem: InvalidSchedule | None = None
    started: datetime | None = None
    """The latest time that was found to have its run."""
    skipped: int = 0
    notes: tuple[Note, ...] = ()
    run_now: Ticket | None = None
    due: Ticket | None = None
    coming: datetime | None = None
    """The first time that is still to come; unknown while one is due."""
    backfill: Ticket | None = None

    @property
    def wake(self) -> datetime | None:
        """When it is to be looked at again, if nothing else happens."""
        if self.due is not None:
            return self.due.at + parse_duration(self.schedule.starting_deadline) + _SECOND
        return self.coming


@dataclass(frozen=True)
class Runs:
    """The runs that schedules of a Workflow made, and names that something else has."""

    workflow: str
    made: Mapping[str, WorkflowRun]
    taken: frozenset[str] = field(default=frozenset())

    def find(self, ticket: Ticket) -> str:
        """The name of the run that was made for it; "" if there is none."""
        name = ticket.name(self.workflow)
        run = self.made.get(name)
        return name if run is not None and ticket.fits(run) else ""

    def is_taken(self, ticket: Ticket) -> bool:
        """Whether something else has its name."""
        return ticket.name(self.workflow) in self.taken


def build_line(
    schedule: Schedule, before: ScheduleStatus | None, runs: Runs, now: datetime, *, held: bool
) -> Line:
    """Where it stands now. `held`: the Workflow is suspended, so nothing at all is started."""
    line = Line(schedule, _settle(schedule, before, now, suspended=held or schedule.suspend))
    try:
        line = replace(line, cron=parse_cron(schedule.cron, schedule.time_zone))
    except InvalidSchedule as problem:
        return replace(line, problem=problem)
    if not held:
        line = _look_at_run_now(line, runs, now)
        line = _look_at_backfill(line, runs, now)
    if not line.standing.suspended:
        line = _look_at_times(line, runs, now)
    return line


def _settle(
    schedule: Schedule, before: ScheduleStatus | None, now: datetime, *, suspended: bool
) -> ScheduleStatus:
    """From when on its times count: not before it was new, another one, or resumed.

    A clock that was ahead for a moment leaves times behind that are still to come: until then it would
    be silent, so that it begins anew. Runs that were made for such times are found by their names.
    """
    mark, since = mark_of(schedule.cron, schedule.time_zone), format_time(now)
    if before is None or (before.since is None and before.last_time is None):
        standing = ScheduleStatus(name=schedule.name, since=since, mark=mark)
    elif before.mark != mark or _is_ahead(before, now):
        standing = before.model_copy(update={"since": since, "mark": mark, "last_time": None})
    elif before.suspended and not suspended:
        standing = before.model_copy(update={"since": since})
    else:
        standing = before
    return standing.model_copy(update={"suspended": suspended, "next_time": None})


def _is_ahead(standing: ScheduleStatus, now: datetime) -> bool:
    known = (parse_time(moment) for moment in (standing.since, standing.last_time) if moment)
    return any(moment - now > _CLOCKS_APART for moment in known)


# --- by the clock -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Walk:
    """What became of the times up to now."""

    last: datetime
    """The latest one that is dealt with; as before, if none is."""
    last_run: str | None
    started: datetime | None = None
    skipped: int = 0
    taken: str = ""
    due: Ticket | None = None
    coming: datetime | None = None


def _look_at_times(line: Line, runs: Runs, now: datetime) -> Line:
    """Passes over what has its run and what is too late; what is left is due."""
    assert line.cron is not None
    standing = line.standing
    after = max(parse_time(moment) for moment in (standing.since, standing.last_time) if moment)
    walk = _walk(line, line.cron, runs, after, now)
    coming = walk.due.at if walk.due else walk.coming
    update = {
        "last_time": format_time(walk.last) if walk.last != after else standing.last_time,
        "last_run": walk.last_run,
        "skipped": standing.skipped + walk.skipped,
        "next_time": format_time(coming) if coming else None,
    }
    return replace(
        line,
        standing=standing.model_copy(update=update),
        started=walk.started,
        skipped=walk.skipped,
        due=walk.due,
        coming=walk.coming,
        notes=(*line.notes, *_tell_skipped(line.schedule, walk)),
    )


def _walk(line: Line, cron: Cron, runs: Runs, after: datetime, now: datetime) -> _Walk:
    schedule = line.schedule
    too_late = now - parse_duration(schedule.starting_deadline)
    newest = cron.last(after, now) if schedule.concurrency_policy == "Replace" else None
    begin = walk = _Walk(after, line.standing.last_run)
    for time in islice(cron.after(after), _MOST_TIMES):
        if time > now:
            return replace(walk, coming=time)
        ticket = Ticket(schedule.name, time)
        if name := runs.find(ticket):
            walk = replace(walk, last=time, started=time, last_run=name)
        elif runs.is_taken(ticket):
            walk = replace(walk, last=time, skipped=walk.skipped + 1, taken=ticket.name(runs.workflow))
        elif time < too_late or (newest is not None and time < newest):
            walk = replace(walk, last=time, skipped=walk.skipped + 1)
        else:
            # Under Replace the older ones are left out once the newest has its run, not before.
            return replace(walk if newest is None else begin, due=ticket)
    return walk


def _tell_skipped(schedule: Schedule, walk: _Walk) -> tuple[Note, ...]:
    """The same words each time, so that they make one Event with a count."""
    if walk.taken:
        text = f"{schedule.name}: something else has the name {walk.taken}, its time was left out"
        return (Note("Warning", "RunNameTaken", text),)
    if not walk.skipped:
        return ()
    why = {
        "Allow": f"missed by more than startingDeadline ({schedule.starting_deadline})",
        "Forbid": "the run before was active, or the operator was away, for longer than startingDeadline "
        f"({schedule.starting_deadline})",
        "Replace": "a newer time was due, or they were missed by more than startingDeadline "
        f"({schedule.starting_deadline})",
    }[schedule.concurrency_policy]
    text = f"{schedule.name}: times were left out: {why}; status.schedules[].skipped counts them"
    return (Note("Warning", "SkippedTimes", text),)


# --- when asked -------------------------------------------------------------------------------------


def _look_at_run_now(line: Line, runs: Runs, now: datetime) -> Line:
    wanted, standing = line.schedule.run_now, line.standing
    if wanted is None or is_id(standing.last_run_now, wanted):
        return line
    ticket = Ticket(line.schedule.name, now.astimezone(UTC).replace(microsecond=0), "Now", wanted)
    if name := runs.find(ticket):
        note = Note("Normal", "RunNow", f"{line.schedule.name}: started {name}")
        update = {"last_run_now": wanted, "last_run": name}
    elif runs.is_taken(ticket):
        name = ticket.name(runs.workflow)
        note = Note("Warning", "RunNameTaken", f"{line.schedule.name}: something else has the name {name}")
        update = {"last_run_now": wanted}
    else:
        return replace(line, run_now=ticket)
    return replace(line, standing=standing.model_copy(update=update), notes=(*line.notes, note))


def _look_at_backfill(line: Line, runs: Runs, now: datetime) -> Line:
    wanted, known = line.schedule.backfill, line.standing.backfill
    if wanted is None or line.cron is None:
        return line
    name, notes = f"{line.schedule.name}: back-fill {wanted.id}", line.notes
    ticket = None
    try:
        if known is None or not is_id(known.id, wanted.id):
            known, note = _begin(name, line.cron, wanted, now)
            notes = (*notes, note)
        if not known.done:
            known, ticket = _go_on(line.schedule.name, line.cron, wanted, known, runs)
            if known.done:
                notes = (*notes, Note("Normal", "BackfillDone", f"{name}: all its runs were started"))
    except InvalidSchedule as problem:
        known, note = _refuse(name, wanted, f"{problem.field}: {problem}; {problem.remedy}", known)
        notes = (*notes, note)
    standing = line.standing.model_copy(update={"backfill": known})
    return replace(line, standing=standing, notes=notes, backfill=ticket)


def _begin(name: str, cron: Cron, wanted: Backfill, now: datetime) -> tuple[BackfillStatus, Note]:
    after, until = _span(wanted)
    if until > now:
        return _refuse(name, wanted, "its end is still to come: give one that is over")
    if (times := cron.count(after, until, MOST_BACKFILL + 1)) > MOST_BACKFILL:
        return _refuse(name, wanted, f"it has more than {MOST_BACKFILL} times: ask for a shorter span")
    return BackfillStatus(id=wanted.id), Note("Normal", "BackfillStarted", f"{name}: {times} times")


def _refuse(
    name: str, wanted: Backfill, why: str, known: BackfillStatus | None = None
) -> tuple[BackfillStatus, Note]:
    """Nothing (more) is started. `known`: how far it had come, if its span was changed under the same id."""
    begun = known if known is not None and is_id(known.id, wanted.id) else BackfillStatus(id=wanted.id)
    message = shorten(f"refused: {why}", _LONGEST_MESSAGE)
    refused = begun.model_copy(update={"done": True, "message": message})
    return refused, Note("Warning", "BackfillRefused", f"{name}: {why}")


def _go_on(
    schedule: str, cron: Cron, wanted: Backfill, known: BackfillStatus, runs: Runs
) -> tuple[BackfillStatus, Ticket | None]:
    after, until = _span(wanted)
    if known.reached is not None:
        after = max(after, parse_time(known.reached))
    for time in cron.between(after, until):
        ticket = Ticket(schedule, time, "Backfill", wanted.id)
        if not runs.find(ticket) and not runs.is_taken(ticket):
            return known, ticket
        started = known.started + (1 if runs.find(ticket) else 0)
        known = known.model_copy(update={"reached": format_time(time), "started": started})
    return known.model_copy(update={"done": True}), None


def _span(wanted: Backfill) -> tuple[datetime, datetime]:
    """(after, until]. Raises InvalidSchedule."""
    start, end = read_span(wanted)
    return start - _INSTANT, end - _INSTANT
