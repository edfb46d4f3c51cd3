"""Processes that are started here, known by id and start time, and ended without a trace.

A process id alone says little: it may belong to somebody else by the time one looks again. So a process is
known by its id together with the moment it started, and nothing is ever signalled by name.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from podium.local.errors import Interrupted, LocalError

_POLL_SECONDS = 0.05


@dataclass(frozen=True)
class Identity:
    """One process, for all time: `started` is opaque and differs when the id has been given away again."""

    pid: int
    started: str


@dataclass(frozen=True)
class Program:
    """What to run. `env` is added to this process's own environment; output is appended to `log`."""

    name: str
    argv: tuple[str, ...]
    folder: Path
    log: Path
    env: Mapping[str, str] = field(default_factory=dict)
    without_env: tuple[str, ...] = ()


class Process:
    """A started program: on a leash (see leash.py) unless it was adopted or released."""

    def __init__(self, name: str, identity: Identity, leash: subprocess.Popen[bytes] | None = None) -> None:
        self.name = name
        self.identity = identity
        self._leash = leash

    @classmethod
    def start(cls, program: Program) -> Process:
        """Starts `program`. Raises LocalError if the operating system refuses."""
        environment = {k: v for k, v in os.environ.items() if k not in program.without_env}
        report_read, report_write = os.pipe()
        leash_script = str(Path(__file__).with_name("leash.py"))
        try:
            with program.log.open("ab") as log:
                leash = subprocess.Popen(
                    [sys.executable, "-I", "-S", leash_script, str(report_write), *program.argv],
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    cwd=program.folder,
                    env=environment | dict(program.env),
                    pass_fds=(report_write,),
                    start_new_session=True,
                )
        finally:
            os.close(report_write)
        with os.fdopen(report_read) as report:
            answer = report.readline().strip()
        if not answer.isdigit():
            leash.wait()
            _close(leash)
            raise LocalError(f"{program.name}: {answer or 'could not be started'}")
        # A program that has ended already has no start time any more; its id then matches nothing.
        identity = identify(int(answer)) or Identity(int(answer), "ended")
        return cls(program.name, identity, leash)

    @property
    def alive(self) -> bool:
        if self._leash is not None and self._leash.poll() is not None:
            return False
        return is_alive(self.identity)

    @property
    def exit_code(self) -> int | None:
        """None while it runs, or if it is not ours to know; 128 + n if signal n ended it."""
        return None if self._leash is None else self._leash.poll()

    def wait(self, timeout: float | None = None) -> int:
        """Waits for its end, in seconds at most `timeout`. Raises subprocess.TimeoutExpired."""
        if self._leash is None:
            raise LocalError(f"{self.name} is not a child of this process")
        code = self._leash.wait(timeout)
        _close(self._leash)
        return code

    def signal(self, number: int) -> None:
        """Sends a signal to the program itself, if it still is the one that was started."""
        _send(self.identity, number)

    def stop(self, grace: float = 10.0) -> None:
        """SIGTERM, `grace` seconds, then SIGKILL for it and what it has started. Does nothing twice."""
        stop([self.identity], grace)
        if self._leash is not None:
            self._leash.wait()
            _close(self._leash)

    def kill(self) -> None:
        """What a crash looks like: SIGKILL, at once."""
        self.stop(grace=0.0)

    def release(self) -> None:
        """Lets it outlive this process."""
        if self._leash is None:
            return
        with contextlib.suppress(BrokenPipeError, ValueError):
            if self._leash.stdin is not None:
                self._leash.stdin.write(b"release\n")
                self._leash.stdin.flush()
        self._leash.wait()
        _close(self._leash)
        self._leash = None


class Processes:
    """Everything that was started through it ends with it, unless released. Safe to use from threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._all: list[Process] = []
        self._closed = False

    def start(self, program: Program) -> Process:
        """Raises Interrupted when this collection is being stopped."""
        with self._lock:
            if self._closed:
                raise Interrupted(f"{program.name} was not started: everything is being stopped.")
            process = Process.start(program)
            self._all.append(process)
            return process

    @property
    def closed(self) -> bool:
        """Whether everything is being stopped: what fails now fails because of that."""
        return self._closed

    def release(self) -> None:
        """Leaves them running; this collection is then empty."""
        with self._lock:
            for process in self._all:
                process.release()
            self._all.clear()

    def stop(self, grace: float = 10.0) -> None:
        """Ends all of them together, the youngest asked first, and refuses new ones."""
        with self._lock:
            self._closed = True
            ending, self._all = self._all, []
        stop([process.identity for process in reversed(ending)], grace)
        for process in ending:
            process.stop(0.0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def at_once(processes: Processes, *works: Callable[[], object]) -> None:
    """Does these at once; when one fails, or we are interrupted, the others are made to fail soon."""
    with ThreadPoolExecutor(len(works)) as pool:
        futures = [pool.submit(work) for work in works]
        try:
            # The first failure is the cause; those that follow from the stop are not worth telling.
            for future in wait(futures, return_when=FIRST_EXCEPTION).done:
                future.result()
        except BaseException:
            processes.stop(grace=0.0)
            raise


def identify(pid: int) -> Identity | None:
    """The process that has this id now; None if there is none, or only what is left of a dead one."""
    if sys.platform == "linux":
        stat = _read_stat(pid)
        if stat is None or stat[0] in "ZXx":
            return None
        return Identity(pid, f"{_boot_id()}.{stat[19]}")
    answer = subprocess.run(
        ["ps", "-o", "stat=,lstart=", "-p", str(pid)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "LC_ALL": "C"},
    ).stdout.split(maxsplit=1)
    return None if len(answer) < 2 or answer[0].startswith("Z") else Identity(pid, answer[1].strip())


def is_alive(identity: Identity) -> bool:
    return identify(identity.pid) == identity


def stop(identities: Iterable[Identity], grace: float = 10.0) -> None:
    """Ends processes, and what they started in their own process groups; those that are gone are left alone.

    SIGTERM goes to each process itself, so that it can end its children in its own way; whatever is left
    after `grace` seconds gets SIGKILL.
    """
    alive = [identity for identity in identities if is_alive(identity)]
    members = {member for identity in alive for member in _group(identity)}
    if grace > 0:
        for identity in alive:
            _send(identity, signal.SIGTERM)
        _gone(members, grace)
    members |= {member for identity in alive if is_alive(identity) for member in _group(identity)}
    for member in members:
        _send(member, signal.SIGKILL)
    if not _gone(members, 10.0):
        left = ", ".join(str(member.pid) for member in members if is_alive(member))
        raise LocalError(f"these processes do not end, not even by SIGKILL: {left}.")


def wait_until(
    condition: Callable[[], bool],
    timeout: float,
    every: float = _POLL_SECONDS,
    clock: Callable[[], float] = time.monotonic,
) -> bool:
    """Asks `condition` until it holds or `timeout` seconds are over; says whether it held."""
    deadline = clock() + timeout
    while not condition():
        if clock() >= deadline:
            return False
        time.sleep(every)
    return True


def _gone(identities: Iterable[Identity], timeout: float) -> bool:
    waiting = list(identities)

    def all_gone() -> bool:
        waiting[:] = [identity for identity in waiting if is_alive(identity)]
        return not waiting

    return wait_until(all_gone, timeout, every=0.02)


def _send(identity: Identity, number: int) -> None:
    if is_alive(identity):
        with contextlib.suppress(ProcessLookupError):
            os.kill(identity.pid, number)


def _group(leader: Identity) -> set[Identity]:
    """The processes of the group that `leader` heads, itself included."""
    pids = (pid for pid, group in _groups() if group == leader.pid)
    members = {identity for pid in pids if (identity := identify(pid)) is not None}
    return members | {leader} if is_alive(leader) else set()


def _groups() -> Iterator[tuple[int, int]]:
    if sys.platform == "linux":
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and (stat := _read_stat(int(entry.name))) is not None:
                yield int(entry.name), int(stat[2])
        return
    listing = subprocess.run(["ps", "-A", "-o", "pid=,pgid="], capture_output=True, text=True, check=True)
    for line in listing.stdout.splitlines():
        pid, group = line.split()
        yield int(pid), int(group)


def _read_stat(pid: int) -> Sequence[str] | None:
    """Fields 3 and on of /proc/PID/stat (proc(5)): state, parent, group, …; field 22 (start time) is [19]."""
    try:
        # A name is cut at 15 bytes, which may be within a letter.
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name in field 2 may hold blanks and parentheses: the fields go on after the last of these.
    return re.split(r"\s+", text[text.rindex(")") + 1 :].strip())


def _boot_id() -> str:
    """Start times count from the machine's start, so after a restart of the machine they come again."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()[:8]


def _close(leash: subprocess.Popen[bytes]) -> None:
    if leash.stdin is not None:
        with contextlib.suppress(BrokenPipeError):
            leash.stdin.close()
