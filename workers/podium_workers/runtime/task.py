"""What goes between Conductor and a worker: where tasks wait, a task, and how an attempt at it ended."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, order=True)
class Queue:
    """Where tasks wait: a task type, in a domain (Podium: a namespace) or, with None, without one."""

    task_type: str
    domain: str | None = None

    def __str__(self) -> str:
        return f"{self.domain}:{self.task_type}" if self.domain else self.task_type


@dataclass(frozen=True)
class Task:
    """A task that was given to this worker."""

    task_id: str
    workflow_id: str
    task_type: str
    ref: str
    retry_count: int
    poll_count: int
    response_timeout: float
    """Seconds without a sign of life after which Conductor takes the task for lost; 0: never."""
    timeout: float
    """Seconds from its hand-over after which Conductor ends the attempt, signs of life or not; 0: never."""
    input: Mapping[str, Any]
    output: Mapping[str, Any]
    external_input: str | None
    domain: str | None


@dataclass(frozen=True)
class Outcome:
    """How an attempt ended: COMPLETED, FAILED, FAILED_WITH_TERMINAL_ERROR or IN_PROGRESS (comes back)."""

    status: str
    output: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    reason: str = ""
    after: int = 0
    """Seconds until the task comes back."""
    kind: str = ""
    """Of a failure, one of `attempt.KINDS`: for metrics."""
    trace: str = ""
    """Of an exception: where it came from. For the task's log, not for Conductor's result."""
