"""How often the status of a device may be written: a fleet must not drown the API server.

A device may have three writes at once, and then one in ten minutes: what flaps is written late. What
answers to a person's own change is no part of that.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

MOST = 3
EVERY = timedelta(minutes=10)


@dataclass(frozen=True)
class Allowance:
    """So many writes were left at that time; a fraction grows with the time."""

    left: float
    at: datetime

    @classmethod
    def full(cls, now: datetime) -> "Allowance":
        """That of a device not written of yet."""
        return cls(MOST, now)

    def _now(self, now: datetime) -> float:
        if self.at - now > EVERY:
            return MOST  # the clock was set back: that time would come again only then
        return min(MOST, self.left + (now - self.at) / EVERY)

    def wait(self, now: datetime) -> timedelta:
        """How long until one more may be written; zero: now."""
        return max(timedelta(), (1 - self._now(now)) * EVERY)

    def spend(self, now: datetime) -> "Allowance":
        """After a write."""
        return Allowance(max(0.0, self._now(now) - 1), now)
