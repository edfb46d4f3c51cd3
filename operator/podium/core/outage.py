"""When a server counts as away, and when it is back: a circuit breaker as a value.

    Closed ──a refused connection, 3 without an answer, 5 broken answers in a row──▶ Open
    Open ──a probe is answered──▶ HalfOpen ──3 good answers──▶ Closed

A good answer between two failures makes them no row: one broken object does not take the
connection down.
"""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from podium.ports import Outage

Outcome = Literal["fine", "refused", "silent", "broken"]
"""What came of a request. refused: it was not sent; silent: no answer came; broken: 5xx or rubbish."""

MOST_SILENT = 3
MOST_BROKEN = 5
ENOUGH_GOOD = 3


@dataclass(frozen=True)
class Breaker:
    """How a server was seen last. `since`: the first failure of the row that goes on."""

    state: Literal["Closed", "Open", "HalfOpen"] = "Closed"
    since: datetime | None = None
    why: str = ""
    silent: int = 0
    broken: int = 0
    good: int = 0

    def after(self, outcome: Outcome, now: datetime, *, why: str = "", probe: bool = False) -> "Breaker":
        """The breaker after an outcome; `why` tells a failure in words, `probe` that nobody needed it."""
        match self.state:
            case "Closed":
                return self._closed(outcome, now, why)
            case "Open":
                # Answers that come late, to what was sent before, prove nothing.
                return replace(self, state="HalfOpen", good=1) if probe and outcome == "fine" else self
            case "HalfOpen":
                return self._half_open(outcome)

    @property
    def outage(self) -> Outage | None:
        """Since when it is away and why, in words that stay the same as long as it lasts."""
        if self.state == "Closed" or self.since is None:
            return None
        return Outage(self.since, f"{self.why}, since {self.since:%H:%M:%S}Z")

    def _closed(self, outcome: Outcome, now: datetime, why: str) -> "Breaker":
        if outcome == "fine":
            return Breaker()
        seen = replace(
            self,
            since=self.since or now,
            why=why,
            silent=self.silent + (outcome == "silent"),
            broken=self.broken + (outcome == "broken"),
        )
        away = outcome == "refused" or seen.silent >= MOST_SILENT or seen.broken >= MOST_BROKEN
        return replace(seen, state="Open", silent=0, broken=0) if away else seen

    def _half_open(self, outcome: Outcome) -> "Breaker":
        if outcome == "fine":
            good = self.good + 1
            return Breaker() if good >= ENOUGH_GOOD else replace(self, good=good, broken=0)
        broken = self.broken + (outcome == "broken")
        if outcome == "broken" and broken < MOST_BROKEN:
            return replace(self, broken=broken)
        return replace(self, state="Open", good=0, broken=0)
