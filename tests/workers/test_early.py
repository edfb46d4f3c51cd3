"""A worker that is the first process of a container can be stopped while it still imports."""

import os
import shutil
import signal
import subprocess
import sys

import pytest

from support.pids import children_of

# What a user's module does before it is done with its own imports.
IMPORTING = "import podium_workers, time; print('importing', flush=True); time.sleep(30)"


@pytest.mark.skipif(os.geteuid() != 0, reason="a namespace for process ids needs root")
@pytest.mark.skipif(not shutil.which("unshare"), reason="needs util-linux's unshare")
def test_the_first_process_of_a_container_ends_at_sigterm_while_it_imports() -> None:
    """The kernel drops a signal for which such a process has no handler."""
    command = ["unshare", "--pid", "--fork", "--kill-child", sys.executable, "-c", IMPORTING]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as unshare:
        try:
            assert unshare.stdout is not None
            assert unshare.stdout.readline() == "importing\n"
            (first,) = children_of(unshare.pid)
            os.kill(first, signal.SIGTERM)
            assert unshare.wait(10) == 0
        finally:
            unshare.kill()


def test_the_signals_of_other_processes_are_left_alone() -> None:
    program = "import signal, podium_workers; print(signal.getsignal(signal.SIGTERM) is signal.SIG_DFL)"
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert told.stdout == "True\n"
