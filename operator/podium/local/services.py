"""Servers on this machine: a program, its address, and how to ask it whether it is ready."""

from __future__ import annotations

import contextlib
import http.client
import random
import socket
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from podium.local.errors import LocalError
from podium.local.processes import Process, Program, wait_until

# Below the range from which systems take ports for outgoing connections (32768– on Linux, 49152– on macOS)
# and below Kubernetes' node ports, so that a server that is down for a moment finds its port free again.
_PORTS = range(20_000, 30_000)


@dataclass(frozen=True)
class Probe:
    """A URL that answers 200 when the server is ready; `ca` is what its certificate is checked against.

    Of `tcp://host:port`, that a connection can be made is enough.
    """

    url: str
    ca: Path | None = None

    def answers(self, timeout: float = 2.0) -> bool:
        """Asks once; any failure within `timeout` seconds is a no."""
        parts = urlsplit(self.url)
        if parts.scheme == "tcp":
            try:
                socket.create_connection((parts.hostname or "", parts.port or 0), timeout).close()
            except OSError:
                return False
            return True
        context = ssl.create_default_context(cafile=str(self.ca)) if self.ca else None
        # Loopback never goes through a proxy that the environment may name.
        handlers: list[urllib.request.BaseHandler] = [urllib.request.ProxyHandler({})]
        if context:
            handlers.append(urllib.request.HTTPSHandler(context=context))
        try:
            with urllib.request.build_opener(*handlers).open(self.url, timeout=timeout) as answer:
                return bool(answer.status == 200)
        except (OSError, http.client.HTTPException):
            return False


@dataclass(frozen=True)
class Service:
    """A program that serves `address` and is ready when `probe` says so."""

    program: Program
    address: str
    probe: Probe

    @property
    def name(self) -> str:
        return self.program.name


def build_server(
    folder: Path,
    name: str,
    command: Path | tuple[str, ...],
    flags: Mapping[str, object],
    probe: Probe,
    address: str,
) -> Service:
    """A server whose flags are written `--flag=value`; it works in `folder` and logs to `folder`/logs."""
    argv = (str(command),) if isinstance(command, Path) else command
    argv += tuple(f"--{flag}={value}" for flag, value in flags.items())
    return Service(Program(name, argv, folder, folder / "logs" / f"{name}.log"), address, probe)


def await_ready(service: Service, process: Process, timeout: float) -> None:
    """Waits until the server answers, at most `timeout` seconds.

    Raises LocalError with the end of its log if it ends first or does not answer in time.
    """

    def settled() -> bool:
        return not process.alive or service.probe.answers()

    in_time = wait_until(settled, timeout)
    if not process.alive:
        code = process.exit_code
        raise LocalError(
            f"{service.name} ended{'' if code is None else f' with exit code {code}'} before it was ready; "
            f"the end of {service.program.log}:\n{tail(service.program.log)}"
        )
    if not in_time:
        raise LocalError(
            f"{service.name} was not ready after {timeout:.0f} s; the end of {service.program.log}:\n"
            f"{tail(service.program.log)}"
        )


def tail(log: Path, lines: int = 12) -> str:
    """The last lines of a log, indented; from at most its last 16 KiB."""
    try:
        with log.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - 16_384))
            text = file.read().decode(errors="replace")
    except FileNotFoundError:
        text = ""
    return "\n".join(f"    {line[:400]}" for line in text.splitlines()[-lines:]) or "    (empty)"


def free_port(seed: float | None = None) -> int:
    """A loopback TCP port that nobody listens on. Raises LocalError if there is none left."""
    for port in random.Random(seed if seed is not None else time.time_ns()).sample(_PORTS, len(_PORTS)):
        with contextlib.closing(socket.socket()) as candidate, contextlib.suppress(OSError):
            candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            candidate.bind(("127.0.0.1", port))
            return port
    raise LocalError(f"no TCP port from {_PORTS.start} to {_PORTS.stop - 1} is free on 127.0.0.1.")
