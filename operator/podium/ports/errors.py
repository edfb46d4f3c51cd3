"""The family of errors: adapters translate every foreign one into these, once."""

from dataclasses import dataclass
from datetime import datetime


class PortError(Exception):
    """Base of what a port may raise."""


class RetryLater(PortError):
    """The other side is away, slow or confused; the outcome is *not* known to have happened.

    `after`: seconds that the other side asked to be left alone.
    """

    def __init__(self, message: str = "", *, after: float = 0.0) -> None:
        super().__init__(message)
        self.after = after


class NotSent(RetryLater):
    """The request never left: nothing can have happened on the other side."""


class LoginRefused(NotSent):
    """The server does not take our credentials: nothing was done, and nothing will be with these."""


class NotRegistered(NotSent):
    """The server lacks what the request names: nothing was done, and nothing will be before it has it."""


class OutcomeUnknown(RetryLater):
    """The request may have been carried out: it must be looked up, never blindly repeated."""


class Refused(PortError):
    """The other side says no for good: the user must change something."""


class Gone(PortError):
    """What was asked for does not exist."""


class Conflict(PortError):
    """Someone else changed it meanwhile: look again."""


@dataclass(frozen=True)
class Outage:
    """A server is away: since when, and why in words that stay the same as long as it lasts."""

    since: datetime
    message: str
