"""A process that keeps another one on a leash: it ends when whoever asked for it ends, even by `kill -9`.

Run as a script, by path, with nothing but the standard library:

    python -I -S leash.py FD PROGRAM [ARGUMENT …]

It starts PROGRAM in a session of its own and writes its process id and a newline to file descriptor FD. Its
standard input is the leash: when that ends, PROGRAM and its process group are killed; when a line `release`
comes, PROGRAM is left to itself. When PROGRAM ends first, what is left of its process group is killed (not on
macOS), and its exit code (or 128 + signal) is passed on.

A pipe rather than Linux's "parent death signal" alone: that one is sent when the *thread* that started the
child ends, which would kill servers started from a thread pool; and a pipe works on macOS too.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys


def main() -> int:
    report, argv = int(sys.argv[1]), sys.argv[2:]
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    signal.set_wakeup_fd(wake_write)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    try:
        child = subprocess.Popen(argv, stdin=subprocess.DEVNULL, start_new_session=True, close_fds=True)
    except OSError as error:
        os.write(report, f"cannot start {argv[0]}: {error.strerror}\n".encode())
        return 127
    os.write(report, f"{child.pid}\n".encode())
    os.close(report)
    while not has_ended(child):
        readable, _, _ = select.select([0, wake_read], [], [])
        if wake_read in readable:
            os.read(wake_read, 512)
        if 0 in readable:
            if os.read(0, 64) == b"release\n":
                return 0
            break
    if child.returncode is None:
        # Not reaped yet, so its id cannot have been given to another process, nor to another group.
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
    return child.returncode if child.returncode >= 0 else 128 - child.returncode


def has_ended(child: subprocess.Popen[bytes]) -> bool:
    """Whether it has ended; where the system can tell that without reaping it, it is not reaped."""
    if sys.platform == "darwin":
        return child.poll() is not None
    return os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


if __name__ == "__main__":
    sys.exit(main())
