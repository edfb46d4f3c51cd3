"""How a worker is set up."""

from __future__ import annotations

import math
import os
import re
import socket
from dataclasses import dataclass
from pathlib import Path

_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
RESULT_SECONDS = 600.0
MOST_AT_ONCE = 1000  # what a WorkerPool may say; test_contract.py holds both sides to it


@dataclass(frozen=True)
class Setup:
    """What a process for cpu_bound functions imports before it can run them."""

    modules: tuple[str, ...] = ()
    builtin: bool = False
    main: str | None = None
    """The file of the program that called `podium_workers.run()`, if there are functions in it."""


@dataclass(frozen=True)
class Settings:
    """Times are in seconds. A domain of None means polling without one."""

    worker_id: str
    concurrency: int = 5
    domains: tuple[str | None, ...] = (None,)
    poll_interval: float = 1.0
    drain_timeout: float = 600.0
    data_dir: Path = Path("podium-data")
    listen: tuple[str, int] | None = None
    headers_dir: Path | None = None
    processes: int = 1
    """How many cpu_bound functions run at once, at most."""
    setup: Setup = Setup()
    """What their processes import."""
    result_seconds: float = RESULT_SECONDS
    """How long a result is offered to a Conductor that does not take it."""


def parse_duration(text: str) -> float:
    """Seconds of `90s`, `1m30s`, `500ms`. Raises ValueError."""
    if not text or _DURATION.sub("", text):
        raise ValueError(f"{text!r} is not a duration like 1s, 500ms or 10m")
    return sum(float(number) * _SECONDS[unit] for number, unit in _DURATION.findall(text))


def parse_address(text: str) -> tuple[str, int]:
    """(host, port) of `host:port`; `:port` means every interface. Raises ValueError."""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdigit() or int(port) > 65535:
        raise ValueError(f"{text!r} is not an address like 127.0.0.1:9464 or :9464")
    return host.strip("[]") or "0.0.0.0", int(port)


def parse_domains(text: str, shared: bool) -> tuple[str | None, ...]:
    """`a,b` → two domains; `-`, nothing at all or `shared` → also without one."""
    names = list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    domains: list[str | None] = [None if name == "-" else name for name in names]
    if (shared or not domains) and None not in domains:
        domains.append(None)
    return tuple(domains)


def count_processors(root: Path = Path("/sys/fs/cgroup")) -> int:
    """The processors that this process may use: the container's limit where it has one, rounded up."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = (root / "cpu.max").read_text().split()  # cgroup v2
    except (OSError, ValueError):
        try:
            quota = (root / "cpu" / "cpu.cfs_quota_us").read_text().strip()  # v1
            period = (root / "cpu" / "cpu.cfs_period_us").read_text().strip()
        except OSError:
            return allowed
    if not quota.isdigit() or not period.isdigit():  # `max` or -1: no limit
        return allowed
    return max(1, min(allowed, math.ceil(int(quota) / int(period))))


def default_worker_id() -> str:
    """The host's name (in a cluster the pod's), with the process id where there may be several."""
    host, pid = socket.gethostname() or "worker", os.getpid()
    return host if pid == 1 else f"{host}-{pid}"
