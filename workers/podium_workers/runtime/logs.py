"""The worker's own log, as text or JSON: each record names the task that it is about."""

from __future__ import annotations

import contextvars
import json
import logging
import sys
from collections.abc import Iterable
from datetime import UTC, datetime

from podium_workers.runtime.redaction import RedactingFormatter
from podium_workers.runtime.task import Task

FORMS = ("auto", "text", "json")
_LAYOUT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
_about: contextvars.ContextVar[Task | None] = contextvars.ContextVar("task", default=None)


def about(task: Task) -> None:
    """What is logged from here on in this context (and its threads) is about that task."""
    _about.set(task)


def set_up_logs(level: str, form: str, worker_id: str, known: Iterable[str]) -> None:
    """Logs to stderr. `auto`: text for the person at a terminal, JSON for what collects the logs of pods.

    `known`: the values of Secrets, read anew for each record.
    """
    if form == "auto":
        form = "text" if sys.stderr.isatty() else "json"
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(_name_task)
    handler.setFormatter(_Json(worker_id, known) if form == "json" else _Text(_LAYOUT, known))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # A record that cannot be formatted would be printed with its arguments, past the formatter.
    logging.raiseExceptions = False
    for noisy in ("httpx", "httpcore", "asyncio", "kubernetes"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def _name_task(record: logging.LogRecord) -> bool:
    # On the handler, not on a logger: it sees the records of every library, and in the thread that made them.
    record.podium_task = _about.get()
    return True


class _Text(RedactingFormatter):
    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 — logging's name
        text = super().formatMessage(record)
        task: Task | None = getattr(record, "podium_task", None)
        if task is None or task.task_id in text:
            return text
        return f"{text} [{task.task_type} {task.task_id}, workflow {task.workflow_id}]"


class _Json(RedactingFormatter):
    def __init__(self, worker_id: str, known: Iterable[str]) -> None:
        super().__init__(_LAYOUT, known)
        self._worker_id = worker_id

    def format(self, record: logging.LogRecord) -> str:
        # Hidden in each part, not in the line: quoted twice, a value would not be recognised.
        said: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": self.hidden(record.getMessage()),
            "worker_id": self._worker_id,
        }
        task: Task | None = getattr(record, "podium_task", None)
        if task is not None:
            said |= {
                "workflow_id": task.workflow_id,
                "task_id": task.task_id,
                "task_type": task.task_type,
                "attempt": task.retry_count + 1,
            }
        if record.exc_info:
            said["trace"] = self.hidden(self.formatException(record.exc_info))
        elif record.exc_text:
            said["trace"] = self.hidden(record.exc_text)  # comes from another process
        return json.dumps(said, ensure_ascii=False, default=str)
