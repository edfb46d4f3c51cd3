"""Plain tables as kubectl prints them: columns apart, no lines, ages in two figures."""

from collections.abc import Sequence
from datetime import datetime, timedelta


def format_table(rows: Sequence[Sequence[str]]) -> str:
    """Rows of equally many cells, the first one with the headings."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def format_age(time: timedelta) -> str:
    """45s, 12m, 5h, 3d: short enough for a column."""
    seconds = max(0, int(time.total_seconds()))
    for size, unit, most in ((1, "s", 120), (60, "m", 120), (3600, "h", 48)):
        if seconds < size * most:
            return f"{seconds // size}{unit}"
    return f"{seconds // 86_400}d"


def age_of(time: str | None, now: datetime) -> str:
    """The age of a time as Kubernetes writes it; empty for none."""
    return format_age(now - datetime.fromisoformat(time)) if time else ""
