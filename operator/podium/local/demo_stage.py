"""Where the demo plays: a stack that is up, how its parts of the demo speak to it, and whom they tell."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from typing import Any

from podium.local.control_plane import run_kubectl
from podium.local.errors import LocalError
from podium.local.stack import Stack
from podium.local.state import StackState, Wishes

FINISHED = frozenset({"Succeeded", "Failed", "TimedOut", "Terminated"})
_LOOK_EVERY = 0.4


class Stage:
    """`say` gets lines for a person. Everything raises LocalError where kubectl fails."""

    def __init__(self, stack: Stack, wishes: Wishes, say: Callable[[str], None]) -> None:
        self.stack = stack
        self.say = say
        self._wishes = wishes
        self._shown = ""

    @property
    def state(self) -> StackState:
        """As it is now: parts that were started again have other process ids."""
        return self.stack.state()

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """What it prints."""
        state = self.state
        return run_kubectl(state.kubectl, state.kubeconfig, *arguments, stdin=stdin)

    def read(self, *what: str) -> Any:
        """The JSON of `kubectl get …`."""
        return json.loads(self.kubectl("get", *what, "-o", "json"))

    def apply(self, bodies: Iterable[dict[str, Any]]) -> None:
        self.kubectl("apply", "-f", "-", stdin="\n---\n".join(map(json.dumps, bodies)))

    def say_once(self, line: str) -> None:
        """Unless it is what was said last."""
        if line != self._shown:
            self.say(line)
            self._shown = line

    def until(self, is_done: Callable[[], bool], *, within: float, otherwise: Callable[[], str]) -> None:
        """Looks until it is done; raises LocalError with `otherwise()` after so many seconds.

        Parts that die meanwhile are started again, as a Deployment would.
        """
        deadline = time.monotonic() + within
        while not is_done():
            if time.monotonic() > deadline:
                raise LocalError(f"not done within {within:.0f} s: {otherwise()}")
            self._revive()
            time.sleep(_LOOK_EVERY)

    def _revive(self) -> None:
        dead = [part.name for part in self.stack.status() if part.pid is None and part.log is not None]
        if dead:
            self.say(f"{', '.join(dead)} died: starting it again, as a Deployment would")
            self.stack.up(self._wishes)
