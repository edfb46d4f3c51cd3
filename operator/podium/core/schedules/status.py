"""The schedules' part of a Workflow's status: what it is, and how it stays small."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Final

from pydantic import ValidationError

from podium.api.v1alpha1.schedule import ScheduleStatus
from podium.core.conditions import Word, json_bytes, shorten, write_conditions
from podium.core.durations import format_time, parse_time
from podium.core.objects import Workflow, WorkflowRun, conditions_of
from podium.core.schedules.cron import short_hash
from podium.core.schedules.runs import Ticket, ticket_of
from podium.ports import Json

CONDITION: Final = "Scheduled"
_FIELDS = ("schedules", "lastScheduleTime", "nextScheduleTime")
_WHOLE = 8 * 1024
_SHORT_MESSAGE = 100


def without_schedules(status: Json) -> Json:
    """A Workflow's status as its registration writes it."""
    rest = {name: value for name, value in status.items() if name not in _FIELDS}
    if "conditions" in rest:
        rest["conditions"] = [item for item in rest["conditions"] if item["type"] != CONDITION]
    return rest


def room_beside_schedules(count: int) -> int:
    """Bytes of JSON that the rest of a Workflow's status may have, beside so many schedules."""
    return _WHOLE - _room(count)


def read_standings(workflow: Workflow) -> dict[str, ScheduleStatus]:
    """Where each schedule stands, by name. What is no standing counts as none: it begins anew."""
    found = {}
    for item in workflow.status.get("schedules") or []:
        try:
            standing = ScheduleStatus.model_validate(item)
            reached = standing.backfill.reached if standing.backfill is not None else None
            for moment in (standing.since, standing.last_time, reached):
                parse_time(moment or "2026-01-01T00:00:00Z")
        except (ValidationError, ValueError):
            continue
        found[standing.name] = standing
    return found


def is_settled(run: WorkflowRun, workflow: Workflow, standings: Mapping[str, ScheduleStatus]) -> bool:
    """Whether a run may be forgotten: the status has moved past it, it would not be made again.

    `standings`: those of the Workflow. To read them takes longer than all else, and serves many runs.
    """
    ticket = ticket_of(run)
    standing = standings.get(run.schedule)
    if ticket is None or standing is None:
        return True
    match ticket.cause:
        case "Clock":
            past = [parse_time(moment) for moment in (standing.since, standing.last_time) if moment]
            return ticket.at <= max(past)
        case "Now":
            return is_id(standing.last_run_now, ticket.id) or not _is_asked_for(ticket, workflow)
        case "Backfill":
            known = standing.backfill
            if known is None or not is_id(known.id, ticket.id):
                return not _is_asked_for(ticket, workflow)
            return known.done or (known.reached is not None and ticket.at <= parse_time(known.reached))


def _is_asked_for(ticket: Ticket, workflow: Workflow) -> bool:
    schedules = workflow.spec.schedules if workflow.spec else []
    return any(
        item.run_now == ticket.id or (item.backfill is not None and item.backfill.id == ticket.id)
        for item in schedules
        if item.name == ticket.schedule
    )


def is_id(known: str | None, given: str) -> bool:
    """Whether it is the id that is in the status: as it is, or shortened."""
    return known in (given, _short_id(given))


def build_status(
    workflow: Workflow,
    standings: Sequence[ScheduleStatus],
    word: Word | None,
    last_started: datetime | None,
    now: datetime,
) -> Json:
    """The part to be written; empty if there is nothing to say."""
    if word is None:
        return {}
    status: Json = {}
    if standings:
        status["schedules"] = [item.model_dump(by_alias=True, exclude_defaults=True) for item in standings]
    if waiting := [item.next_time for item in standings if item.next_time is not None]:
        status["nextScheduleTime"] = min(waiting)
    known = workflow.status.get("lastScheduleTime")
    if last_started is not None or known:
        latest = [format_time(last_started)] if last_started is not None else []
        status["lastScheduleTime"] = max([*latest, *([known] if known else [])])
    status["conditions"] = write_conditions(
        (word,), conditions_of(workflow), generation=workflow.generation, now=now
    )
    for shrink in _SHRINK:
        if json_bytes(status) <= _room(len(standings)):
            break
        shrink(status)
    return status


def is_written(workflow: Workflow, status: Json) -> bool:
    """Whether the part stands like this already. The order of a map has no meaning."""
    there = {name: workflow.status[name] for name in _FIELDS if workflow.status.get(name)}
    if ours := [item for item in conditions_of(workflow) if item["type"] == CONDITION]:
        there["conditions"] = ours
    return _by_name(there) == _by_name(status)


def _by_name(status: Json) -> Json:
    return {**status, "schedules": sorted(status.get("schedules", []), key=lambda item: str(item["name"]))}


# --- small enough -----------------------------------------------------------------------------------


def _room(count: int) -> int:
    # 400 for what there is once, and 207 for a schedule with a name of 40 letters, a run-now and a
    # back-fill, when everything that can be told otherwise is left out.
    return max(3 * 1024, 400 + 207 * count) if count else 0


def _leave_out_comfort(status: Json) -> None:
    for item in status["schedules"]:
        item.pop("lastRun", None)
        item.pop("nextTime", None)


def _shorten_ids(status: Json) -> None:
    for item in status["schedules"]:
        if "lastRunNow" in item:
            item["lastRunNow"] = _short_id(item["lastRunNow"])
        if "backfill" in item:
            item["backfill"]["id"] = _short_id(item["backfill"]["id"])


def _leave_out_counts(status: Json) -> None:
    for item in status["schedules"]:
        item.pop("skipped", None)
        if "lastTime" in item and "since" in item:
            item["lastTime"] = max(item["lastTime"], item.pop("since"))
        for name in ("started", "message"):
            item.get("backfill", {}).pop(name, None)
    for condition in status["conditions"]:
        condition["message"] = shorten(condition["message"], _SHORT_MESSAGE)


def _leave_out_ends(status: Json) -> None:
    for item in status["schedules"]:
        if item.get("backfill", {}).get("done"):
            item["backfill"].pop("reached", None)


_SHRINK: tuple[Callable[[Json], None], ...] = (
    _leave_out_comfort,
    _shorten_ids,
    _leave_out_ends,
    _leave_out_counts,
)


def _short_id(given: str) -> str:
    shortened = given.startswith("#") and len(given) == len("#12345678")
    return given if shortened or len(given) <= len("#12345678") else f"#{short_hash(given)}"
