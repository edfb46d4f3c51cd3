"""The span of time of a back-fill. The API server lets in what is none: a year 0, an offset of a day."""

from datetime import UTC, datetime

from podium.api.v1alpha1.schedule import Backfill
from podium.core.conditions import shorten
from podium.core.durations import parse_time
from podium.core.schedules.cron import InvalidSchedule

# The names of runs count the minutes from here.
_EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
_LONGEST_TEXT = 40
"""Letters of a given time that are shown."""


def read_span(backfill: Backfill) -> tuple[datetime, datetime]:
    """Its start and its end, which is later. Raises InvalidSchedule."""
    start, end = _read("start", backfill.start), _read("end", backfill.end)
    if start >= end:
        raise InvalidSchedule("backfill", "it ends before it begins", "start must be earlier than end")
    if start < _EARLIEST:
        raise InvalidSchedule("backfill.start", "it begins before 1970", "give a later start")
    return start, end


def _read(name: str, text: str) -> datetime:
    try:
        moment = parse_time(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        shown = shorten(text, _LONGEST_TEXT)
        raise InvalidSchedule(
            f"backfill.{name}", f"{shown!r} is no time", "write it like 2026-01-31T00:00:00Z"
        )
    return moment
