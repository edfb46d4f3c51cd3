"""Conductor as it is seen: runs, tasks, pollers; and what is sent to it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from podium.ports.cluster import Json

TaskState = Literal[
    "SCHEDULED",
    "IN_PROGRESS",
    "COMPLETED",
    "COMPLETED_WITH_ERRORS",
    "FAILED",
    "FAILED_WITH_TERMINAL_ERROR",
    "CANCELED",
    "TIMED_OUT",
    "SKIPPED",
]
RunState = Literal["RUNNING", "PAUSED", "COMPLETED", "FAILED", "TIMED_OUT", "TERMINATED"]


@dataclass(frozen=True, slots=True)
class TaskSeen:
    """One entry of a run's task list (one attempt). Times in milliseconds since 1970, 0 = not yet."""

    ref: str
    task_type: str
    state: TaskState
    task_id: str = ""
    system_type: str = "SIMPLE"
    attempt: int = 0
    seq: int = 0
    start_ms: int = 0
    end_ms: int = 0
    worker: str = ""
    reason: str = ""
    sub_workflow_id: str = ""
    retried: bool = False
    scheduled_ms: int = 0
    update_ms: int = 0
    """Its last sign of life: a result, a poll, or a worker that extends its lease."""
    callback_s: int = 0
    """Seconds after its last change before which nobody gets it: a retry's delay, a worker's call-back."""
    response_timeout_s: int = 0
    domain: str = ""
    timed: bool = False
    """A WAIT that ends by itself."""
    forked: tuple[str, ...] = ()
    """Of a dynamic fork: the reference names of the tasks that it made."""


@dataclass(frozen=True, slots=True)
class RunSeen:
    """A run as Conductor shows it, without what nobody needs (definition, payloads of tasks)."""

    workflow_id: str
    name: str
    version: int
    state: RunState
    correlation_id: str = ""
    create_ms: int = 0
    start_ms: int = 0
    end_ms: int = 0
    update_ms: int = 0
    retried_ms: int = 0
    """When it was retried last."""
    reason: str = ""
    output: Json | None = None
    output_path: str = ""
    outside: bool = False
    """Payloads of it or its tasks lie outside of Conductor's database; its output in `output_path`."""
    tasks: tuple[TaskSeen, ...] = ()
    nodes: Mapping[str, str] | None = None
    """Reference name → the id that the user wrote, from the definition's metadata."""
    parent_id: str = ""
    failure_run: bool = False


@dataclass(frozen=True)
class Moved:
    """A run that changed, as the sweep finds it. `at_ms`: the server's clock."""

    workflow_id: str
    correlation_id: str
    at_ms: int


@dataclass(frozen=True)
class Polled:
    """The last poll of a task type, in a domain ("" = none)."""

    task_type: str
    domain: str
    at: datetime


@dataclass(frozen=True)
class WorkerLoad:
    """What a worker says of itself."""

    busy: int
    """Tasks that it works on."""
    at: datetime
    draining: bool = False
    """It was told to stop, and takes no more."""
    running: Mapping[str, int] = field(default_factory=dict)
    """Task type → tasks of it that it works on."""
    last_poll: datetime | None = None


@dataclass(frozen=True)
class StartRequest:
    """Everything that `start` sends."""

    name: str
    version: int
    correlation_id: str
    input: Json
    priority: int = 0
    task_to_domain: Mapping[str, str] | None = None


@dataclass(frozen=True)
class TaskAnswer:
    """What a person says to a task that waits."""

    workflow_id: str
    task_id: str
    approved: bool
    by: str
    reason: str = ""
    output: Json | None = None


@dataclass(frozen=True)
class DevicePage:
    """Where a device says how it is."""

    url: str
    timeout: float
    """Seconds."""


@dataclass(frozen=True)
class DeviceAnswer:
    """What a device says of itself. Sizes in bytes; None: it does not say."""

    build: str
    mac: str | None = None
    chip: str | None = None
    free_heap: int | None = None
    partition: str | None = None
    ota_state: str | None = None
    failed_checks: tuple[str, ...] = ()


@dataclass(frozen=True)
class NoAnswer:
    """No usable answer.

    `Nobody`: no connection. `TooSlow`: connected, and no answer in time. `HttpError`: another status than
    200. `Unreadable`: no JSON, or without a build.
    """

    kind: Literal["Nobody", "TooSlow", "HttpError", "Unreadable"]
    message: str
