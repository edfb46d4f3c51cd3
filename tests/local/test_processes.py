"""Processes are known by id and start time, and end with whoever started them."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from podium.local.errors import Interrupted, LocalError
from podium.local.processes import (
    Identity,
    Process,
    Processes,
    Program,
    identify,
    is_alive,
    stop,
    wait_until,
)


def _program(folder: Path, *argv: str) -> Program:
    return Program(argv[0], argv, folder, folder / "log")


def test_a_process_is_started_seen_and_stopped(tmp_path: Path) -> None:
    process = Process.start(_program(tmp_path, "sleep", "600"))
    assert process.alive
    assert process.identity == identify(process.identity.pid)
    process.stop()
    assert not process.alive
    assert process.exit_code == 128 + signal.SIGTERM
    process.stop()


def test_a_recycled_id_is_left_alone(tmp_path: Path) -> None:
    with Processes() as processes:
        process = processes.start(_program(tmp_path, "sleep", "600"))
        somebody_else = Identity(process.identity.pid, "of another time")
        assert not is_alive(somebody_else)
        stop([somebody_else], grace=0)
        Process("mine", somebody_else).kill()
        assert process.alive


def test_a_zombie_is_not_alive() -> None:
    child = subprocess.Popen(["true"])
    try:
        assert wait_until(lambda: identify(child.pid) is None, 10)
        assert child.returncode is None
    finally:
        child.wait()


def test_what_it_has_started_ends_with_it(tmp_path: Path) -> None:
    script = "sleep 600 & echo $! > child; wait"
    process = Process.start(_program(tmp_path, "sh", "-c", script))
    assert wait_until(lambda: (tmp_path / "child").exists() and (tmp_path / "child").read_text() != "", 10)
    child = identify(int((tmp_path / "child").read_text()))
    assert child is not None
    process.stop(grace=5)
    assert not is_alive(child)


@pytest.mark.skipif(
    sys.platform == "darwin", reason="macOS cannot look at a process's end without reaping it"
)
def test_what_it_leaves_behind_at_its_own_end_is_killed(tmp_path: Path) -> None:
    process = Process.start(_program(tmp_path, "sh", "-c", "sleep 600 & echo $! > child; exit 3"))
    assert process.wait(10) == 3
    child = identify(int((tmp_path / "child").read_text()))
    assert child is None or wait_until(lambda: not is_alive(child), 10)


def test_who_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    script = "trap '' TERM; touch ready; while :; do sleep 600; done"
    process = Process.start(_program(tmp_path, "sh", "-c", script))
    assert wait_until((tmp_path / "ready").exists, 10)
    process.stop(grace=0.2)
    assert not process.alive


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_it_ends_when_its_starter_is_killed(tmp_path: Path, number: int) -> None:
    code = (
        "import sys; from pathlib import Path; from podium.local.processes import *; f = Path(sys.argv[1])\n"
        "p = Process.start(Program('sleep', ('sleep', '600'), f, f / 'log'))\n"
        "print(p.identity.pid, flush=True); sys.stdin.read()"
    )
    starter = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert starter.stdout is not None
    child = identify(int(starter.stdout.readline()))
    assert child is not None
    starter.send_signal(number)
    starter.communicate()
    assert wait_until(lambda: not is_alive(child), 10)


def test_released_it_outlives_its_starter(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from podium.local.processes import *; f = Path(sys.argv[1])\n"
        "p = Process.start(Program('sleep', ('sleep', '600'), f, f / 'log')); p.release()\n"
        "print(p.identity.pid, p.identity.started)"
    )
    pid, started = subprocess.check_output([sys.executable, "-c", code, str(tmp_path)], text=True).split()
    identity = Identity(int(pid), started)
    assert is_alive(identity)
    stop([identity])
    assert not is_alive(identity)


def test_it_outlives_the_thread_that_started_it(tmp_path: Path) -> None:
    with Processes() as processes:
        started: list[Process] = []
        thread = threading.Thread(
            target=lambda: started.append(processes.start(_program(tmp_path, "sleep", "600")))
        )
        thread.start()
        thread.join()
        assert started[0].alive


def test_nothing_starts_while_all_is_being_stopped(tmp_path: Path) -> None:
    processes = Processes()
    process = processes.start(_program(tmp_path, "sleep", "600"))
    processes.stop()
    assert not process.alive
    with pytest.raises(Interrupted):
        processes.start(_program(tmp_path, "sleep", "600"))


def test_what_cannot_be_started_is_named(tmp_path: Path) -> None:
    with pytest.raises(LocalError, match="cannot start /no/such/program: No such file or directory"):
        Process.start(_program(tmp_path, "/no/such/program"))


def test_its_environment_is_ours_and_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEPT", "1")
    monkeypatch.setenv("LEFT_OUT", "1")
    script = "echo $KEPT $LEFT_OUT $ADDED"
    program = Program("sh", ("sh", "-c", script), tmp_path, tmp_path / "log", {"ADDED": "3"}, ("LEFT_OUT",))
    assert Process.start(program).wait(10) == 0
    assert (tmp_path / "log").read_text().split() == ["1", "3"]


def test_this_process_is_alive() -> None:
    me = identify(os.getpid())
    assert me is not None
    assert is_alive(me)


@pytest.mark.skipif(sys.platform != "linux", reason="names of processes are bytes on Linux")
def test_a_name_that_ends_within_a_letter_is_no_obstacle() -> None:
    code = r"open('/proc/self/comm', 'wb').write(b'caf\xc3'); print(flush=True); input()"
    child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with child:
        assert child.stdout is not None
        child.stdout.readline()
        assert identify(child.pid) is not None
        child.kill()
