"""What can go wrong when a cluster and a Conductor are run on one machine."""

from __future__ import annotations

from collections.abc import Iterable


class LocalError(Exception):
    """Something a person at this machine has to know; the text is one or more whole sentences."""


class MissingPrerequisites(LocalError):
    """Programs or room that are not there.

    `remedies` has one sentence for each, saying what is missing and what to do; all are reported at once.
    """

    def __init__(self, remedies: Iterable[str]) -> None:
        self.remedies = tuple(remedies)
        super().__init__("\n".join(self.remedies))


class Interrupted(LocalError):
    """Work was given up because what it belongs to is being stopped."""
