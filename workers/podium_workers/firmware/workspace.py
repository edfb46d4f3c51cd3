"""The folders in which runs build: one for each run and name, used by one delivery of a task at a time."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import re
import shutil
import time
from collections.abc import AsyncIterator
from pathlib import Path

from podium_workers.runtime.context import Reject, Retry, TaskContext

ABANDONED_SECONDS = 86_400.0
_WAIT_SECONDS = 15.0
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")


class Workspace:
    """`source` is the checkout, `own` what the build may use besides."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.source = folder / "source"
        self.own = folder / "own"

    def project(self, path: str) -> Path:
        """The project's folder in the checkout. Raises Reject for one outside of it, or that is not there."""
        found = (self.source / path).resolve()
        if not found.is_relative_to(self.source.resolve()):
            raise Reject(f"path: {path!r} leads out of the repository")
        if not found.is_dir():
            raise Reject(f"path: there is no folder {path!r} in the repository at this commit")
        return found


@contextlib.asynccontextmanager
async def opened(context: TaskContext, name: str = "main") -> AsyncIterator[Workspace]:
    """This run's workspace, locked. Raises Retry if another delivery of the task holds it for too long."""
    if not _NAME.fullmatch(name):
        raise Reject(f"workspace: {name[:60]!r} is no name for a folder")
    folder = root(context) / context.workflow_id / name
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        await _acquire(lock.fileno(), folder)
        os.utime(folder)
        yield Workspace(folder)


def root(context: TaskContext) -> Path:
    """Where all of them are."""
    return context.data_dir / "firmware" / "work"


async def remove(context: TaskContext, name: str | None = None) -> None:
    """This run's workspaces, or one of them."""
    folder = root(context) / context.workflow_id
    await asyncio.to_thread(shutil.rmtree, folder / name if name else folder, ignore_errors=True)


def sweep(context: TaskContext, now: float | None = None) -> None:
    """Removes those of runs that have not touched theirs for a day."""
    oldest = (time.time() if now is None else now) - ABANDONED_SECONDS
    with contextlib.suppress(OSError):
        for run in root(context).iterdir():
            with contextlib.suppress(OSError):
                newest = max((part.stat().st_mtime for part in run.iterdir()), default=run.stat().st_mtime)
                if newest < oldest and run.name != context.workflow_id:
                    shutil.rmtree(run, ignore_errors=True)


async def _acquire(descriptor: int, folder: Path) -> None:
    deadline = time.monotonic() + _WAIT_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise Retry(f"another delivery of this task is still at work in {folder.name}") from None
            await asyncio.sleep(0.2)
        else:
            return
