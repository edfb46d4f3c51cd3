"""Durations as people write them: 90s, 10m, 1h30m."""

import re
from datetime import UTC, datetime, timedelta

_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)")
_LONGEST = 100 * 365 * 86_400.0  # seconds: longer means never, and could not be added to a date
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def parse_duration(text: str) -> timedelta:
    """`1h30m` → timedelta, a hundred years at most. Raises ValueError for what is not ms, s, m, h."""
    parts = _PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError(f"{text!r} is not a duration such as 90s, 10m or 1h30m")
    return timedelta(seconds=min(_LONGEST, sum(float(number) * _UNITS[unit] for number, unit in parts)))


def format_time(moment: datetime) -> str:
    """RFC 3339 in UTC, to the second: what Kubernetes writes."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def format_precise_time(moment: datetime) -> str:
    """RFC 3339 in UTC with microseconds: for moments that are compared."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def parse_time(text: str) -> datetime:
    """RFC 3339 → datetime with time zone. Raises ValueError for what is no time."""
    return datetime.fromisoformat(text.upper())


def from_milliseconds(milliseconds: int) -> datetime | None:
    """Conductor's times: milliseconds since 1970; 0 means not yet."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC) if milliseconds > 0 else None
