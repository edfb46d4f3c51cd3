"""The system's clock."""

from datetime import UTC, datetime


class SystemClock:
    """`podium.ports.Clock`."""

    def now(self) -> datetime:
        """The time now, in UTC."""
        return datetime.now(UTC)
