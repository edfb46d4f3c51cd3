"""Keeps a program and everything it starts within its limits, and ends all of it when it has to end.

Run as a script, by path, with nothing but the standard library:

    python -I -S confinement.py REPORT_FD LIMITS_JSON PROGRAM [ARGUMENT …]

The standard input is a leash: when it ends (whoever asked for the program is gone, even by `kill -9`), the
program ends with all its descendants, also those that went into a session of their own: this process adopts
them (Linux' "child subreaper"). Should the program kill this process, whoever asked for it adopts them
(`adopt_left_behind`, `end_left_behind`). What became of it is written to REPORT_FD as one JSON object:
`{"code", "stopped", "peakMemory", "disk"}`; `stopped` is one of memory, disk, room, processes, leash, or
null.

A process of its own, because limits have to be set between fork and exec, which is not safe in a process with
threads, and because it watches while its parent is busy. Where there is no /proc (macOS) memory and the
number
of processes are not watched.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import math
import os
import resource
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

LOOK_EVERY = 0.5
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_PAGE = os.sysconf("SC_PAGE_SIZE")
_PROC = Path("/proc")
_MARK = "Max msgqueue size"


def main() -> int:
    report, limits, argv = int(sys.argv[1]), json.loads(sys.argv[2]), sys.argv[3:]
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    signal.set_wakeup_fd(wake_write)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    try:
        child = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=lambda: _restrict(limits),  # noqa: PLW1509 - there is one thread in this process
        )
    except OSError as error:
        _say(report, {"code": 127, "error": f"cannot start {argv[0]}: {error.strerror}"})
        return 127
    watch = Watch(limits)
    stopped = None
    while stopped is None and child.poll() is None:
        readable, _, _ = select.select([0, wake_read], [], [], watch.pause)
        if wake_read in readable:
            os.read(wake_read, 512)
            _reap(child)
        stopped = "leash" if 0 in readable and not os.read(0, 64) else watch.look()
    if child.poll() is not None:
        watch.look()
    end_descendants(child)
    code = child.wait()
    _say(
        report,
        {
            "code": code if code >= 0 else 128 - code,
            "stopped": stopped,
            "peakMemory": watch.peak_memory,
            "disk": watch.disk,
        },
    )
    return 0


class Watch:
    """What the program and its descendants take. Looks less often where looking itself takes long."""

    def __init__(self, limits: dict[str, Any]) -> None:
        self._limits = limits
        self._folder = limits.get("folder")
        self.pause = LOOK_EVERY
        self.peak_memory = 0
        self.disk = 0

    def look(self) -> str | None:
        """Which limit is passed, if one is."""
        began = time.monotonic()
        family = find_descendants()
        memory = sum(map(_resident, family))
        self.peak_memory = max(self.peak_memory, memory)
        stopped = self._verdict(memory, len(family))
        self.pause = max(LOOK_EVERY, 20 * (time.monotonic() - began))
        return stopped

    def _verdict(self, memory: int, processes: int) -> str | None:
        limits = self._limits
        if memory > (limits.get("memory") or memory):
            return "memory"
        if processes > (limits.get("processes") or processes):
            return "processes"
        if not self._folder:
            return None
        self.disk = _taken(self._folder)
        if self.disk > (limits.get("disk") or self.disk):
            return "disk"
        with contextlib.suppress(OSError):
            if shutil.disk_usage(self._folder).free < (limits.get("room") or 0):
                return "room"
        return None


def find_descendants() -> list[int]:
    """All processes below this one; empty where there is no /proc."""
    return _below([os.getpid()], _find_parents())


def adopt_left_behind() -> None:
    """Makes this process the next one to adopt what the programs below it leave."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def end_left_behind() -> bool:
    """Kills programs that this process has adopted, with all below them; False if there was none.

    A program is adopted when its watcher was killed, by itself perhaps. It is known by its mark; what this
    process has started of its own has none, and programs whose watchers live are not its children.
    """
    own = _mark(os.getpid())
    parents = _find_parents()
    adopted = [pid for pid, above in parents.items() if above == os.getpid() and _mark(pid) < own]
    for pid in [*adopted, *_below(adopted, parents)]:
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)
    for pid in adopted:
        with contextlib.suppress(OSError):
            os.waitpid(pid, os.WNOHANG)
    return bool(adopted)


def _find_parents() -> dict[int, int]:
    parents: dict[int, int] = {}
    with contextlib.suppress(OSError):
        for entry in _PROC.iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError, ValueError, IndexError):
                    # The name may hold anything, brackets, spaces and half a letter too: what follows its
                    # last bracket counts.
                    stat = (entry / "stat").read_bytes()
                    parents[int(entry.name)] = int(stat.rpartition(b")")[2].split()[1])
    return parents


def _below(roots: list[int], parents: dict[int, int]) -> list[int]:
    found, rest = [], [*roots]
    while rest:
        parent = rest.pop()
        below = [pid for pid, above in parents.items() if above == parent]
        found += below
        rest += below
    return found


def end_descendants(child: subprocess.Popen[bytes]) -> None:
    """Kills them until none is left: one may start another while it is being killed."""
    for _ in range(50):
        with contextlib.suppress(OSError):
            os.killpg(child.pid, signal.SIGKILL)
        family = find_descendants()
        for pid in family:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        _reap(child)
        if not family:
            return
        time.sleep(0.02)


def _reap(child: subprocess.Popen[bytes]) -> None:
    """Buries whoever is dead, the adopted too; the child's end is Popen's to know."""
    with contextlib.suppress(OSError):
        while (found := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) is not None:
            if found.si_pid == child.pid:
                child.poll()
            else:
                os.waitpid(found.si_pid, 0)


def _restrict(limits: dict[str, Any]) -> None:
    """In the child, before it becomes the program."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _put_mark()
    if limits.get("disk"):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limits["disk"], limits["disk"]))


def _put_mark() -> None:
    """By which a program, and whatever it starts, is known as one: a limit that nobody needs, a little lower.

    All inherit it, and without root none can raise it again, while a name, an environment or a session can be
    changed.
    """
    if sys.platform == "linux":
        _, hard = resource.getrlimit(resource.RLIMIT_MSGQUEUE)
        lower = (2**30 if hard == resource.RLIM_INFINITY else max(0, hard - 1),) * 2
        resource.setrlimit(resource.RLIMIT_MSGQUEUE, lower)


def _mark(pid: int) -> float:
    """Its limit; infinity too where there is none."""
    with contextlib.suppress(OSError, ValueError, StopIteration):
        lines = (_PROC / str(pid) / "limits").read_text().splitlines()
        return float(next(line for line in lines if line.startswith(_MARK)).split()[-2])
    return math.inf


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def _resident(pid: int) -> int:
    try:
        return int((_PROC / str(pid) / "statm").read_text().split()[1]) * _PAGE
    except (OSError, ValueError, IndexError):
        return 0


def _taken(folder: str) -> int:
    total, rest = 0, [folder]
    while rest:
        with contextlib.suppress(OSError), os.scandir(rest.pop()) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):
                    if entry.is_dir(follow_symlinks=False):
                        rest.append(entry.path)
                    else:
                        total += entry.stat(follow_symlinks=False).st_blocks * 512
    return total


def _say(report: int, what: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):
        os.write(report, json.dumps(what).encode() + b"\n")


if __name__ == "__main__":
    sys.exit(main())
