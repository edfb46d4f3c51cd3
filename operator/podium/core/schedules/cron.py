"""Cron in a time zone: which times a schedule has. Times are whole seconds in UTC.

Daylight saving as in Debian's cron, which cronsim follows. A time at a fixed hour that spring skips
comes right after the gap, and one that autumn doubles comes once, the first time. Where the minute or
the hour begins with a star, the clock on the wall decides: skipped ones do not come, doubled ones come
twice.
"""

import contextlib
import difflib
import hashlib
import zoneinfo
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from functools import cache, lru_cache
from itertools import islice, takewhile

from cronsim import CronSim, CronSimError

_SPANS = {
    "minute": "0-59",
    "hour": "0-23",
    "day-of-month": "1-31, L for the last day or LW for the last weekday",
    "month": "1-12 or JAN-DEC",
    "day-of-week": "0-7 or SUN-SAT, 5L for the last Friday, 1#2 for the second Monday",
}
_FIVE = "write five fields (minute hour day month weekday), such as 0 2 * * * for every day at 2:00"
_SOME_DAY = datetime(2024, 1, 1, tzinfo=UTC)
_SECOND = timedelta(seconds=1)
# Shorter than any time for which a zone keeps an offset, so that no change of it is stepped over.
_STEP = timedelta(days=1)
# Names of zones, right and wrong: every schedule is read again and again, and to say what is meant by a
# wrong one takes 20 ms or more.
_REMEMBERED = 1024


class InvalidSchedule(ValueError):
    """A cron text or a zone that means nothing. `field`: cron or timeZone; `remedy`: what to do."""

    def __init__(self, field: str, message: str, remedy: str) -> None:
        super().__init__(message)
        self.field = field
        self.remedy = remedy


@dataclass(frozen=True)
class Cron:
    """The times of a schedule; made by `parse_cron`."""

    text: str
    zone: zoneinfo.ZoneInfo

    def after(self, moment: datetime) -> Iterator[datetime]:
        """Every time later than `moment`, in order; it ends where none comes for fifty years."""
        moment = moment.astimezone(UTC).replace(microsecond=0)
        minute, hour = self.text.split()[:2]
        on_the_wall = minute.startswith("*") or hour.startswith("*")
        last = moment
        for time in self._on_the_wall(moment) if on_the_wall else self._at_fixed_hours(moment):
            # From within a doubled hour, cronsim begins with its first half, which is over.
            if time > last:
                yield time
                last = time

    def next(self, moment: datetime) -> datetime | None:
        """The first time later than `moment`, if there is one."""
        return next(self.after(moment), None)

    def between(self, after: datetime, until: datetime) -> Iterator[datetime]:
        """The times in (after, until], in order."""
        return takewhile(lambda time: time <= until, self.after(after))

    def count(self, after: datetime, until: datetime, most: int) -> int:
        """How many times are in (after, until], counted up to `most`."""
        return sum(1 for _ in islice(self.between(after, until), most))

    def last(self, after: datetime, until: datetime) -> datetime | None:
        """The latest time in (after, until]; looked for from the end, for there may be very many."""
        for hours in (1, 24, 24 * 32, 24 * 366):
            begin = max(after, until - timedelta(hours=hours))
            if (found := max(self.between(begin, until), default=None)) or begin == after:
                return found
        return max(self.between(after, until), default=None)

    def _at_fixed_hours(self, moment: datetime) -> Iterator[datetime]:
        for time in CronSim(self.text, moment.astimezone(self.zone)):
            yield time.astimezone(UTC)

    def _on_the_wall(self, moment: datetime) -> Iterator[datetime]:
        # From one change of the zone's offset to the next: over a change of half an hour (Lord Howe)
        # cronsim 2.8 by itself leaves out times when it looks for an hour.
        offset = self._offset(moment)
        change: datetime | None = moment
        while change is not None:
            change = None
            for found in CronSim(self.text, moment.astimezone(timezone(offset))):
                time = found.astimezone(UTC)
                change = self._change(moment, time, offset)
                if change is not None:
                    offset, moment = self._offset(change), change - _SECOND
                    break
                yield time
                moment = time

    def _offset(self, moment: datetime) -> timedelta:
        return moment.astimezone(self.zone).utcoffset() or timedelta()

    def _change(self, after: datetime, until: datetime, offset: timedelta) -> datetime | None:
        """The first second in (after, until] at which the zone has another offset."""
        while after < until:
            there = min(after + _STEP, until)
            if self._offset(there) != offset:
                while there - after > _SECOND:
                    middle = after + (there - after) // 2
                    middle = middle.replace(microsecond=0)
                    if self._offset(middle) == offset:
                        after = middle
                    else:
                        there = middle
                return there
            after = there
        return None


def parse_cron(cron: str, time_zone: str) -> Cron:
    """The times of a schedule. Raises InvalidSchedule."""
    _check(cron)
    return Cron(cron, _zone(time_zone))


def mark_of(cron: str, time_zone: str) -> str:
    """8 hexadecimal digits: another mark is another schedule, which begins anew."""
    return short_hash(" ".join(cron.upper().split()), time_zone)


def short_hash(*parts: str) -> str:
    """8 hexadecimal digits of some texts."""
    return hashlib.sha256("\n".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:8]


def _check(cron: str) -> None:
    fields = cron.split()
    if len(fields) != len(_SPANS):
        raise InvalidSchedule("cron", f"{cron!r} has {len(fields)} fields, not five", _FIVE)
    try:
        times = CronSim(cron, _SOME_DAY)
    except CronSimError as error:
        name = str(error).removeprefix("Bad ")
        every_month = " ".join([*fields[:3], "*", fields[4]])
        if name == "day-of-month" and _is_fine(every_month):
            never = f"{cron!r} never comes: no month {fields[3]} has a day {fields[2]}"
            raise InvalidSchedule("cron", never, "give a day that there is, or L for the last one") from error
        text = dict(zip(_SPANS, fields, strict=True)).get(name, cron)
        remedy = f"give {_SPANS.get(name, _FIVE)}, with lists 1,2, spans 1-5 and steps */5"
        raise InvalidSchedule("cron", f"{text!r} is no {name.replace('-', ' ')}", remedy) from error
    if next(times, None) is None:
        raise InvalidSchedule("cron", f"{cron!r} never comes", "give a day that there is")


def _is_fine(cron: str) -> bool:
    try:
        CronSim(cron, _SOME_DAY)
    except CronSimError:
        return False
    return True


def _zone(name: str) -> zoneinfo.ZoneInfo:
    with contextlib.suppress(OSError):
        if (zone := _find_zone(name)) is not None:
            return zone
    raise InvalidSchedule("timeZone", f"there is no time zone {name!r}", _suggest(name))


@lru_cache(_REMEMBERED)
def _find_zone(name: str) -> zoneinfo.ZoneInfo | None:
    """The zone of this name, if there is one; OSError, which is not remembered, if it cannot be read now."""
    # Not what the machine itself is set to: a schedule means the same wherever the operator runs.
    if name in ("localtime", "posixrules"):
        return None
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as error:
        if name in _known_zones().values():
            raise OSError(f"{name} cannot be read: {error}") from error
        return None


@lru_cache(_REMEMBERED)
def _suggest(name: str) -> str:
    known = _known_zones()
    near = difflib.get_close_matches(name.lower(), known, n=1)
    return f"did you mean {known[near[0]]}?" if near else "give an IANA time zone such as Europe/Berlin"


@cache
def _known_zones() -> dict[str, str]:
    """In small letters → as they are written. To find them, the whole database is walked."""
    return {zone.lower(): zone for zone in zoneinfo.available_timezones()}
