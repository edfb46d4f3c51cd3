"""What a task function may be told about its task, and the words with which it may end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

LOG_LINES = 200
LOG_LINE_CHARACTERS = 4000


class Retry(Exception):
    """The task failed, and another attempt may help (FAILED): Conductor retries it as its definition says.

    Any other exception means the same; this one keeps its class name out of the reason.
    """

    def __init__(self, reason: str, output: Mapping[str, Any] | None = None) -> None:
        super().__init__(reason)
        self.output = dict(output or {})


class Reject(Exception):
    """The task failed, and no attempt will help (FAILED_WITH_TERMINAL_ERROR): it is not retried."""

    def __init__(self, reason: str, output: Mapping[str, Any] | None = None) -> None:
        super().__init__(reason)
        self.output = dict(output or {})


@dataclass(frozen=True)
class InProgress:
    """Returned by a function: the task goes back to its queue and is given out again `after` seconds."""

    after: int
    output: Mapping[str, Any]


@dataclass
class TaskContext:
    """One attempt at one task. A parameter annotated with this class receives it.

    Usable from the function's thread as well as from the event loop.
    """

    task_id: str
    workflow_id: str
    task_type: str
    ref: str
    """The task's reference name in its workflow."""
    attempt: int
    """1 for the first try: Conductor's retryCount + 1. An attempt may be delivered more than once."""
    poll_count: int
    """How often this very task was given to a worker, 1 the first time (`in_progress` counts it up)."""
    domain: str | None
    data_dir: Path
    """Where this worker may keep files; made before the first task."""
    worker_id: str
    output: Mapping[str, Any] = field(default_factory=dict)
    """What an earlier delivery of this task left with `in_progress(output=…)`."""
    wake: Callable[[], None] = field(default=lambda: None, repr=False)
    clean: Callable[[str], str] = field(default=lambda text: text, repr=False)
    _lines: list[tuple[int, str]] = field(default_factory=list, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _extend: bool = field(default=False, repr=False)

    def log(self, message: str) -> None:
        """Adds a line to the task's log in Conductor. Sent within about two seconds, or with the result.

        At most 200 lines wait; more are dropped and counted in the last one.
        """
        now = int(time.time() * 1000)
        with self._lock:
            if len(self._lines) < LOG_LINES:
                # Cleaned before it is cut: half a secret is not recognised any more.
                self._lines.append((now, self.clean(str(message))[:LOG_LINE_CHARACTERS]))
            elif len(self._lines) == LOG_LINES:
                self._lines.append((now, "… more lines than can be kept; the rest is dropped"))

    def extend(self) -> None:
        """Tells Conductor now that the task is alive. Rarely needed: the runtime does it at half-time."""
        with self._lock:
            self._extend = True
        self.wake()

    def in_progress(self, after: int, output: Mapping[str, Any] | None = None) -> InProgress:
        """To be returned: frees the slot, and the same task comes back in `after` seconds (poll_count + 1).

        `output` is kept, and found in `output` when the task comes back.
        """
        return InProgress(after=max(0, int(after)), output=dict(output or {}))

    def take_lines(self) -> list[tuple[int, str]]:
        """The log lines not yet sent, (milliseconds, text) each; they count as taken."""
        with self._lock:
            lines, self._lines = self._lines, []
        return lines

    def take_extension(self) -> bool:
        """Whether `extend` was called since the last time this was asked."""
        with self._lock:
            asked, self._extend = self._extend, False
        return asked
