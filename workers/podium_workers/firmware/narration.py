"""A build's log: kept for the gates, and told to whoever watches the task, both within bounds."""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Callable

MOST_BYTES = 8 * 2**20
MOST_TOLD = 300
TELL_EVERY = 2.0
LAST_LINES = 200
_ALWAYS = re.compile(
    r"warning:|error:|undefined reference|^(?:RAM|Flash):|^\*\*\* "
    r"|^Warning!|^Error|\[(?:SUCCESS|FAILED)\]|^Linking|^Building "
    r"|^(?:Tool|Platform|Library) Manager: (?:Installing|\S+ has been)|^PLATFORM:|^HARDWARE:",
    re.IGNORECASE,
)
_STEP = re.compile(r"^(?:Compiling|Archiving|Indexing|Generating)\s+(?P<what>\S+)")


class Narration:
    """Takes lines. `tell` gets those that matter at once, and how far it is every two seconds."""

    def __init__(
        self, environment: str, tell: Callable[[str], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._environment = environment
        self._tell = tell
        self._clock = clock
        self._lines: list[str] = []
        self._bytes = 0
        self._left_out = 0
        self._tail: deque[str] = deque(maxlen=LAST_LINES)
        self._told = 0
        self._steps = 0
        self._told_at = clock()

    def add(self, line: str, _channel: str = "out") -> None:
        """One line of the build."""
        matters = bool(_ALWAYS.search(line))
        self._tail.append(line)
        self._keep(line, matters)
        if matters:
            self._say(line)
        elif step := _STEP.match(line):
            self._steps += 1
            now = self._clock()
            if now - self._told_at >= TELL_EVERY:
                self._told_at = now
                self._say(f"{self._steps} files so far, now {step['what']}")

    @property
    def lines(self) -> list[str]:
        """What is kept: everything up to 8 MiB, then what matters, and the last lines."""
        if not self._left_out:
            return list(self._lines)
        return [*self._lines, f"… {self._left_out} lines are left out here", *self._tail]

    @property
    def tail(self) -> list[str]:
        """The last lines."""
        return list(self._tail)

    def text(self) -> bytes:
        """What is kept, as a file."""
        return ("\n".join(self.lines) + "\n").encode("utf-8", "replace")

    def _keep(self, line: str, matters: bool) -> None:
        if self._bytes + len(line) < (2 * MOST_BYTES if matters else MOST_BYTES):
            self._lines.append(line)
            self._bytes += len(line) + 1
        else:
            self._left_out += 1

    def _say(self, line: str) -> None:
        self._told += 1
        if self._told <= MOST_TOLD:
            self._tell(f"[{self._environment}] {line}")
        elif self._told == MOST_TOLD + 1:
            self._tell(f"[{self._environment}] … the rest is in the stored log")
