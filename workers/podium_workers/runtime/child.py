"""A process that runs functions for a worker, one task at a time. `processes.py` starts it.

Both sides speak over one socket: four bytes of length, then JSON. The process ends with its worker.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import importlib
import importlib.util
import json
import logging
import os
import select
import signal
import socket
import struct
import sys
import threading
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from podium_workers.runtime.attempt import attempt
from podium_workers.runtime.context import TaskContext
from podium_workers.runtime.registry import Function, registry
from podium_workers.runtime.task import Outcome

HEADER = struct.Struct("!I")
TOLD_FIELDS = tuple(
    field.name
    for field in dataclasses.fields(TaskContext)
    if not field.name.startswith("_") and field.name not in {"wake", "clean"}
)
"""What a context consists of on the way here."""
_PR_SET_PDEATHSIG = 1


def encode(message: Mapping[str, Any]) -> bytes:
    """A message as it goes over the socket."""
    body = json.dumps(message).encode()
    return HEADER.pack(len(body)) + body


class Channel:
    """The process's end of the socket. Any thread may send; one receives."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._file = end.makefile("rb")
        self._lock = threading.Lock()

    def send(self, **message: Any) -> None:
        with self._lock:
            self._end.sendall(encode(message))

    def receive(self) -> dict[str, Any] | None:
        """The next message; None when the worker is gone, or wants no more."""
        header = self._file.read(HEADER.size)
        if len(header) < HEADER.size:
            return None
        (size,) = HEADER.unpack(header)
        return dict(json.loads(self._file.read(size)))


class _Context(TaskContext):
    """Passes on what a function says of its task."""

    channel: Channel
    order: int

    def log(self, message: str) -> None:
        self.channel.send(order=self.order, line=str(message))

    def extend(self) -> None:
        self.channel.send(order=self.order, extend=True)


class _Forward(logging.Handler):
    """The worker writes the records: it knows the layout, the task's ids, and what must not be seen."""

    def __init__(self, channel: Channel) -> None:
        super().__init__()
        self._channel = channel
        self._layout = logging.Formatter()
        self.order = 0

    def emit(self, record: logging.LogRecord) -> None:
        trace = self._layout.formatException(record.exc_info) if record.exc_info else None
        with contextlib.suppress(Exception):
            said = {"name": record.name, "levelno": record.levelno, "levelname": record.levelname}
            said |= {"msg": record.getMessage(), "created": record.created, "exc_text": trace}
            self._channel.send(order=self.order, record=said)


def main() -> None:
    """Serves orders on the socket whose number is the argument, until it is closed."""
    end = socket.socket(fileno=int(sys.argv[1]))
    end.set_inheritable(False)
    _end_with_worker(end, parent=int(sys.argv[2]))
    channel = Channel(end)
    setup = channel.receive()
    if setup is None:
        return
    forward = _Forward(channel)
    logging.basicConfig(level=setup["level"], handlers=[forward])
    logging.raiseExceptions = False
    try:
        functions = _load(setup)
    except BaseException:  # noqa: BLE001 — whatever a module does on import, the worker must learn of it
        channel.send(broken=traceback.format_exc())
        return
    channel.send(ready=True)
    while (order := channel.receive()) is not None:
        forward.order = order["order"]
        channel.send(order=order["order"], begun=True)
        channel.send(order=order["order"], outcome=dataclasses.asdict(_run(functions, order, channel)))


def _run(functions: Mapping[str, Function], order: Mapping[str, Any], channel: Channel) -> Outcome:
    name = order["name"]
    if name not in functions:
        return Outcome(
            "FAILED_WITH_TERMINAL_ERROR",
            reason=f"{name} is not there when its module is imported in another process: a cpu_bound "
            "function must be registered at the top of a module, not under `if __name__` or in a function",
            kind="exception",
        )
    told = order["context"]
    context = _Context(**{**told, "data_dir": Path(told["data_dir"])})
    context.channel, context.order = channel, order["order"]
    return attempt(functions[name], order["input"], context)


def _load(setup: Mapping[str, Any]) -> dict[str, Function]:
    sys.path[:] = setup["path"]
    found: dict[str, Function] = {}
    if setup["builtin"]:
        found.update(
            (function.name, function)
            for function in importlib.import_module("podium_workers.functions").builtin
        )
    for module in setup["modules"]:
        importlib.import_module(module)
    if setup["main"]:
        # The program that called `podium_workers.run()`; its `if __name__ == "__main__"` stays untouched.
        # The name is the one that multiprocessing uses for this.
        spec = importlib.util.spec_from_file_location("__mp_main__", setup["main"])
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules["__mp_main__"] = module
        spec.loader.exec_module(module)
    found.update((function.name, function) for function in registry)
    return found


def _end_with_worker(end: socket.socket, parent: int) -> None:
    """However the worker ends, this process does too, busy or not."""
    if sys.platform == "linux":
        # The kernel sees to it even where a function never lets Python's threads run.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        # If memory runs out, this process is to be taken, and not the worker with its other tasks.
        with contextlib.suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text("900")
    if os.getppid() != parent:
        os._exit(1)  # it ended before the kernel was told

    def watch() -> None:
        poll = select.poll()
        poll.register(end, 0)  # hang-up only
        poll.poll()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    main()
