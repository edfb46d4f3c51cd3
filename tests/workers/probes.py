"""Task functions for the tests of the runtime: `podium-worker --functions probes`."""

import asyncio
import base64
import hashlib
import json
import logging
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

from podium_workers import InProgress, Reject, TaskContext, task


def _trace(context: TaskContext, word: str) -> None:
    """A line in the data folder that survives whatever happens to the process."""
    line = f"{time.monotonic_ns()} {word} {context.task_id}\n"
    handle = os.open(context.data_dir / "trace", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(handle, line.encode())
    finally:
        os.close(handle)


@task("probe_gate", "probe_gate_b", "probe_gate_c")
def gate(context: TaskContext, gate: str | None = None, seconds: float = 0.0) -> dict[str, Any]:
    """Runs until the file `gate` is in the data folder, or for so many seconds."""
    _trace(context, "begin")
    pause = threading.Event()
    if gate is not None:
        while not (context.data_dir / gate).exists():
            pause.wait(0.02)
    pause.wait(seconds)
    _trace(context, "end")
    return {"attempt": context.attempt, "polls": context.poll_count, "domain": context.domain}


@task("probe_chatty")
async def chatty(context: TaskContext, seconds: float) -> dict[str, Any]:
    """Says one thing, and sleeps on."""
    context.log("good night")
    await asyncio.sleep(seconds)
    return {"attempt": context.attempt}


@task("probe_nap")
async def nap(context: TaskContext, seconds: float) -> dict[str, Any]:
    """Sleeps for long at the first attempt only."""
    _trace(context, "begin")
    try:
        await asyncio.sleep(seconds if context.attempt == 1 else 0)
    except asyncio.CancelledError:
        _trace(context, "cancelled")
        raise
    return {"attempt": context.attempt}


@task("probe_naps")
async def naps(context: TaskContext, seconds: list[float]) -> dict[str, Any]:
    """Sleeps at each attempt for as long as it is told."""
    await asyncio.sleep(seconds[context.attempt - 1])
    return {"attempt": context.attempt}


@task("probe_late")
def late(context: TaskContext, gate: str) -> dict[str, Any]:
    """Waits for the file at the first attempt only."""
    if context.attempt == 1:
        _trace(context, "begin")
        while not (context.data_dir / gate).exists():
            threading.Event().wait(0.02)
    return {"attempt": context.attempt}


@task("probe_exit")
def leave(code: str = "enough") -> None:
    """Wants the whole process to end."""
    sys.exit(code)


@task("probe_exit_async")
async def leave_async(code: str = "enough") -> None:
    """The same in the event loop."""
    sys.exit(code)


@task("probe_say")
def say(context: TaskContext, words: str) -> int:
    """Logs through Python's logging, also from a library of its own that knows nothing of tasks."""
    logging.getLogger("some.library").info("said %s", words)
    return len(words)


@task("probe_large")
def large(megabytes: float) -> str:
    """A text of that size."""
    return "x" * int(megabytes * 1_000_000)


@task("probe_add")
async def add(context: TaskContext, a: int, b: int = 10) -> int:
    """Adds, and says so in the task's log."""
    context.log(f'adding "{a}" and {b}: é')
    return a + b


@task("probe_leak")
def leak(password: str) -> None:
    """Fails with its password in the message."""
    raise ConnectionError(f"cannot log in with {password}")


@task("probe_reject")
def reject() -> None:
    """Fails for good, with details."""
    raise Reject("no such colour", output={"colours": ["red"]})


@task("probe_bad_result")
def bad_result() -> dict[str, Any]:
    """Returns what JSON cannot say."""
    return {"files": [{"path": Path("x")}]}


@task("probe_twice")
def twice(context: TaskContext) -> InProgress | dict[str, Any]:
    """Comes back once."""
    if context.poll_count == 1:
        return context.in_progress(after=1, output={"page": 7})
    return {"polls": context.poll_count, "page": context.output.get("page")}


@task("probe_back")
def back(context: TaskContext, until: str) -> InProgress | dict[str, Any]:
    """Comes back once, and then waits for the file."""
    return context.in_progress(after=1) if context.poll_count == 1 else gate(context, until)


@task("probe_secret")
def secret(context: TaskContext, token: str, wait: int = 0) -> InProgress | dict[str, Any]:
    """Uses its token, and repeats it wherever it can."""
    context.log(f"the token is {token}")
    context.log("x" * 3990 + token)
    logging.getLogger("probe").warning("calling with %s", token)
    logging.getLogger("probe").warning("wrongly, with %d", token)
    try:
        int(token)
    except ValueError:
        logging.getLogger("probe").exception("as expected")
    said = {
        "sha256": hashlib.sha256(token.encode()).hexdigest(),
        "echo": token,
        "deep": [{"header": f"Bearer {token}", token: "as a key"}],
        "base64": base64.b64encode(token.encode()).decode(),
        "quoted": quote(token, safe=""),
    }
    if wait and context.poll_count == 1:
        return context.in_progress(after=1, output=said)
    return {**said, "before": dict(context.output)}


@task("probe_given")
def given(**rest: Any) -> dict[str, Any]:
    """What it was given, as JSON in one text: nothing in it looks like anything."""
    return {
        "length": len(json.dumps(rest)),
        "types": {key: type(value).__name__ for key, value in rest.items()},
    }
