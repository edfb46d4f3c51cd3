"""Says what is being done and how long it has taken: live bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Protocol, Self, TextIO

from rich.console import Console
from rich.progress import BarColumn, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as RichProgress

_PLAIN_LINE_EVERY_SECONDS = 15.0


class Step(Protocol):
    """One piece of work under way."""

    def update(self, note: str, done: int | None = None, total: int | None = None) -> None:
        """`note` says what is happening; `done` of `total` (any unit) how far it is."""


class Progress(Protocol):
    """Where work is announced. Steps may overlap, from several threads."""

    def step(self, title: str) -> contextlib.AbstractContextManager[Step]:
        """Announces work, and at its end how long it took (or that it failed)."""

    def say(self, text: str) -> None:
        """One line that is true now."""


def open_progress(stream: TextIO | None = None) -> LiveProgress | PlainProgress:
    """Progress on `stream` (standard error if None), as fits it. A context manager."""
    stream = stream or sys.stderr
    return LiveProgress(stream) if stream.isatty() else PlainProgress(stream)


class Silence:
    """Progress that nobody sees."""

    @contextlib.contextmanager
    def step(self, title: str) -> Iterator[Step]:  # noqa: ARG002 - the shape is the protocol's
        yield self

    def say(self, text: str) -> None:
        """Says nothing."""

    def update(self, note: str, done: int | None = None, total: int | None = None) -> None:
        """Says nothing."""


class PlainProgress:
    """A line when a step starts, one every 15 s while it goes on, and one at its end."""

    def __init__(self, stream: TextIO, every: float = _PLAIN_LINE_EVERY_SECONDS) -> None:
        self._stream = stream
        self._every = every
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def step(self, title: str) -> Iterator[Step]:
        began, ended, step = time.monotonic(), threading.Event(), _PlainStep()
        self.say(f"{title} …")

        def tick() -> None:
            while not ended.wait(self._every):
                self.say(f"{title}: {step.text()}{format_seconds(time.monotonic() - began)}")

        ticker = threading.Thread(target=tick, daemon=True)
        ticker.start()
        outcome = "gave up after"
        try:
            yield step
            outcome = "done in"
        finally:
            ended.set()
            ticker.join()
            self.say(f"{title}: {outcome} {format_seconds(time.monotonic() - began)}")

    def say(self, text: str) -> None:
        with self._lock, contextlib.suppress(BrokenPipeError, ValueError):
            print(text, file=self._stream, flush=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None


class _PlainStep:
    def __init__(self) -> None:
        self._now = ("", None, None)

    _now: tuple[str, int | None, int | None]

    def update(self, note: str, done: int | None = None, total: int | None = None) -> None:
        self._now = (note, done, total)

    def text(self) -> str:
        note, done, total = self._now
        share = f"{min(99, 100 * done // total)} %, " if done is not None and total else ""
        return f"{share}{note}, " if note else share


class LiveProgress:
    """A line per step with a spinner, the time, and a bar where the total is known."""

    def __init__(self, stream: TextIO) -> None:
        self._rich = RichProgress(
            TextColumn("{task.fields[mark]} {task.description}"),
            BarColumn(bar_width=24),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TextColumn("[dim]{task.fields[note]}"),
            console=Console(file=stream),
        )

    @contextlib.contextmanager
    def step(self, title: str) -> Iterator[Step]:
        task = self._rich.add_task(title, total=None, note="", mark="[cyan]•[/]")
        mark = "[red]✗[/]"
        try:
            yield _LiveStep(self._rich, task)
            mark = "[green]✓[/]"
            self._rich.update(task, total=1, completed=1, note="")
        finally:
            self._rich.update(task, mark=mark)
            self._rich.stop_task(task)

    def say(self, text: str) -> None:
        self._rich.console.print(text, markup=False, highlight=False)

    def __enter__(self) -> Self:
        self._rich.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._rich.stop()


class _LiveStep:
    def __init__(self, rich: RichProgress, task: TaskID) -> None:
        self._rich = rich
        self._task = task

    def update(self, note: str, done: int | None = None, total: int | None = None) -> None:
        self._rich.update(self._task, note=note, completed=done, total=total)


def format_seconds(seconds: float) -> str:
    """3.4 → "3.4 s", 75 → "1 min 15 s"."""
    return f"{seconds:.1f} s" if seconds < 60 else f"{int(seconds // 60)} min {int(seconds % 60)} s"
