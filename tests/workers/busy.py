"""cpu_bound functions for the tests of processes. Each process imports this module anew."""

import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from podium_workers import Reject, TaskContext, task

log = logging.getLogger("busy")


@task("busy_count", cpu_bound=True)
def count(context: TaskContext, to: int = 1000, seconds: float = 0.0) -> dict[str, Any]:
    """Counts, and says who did."""
    context.log(f"counting to {to}")
    log.info("counting to %d", to)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass
    return {"sum": sum(range(to)), "pid": os.getpid(), "attempt": context.attempt, "group": os.getpgid(0)}


@task("busy_end", cpu_bound=True)
def end(how: str, seconds: float = 0.0) -> object:
    """Ends as it is told to."""
    time.sleep(seconds)
    match how:
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "fault":
            os.kill(os.getpid(), signal.SIGSEGV)
        case "_exit":
            os._exit(3)
        case "exit":
            sys.exit("enough")
        case "raise":
            raise ConnectionError("cannot log in")
        case "reject":
            raise Reject("no such colour", output={"colours": ["red"]})
        case "set":
            return {"a": {1}}
        case "large":
            return "x" * 11_000_000
    return None


@task("busy_hang", cpu_bound=True)
def hang(context: TaskContext) -> None:
    """Starts a program, leaves the ids of both, and hangs."""
    program = subprocess.Popen(["sleep", "600"])
    (context.data_dir / "pids.new").write_text(f"{os.getpid()} {program.pid}")
    Path(context.data_dir / "pids.new").rename(context.data_dir / "pids")
    while True:
        pass


@task("busy_leak", cpu_bound=True)
def leak(context: TaskContext, token: str) -> dict[str, Any]:
    """Repeats its token wherever it can."""
    context.log(f"the token is {token}")
    log.warning("calling with %s", token)
    try:
        int(token)
    except ValueError:
        log.exception("as expected")
    return {"echo": token}
