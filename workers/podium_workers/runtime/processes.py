"""Processes for functions that need a processor of their own: started when needed, one task each at a time.

Not concurrent.futures or loky: where one process is killed, they fail the tasks of all. Not pebble: its
processes share a pipe and a lock, all start with the first task, and log lines and records would need a
second channel beside it. Here each process has a socket, and its end is the end of one attempt only.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import itertools
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import Mapping
from typing import Any

from podium_workers.runtime.child import HEADER, TOLD_FIELDS, encode
from podium_workers.runtime.context import TaskContext
from podium_workers.runtime.settings import Setup
from podium_workers.runtime.task import Outcome

START_SECONDS = 120.0
IDLE_SECONDS = 300.0
LAST_WORDS_SECONDS = 0.2
CLOSED_SECONDS = 5.0
_CHILD = "podium_workers.runtime.child"


class _NotStartedError(Exception):
    """The process ended before it was ready. The message is its traceback."""


class _Child:
    """One process, and the worker's end of the socket."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self.process = process
        self._reader = reader
        self._writer = writer
        self._watch = asyncio.create_task(self._until_gone())
        self.begun = 0
        """The last order that it has begun."""

    async def send(self, message: Mapping[str, Any]) -> None:
        """A process that is gone is noticed when its answer is waited for."""
        with contextlib.suppress(ConnectionError):
            self._writer.write(encode(message))
            await self._writer.drain()

    async def receive(self) -> dict[str, Any] | None:
        """The next message; None if there will be none."""
        try:
            (size,) = HEADER.unpack(await self._reader.readexactly(HEADER.size))
            return dict(json.loads(await self._reader.readexactly(size)))
        except (asyncio.IncompleteReadError, ConnectionError):
            return None

    async def last_words(self) -> Outcome:
        """What its end says of the attempt."""
        try:
            async with asyncio.timeout(CLOSED_SECONDS):
                code = await self.process.wait()
        except TimeoutError:
            return Outcome("FAILED", reason="the function closed its process's connection", kind="exit")
        if code >= 0:
            return Outcome("FAILED", reason=f"the function's process exited with code {code}", kind="exit")
        name = ""
        with contextlib.suppress(ValueError):
            name = f" ({signal.Signals(-code).name})"
        reason = f"the function's process was killed by signal {-code}{name}"
        if -code == signal.SIGKILL:
            reason += ": out of memory?"
        return Outcome("FAILED", reason=reason, kind="killed")

    def kill(self) -> None:
        """Ends it at once, with the programs that its function has started."""
        self._writer.transport.abort()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)

    async def _until_gone(self) -> None:
        await self.process.wait()
        # A program that the function has started may hold the other end open: it is not waited for.
        await asyncio.sleep(LAST_WORDS_SECONDS)
        self.kill()


class Processes:
    """At most `size` processes at once. For the event loop's thread."""

    def __init__(self, size: int, setup: Setup) -> None:
        self.size = size
        self._setup = setup
        self._turns = asyncio.Semaphore(size)
        self._idle: list[tuple[float, _Child]] = []
        self._children: set[_Child] = set()
        self._orders = itertools.count(1)

    @property
    def pids(self) -> list[int]:
        """Those that run now, busy or not."""
        return [child.process.pid for child in self._children]

    async def run(self, name: str, data: Mapping[str, Any], context: TaskContext) -> Outcome:
        """Runs one task. The process's own end is a failure that says how; if cancelled, it is killed."""
        async with self._turns:
            while True:
                rested = self._rested()
                try:
                    child = rested or await self._start()
                except (_NotStartedError, OSError) as error:
                    last = str(error).strip().splitlines()[-1:] or ["no reason given"]
                    reason = f"a process for {name} could not be started: {last[0]}"
                    return Outcome("FAILED", reason=reason, kind="exception", trace=str(error))
                order = next(self._orders)
                try:
                    outcome = await _served(child, order, name, data, context)
                except BaseException:
                    self._drop(child)
                    raise
                if outcome is not None:
                    self._rest(child)
                    return outcome
                self._drop(child)
                if rested is None or child.begun == order:
                    return await child.last_words()
                # It died at rest, which nobody knew yet: the task was not begun.

    def kill(self) -> None:
        """Ends all at once, busy or not."""
        for child in list(self._children):
            self._drop(child)

    async def close(self) -> None:
        """Ends all, and waits until they are gone."""
        children = list(self._children)
        self.kill()
        await asyncio.gather(*(child.process.wait() for child in children))

    async def _start(self) -> _Child:
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                process = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-m", _CHILD, str(theirs.fileno()), str(os.getpid())),
                    pass_fds=(theirs.fileno(),),
                    stdin=asyncio.subprocess.DEVNULL,
                    # Apart from the terminal, whose Ctrl-C is for the worker; and a group that can be killed.
                    start_new_session=True,
                )
            except BaseException:
                ours.close()
                raise
        child = _Child(process, *await asyncio.open_connection(sock=ours))
        self._children.add(child)
        try:
            broken = await self._prepare(child)
        except BaseException:
            self._drop(child)
            raise
        if broken:
            self._drop(child)
            raise _NotStartedError(broken)
        return child

    async def _prepare(self, child: _Child) -> str:
        """Has it import what it needs; why it cannot, or nothing."""
        setup = {"path": sys.path, "level": logging.getLogger().level, **dataclasses.asdict(self._setup)}
        try:
            async with asyncio.timeout(START_SECONDS):
                await child.send(setup)
                while (answer := await child.receive()) is not None:
                    match answer:
                        case {"ready": _}:
                            return ""
                        case {"broken": trace}:
                            return str(trace)
                        case {"record": record}:
                            _log(record)
                        case _:
                            pass
        except TimeoutError:
            return f"its modules were not imported within {START_SECONDS:.0f} s"
        return (await child.last_words()).reason

    def _rested(self) -> _Child | None:
        while self._idle:
            _, child = self._idle.pop()
            if child.process.returncode is None:
                return child
            self._drop(child)
        return None

    def _rest(self, child: _Child) -> None:
        loop = asyncio.get_running_loop()
        self._idle.append((loop.time(), child))
        loop.call_later(IDLE_SECONDS + 1, self._retire)

    def _retire(self) -> None:
        now = asyncio.get_running_loop().time()
        for since, child in list(self._idle):
            if now - since >= IDLE_SECONDS:
                self._drop(child)

    def _drop(self, child: _Child) -> None:
        self._children.discard(child)
        self._idle = [(since, idle) for since, idle in self._idle if idle is not child]
        child.kill()


async def _served(
    child: _Child, number: int, name: str, data: Mapping[str, Any], context: TaskContext
) -> Outcome | None:
    """None: the process went without an answer."""
    told = {field: getattr(context, field) for field in TOLD_FIELDS}
    told |= {"data_dir": str(context.data_dir), "output": dict(context.output)}
    await child.send({"order": number, "name": name, "input": data, "context": told})
    while (message := await child.receive()) is not None:
        if message.get("order") != number:
            continue  # of a thread that an earlier function has left behind
        match message:
            case {"begun": _}:
                child.begun = number
            case {"line": line}:
                context.log(line)
            case {"extend": _}:
                context.extend()
            case {"record": record}:
                _log(record)
            case {"outcome": outcome}:
                return Outcome(**outcome)
            case _:
                pass
    return None


def _log(record: Mapping[str, Any]) -> None:
    logging.getLogger(record["name"]).handle(logging.makeLogRecord(dict(record)))
