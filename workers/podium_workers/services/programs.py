"""Runs another program: its lines as they come, within limits, and nothing of it left when it is over."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from podium_workers.services.confinement import adopt_left_behind, end_left_behind

LINE_CHARACTERS = 4000
_SECONDS_TO_END = 10.0
_LOOKS = 250
_LOOK_EVERY = 0.02
_PR_SET_DUMPABLE = 4
_CONFINEMENT = Path(__file__).with_name("confinement.py")

Stop = Literal["time", "memory", "disk", "room", "processes"]
Channel = Literal["out", "err"]
OnLine = Callable[[str, Channel], None]


@dataclass(frozen=True)
class Limits:
    """What a program and all that it starts may take together. None or 0: not limited."""

    seconds: float
    memory_bytes: int | None = None
    """Resident."""
    disk_bytes: int | None = None
    """In `folder`; no single file may be larger either, wherever it is."""
    room_bytes: int = 0
    """What must stay free on the disk of `folder`."""
    processes: int | None = None
    folder: Path | None = None


@dataclass(frozen=True)
class Ended:
    """How it ended. `stopped`: the limit that it passed."""

    code: int
    """Of the shell's kind: 128 + the number of a signal."""
    stopped: Stop | None
    seconds: float
    peak_memory_bytes: int
    disk_bytes: int

    @property
    def ok(self) -> bool:
        return self.code == 0 and self.stopped is None


class CannotStart(Exception):
    """The program is not there, or may not be run. The message says which and why."""


async def run(
    argv: Sequence[str | Path],
    *,
    cwd: Path,
    env: Mapping[str, str],
    limits: Limits,
    on_line: OnLine,
    longest_line: int = LINE_CHARACTERS,
) -> Ended:
    """Runs it to its end; `on_line` gets each line, cut to `longest_line` characters, and where it came from.

    When this is cancelled, or this process dies, the program ends, with all that it started; also when it
    kills its watcher. Raises CannotStart.
    """
    began = time.monotonic()
    adopt_left_behind()
    report_read, report_write = os.pipe()
    starting = asyncio.ensure_future(
        asyncio.create_subprocess_exec(
            sys.executable,
            "-I",
            "-S",
            str(_CONFINEMENT),
            str(report_write),
            _limits_text(limits),
            *map(str, argv),
            cwd=cwd,
            env=dict(env),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            pass_fds=(report_write,),
        )
    )
    try:
        # asyncio waits for ever when it is cancelled between the start of a process and that of its pipes.
        process = await asyncio.shield(starting)
    except asyncio.CancelledError:
        os.close(report_read)
        await asyncio.wait([starting])
        if not starting.exception():
            await _end(starting.result())
        raise
    except OSError as error:
        os.close(report_read)
        raise CannotStart(f"cannot start {argv[0]} in {cwd}: {error.strerror or error}") from None
    finally:
        os.close(report_write)
    stopped: Stop | None = None
    reporting = asyncio.ensure_future(_reported(process, report_read))
    try:
        try:
            async with asyncio.timeout(limits.seconds):
                await _follow(process, on_line, longest_line)
        except TimeoutError:
            stopped = "time"
    finally:
        await _end(process)
        report = await reporting
    if "error" in report:
        raise CannotStart(report["error"])
    return Ended(
        code=int(report.get("code", 137)),
        stopped=stopped or _limit_of(report.get("stopped")),
        seconds=time.monotonic() - began,
        peak_memory_bytes=int(report.get("peakMemory", 0)),
        disk_bytes=int(report.get("disk", 0)),
    )


def shield() -> None:
    """Keeps the memory and the environment of this process from programs of the same user; not from root.

    There are secrets in both: Conductor's key, a repository's password. Linux only, and without core dumps.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


async def _follow(process: asyncio.subprocess.Process, on_line: OnLine, longest: int) -> None:
    assert process.stdout is not None
    assert process.stderr is not None
    await asyncio.gather(
        _read(process.stdout, lambda line: on_line(line, "out"), longest),
        _read(process.stderr, lambda line: on_line(line, "err"), longest),
        process.wait(),
    )


async def _read(stream: asyncio.StreamReader, on_line: Callable[[str], None], longest: int) -> None:
    rest = b""
    while data := await stream.read(65536):
        # A bare carriage return is how programs paint progress: each one ends a line.
        *lines, rest = (rest + data).replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        for line in lines:
            on_line(_text(line, longest))
        rest = rest[: 4 * longest]
    if rest:
        on_line(_text(rest, longest))


def _text(line: bytes, longest: int) -> str:
    return line[: 4 * longest].decode("utf-8", "replace")[:longest]


async def _end(process: asyncio.subprocess.Process) -> None:
    """Lets go of the leash; what does not end then, is killed. Done even while this task is cancelled."""
    assert process.stdin is not None
    process.stdin.close()
    if process.returncode is not None:
        return
    ending = asyncio.ensure_future(_drained(process))
    try:
        async with asyncio.timeout(_SECONDS_TO_END):
            await asyncio.shield(ending)
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
    finally:
        ending.cancel()


async def _drained(process: asyncio.subprocess.Process) -> None:
    # Its output is still read, so that it cannot hang in writing while it is told to end.
    async def empty(stream: asyncio.StreamReader | None) -> None:
        while stream is not None and await stream.read(65536):
            pass

    await asyncio.gather(empty(process.stdout), empty(process.stderr), process.wait())


async def _reported(process: asyncio.subprocess.Process, descriptor: int) -> dict[str, str]:
    """The watcher's report. If it was killed, there is none, and what it watched is killed too."""
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(descriptor, ready.set)
    try:
        await ready.wait()
        report = _read_report(descriptor)
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
    for _ in range(0 if report else _LOOKS):
        # Its end of the pipe closes a moment before its children become this process's.
        if not end_left_behind() and process.returncode is not None:
            break
        await asyncio.sleep(_LOOK_EVERY)
    return report


def _read_report(descriptor: int) -> dict[str, str]:
    try:
        found = json.loads(os.read(descriptor, 65536))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _limits_text(limits: Limits) -> str:
    return json.dumps(
        {
            "memory": limits.memory_bytes,
            "disk": limits.disk_bytes,
            "room": limits.room_bytes,
            "processes": limits.processes,
            "folder": str(limits.folder) if limits.folder else None,
        }
    )


def _limit_of(word: str | None) -> Stop | None:
    match word:
        case "memory" | "disk" | "room" | "processes":
            return word
        case _:
            return None
