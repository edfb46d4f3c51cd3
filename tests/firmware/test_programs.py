"""Programs in their confinement: what they say, what they may take, and that nothing of them is left."""

import asyncio
import contextlib
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from podium_workers.services.programs import LINE_CHARACTERS, CannotStart, Ended, Limits, run
from support.eventually import eventually

MIB = 2**20


async def said(
    code: str, tmp_path: Path, limits: Limits | None = None
) -> tuple[Ended, list[tuple[str, str]]]:
    """What a Python program says, line by line, and how it ended."""
    lines: list[tuple[str, str]] = []
    ended = await run(
        [sys.executable, "-I", "-S", "-u", "-c", code],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"]},
        limits=limits or Limits(30),
        on_line=lambda line, channel: lines.append((channel, line)),
    )
    return ended, lines


def alive(mark: str) -> bool:
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and mark.encode() in (entry / "cmdline").read_bytes().split(b"\0"):
                return True
    return False


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def gone(mark: str) -> bool:
    return not alive(mark)


async def test_lines_come_as_they_are_said_from_both_channels(tmp_path: Path) -> None:
    ended, lines = await said(
        "import sys; print('one'); print('zwei ü', file=sys.stderr); print('a\\rb', end='')", tmp_path
    )
    assert ended.ok
    assert sorted(lines) == [("err", "zwei ü"), ("out", "a"), ("out", "b"), ("out", "one")]


async def test_a_line_without_end_is_cut(tmp_path: Path) -> None:
    ended, lines = await said(f"print('x' * {20 * MIB}); print('end')", tmp_path)
    assert ended.ok
    assert len(lines[0][1]) == LINE_CHARACTERS
    assert lines[-1] == ("out", "end")


async def test_a_line_may_be_longer_where_that_is_asked_for(tmp_path: Path) -> None:
    lines: list[str] = []
    await run(
        [sys.executable, "-I", "-S", "-c", f"print('ü' * {MIB} + 'x')"],
        cwd=tmp_path, env={"LC_ALL": "C.UTF-8"}, limits=Limits(30),
        on_line=lambda line, _: lines.append(line), longest_line=MIB,
    )  # fmt: skip
    assert lines == ["ü" * MIB]


@pytest.mark.parametrize(
    ("code", "wanted"), [("raise SystemExit(7)", 7), ("import os; os.kill(os.getpid(), 9)", 137)]
)
async def test_its_end_is_told_as_a_shell_does(tmp_path: Path, code: str, wanted: int) -> None:
    ended, _ = await said(code, tmp_path)
    assert (ended.code, ended.stopped, ended.ok) == (wanted, None, False)


async def test_what_cannot_be_started_says_so(tmp_path: Path) -> None:
    for argv, words in ((["no-such-program"], "cannot start no-such-program: No such file"),):
        with pytest.raises(CannotStart, match=words):
            await run(argv, cwd=tmp_path, env={}, limits=Limits(5), on_line=lambda *_: None)
    with pytest.raises(CannotStart, match="in /nowhere"):
        await run(["true"], cwd=Path("/nowhere"), env={}, limits=Limits(5), on_line=lambda *_: None)


SLEEPS = "import time; time.sleep(60)"
HOG = "x = b'x' * 2**28"
HOARD = "[open(name, 'wb').write(b'x' * 2**21) for name in 'ab']"
SWARM = f"import subprocess, sys\nfor _ in range(20): subprocess.Popen([sys.executable, '-c', '{SLEEPS}'])"


@pytest.mark.parametrize(
    ("code", "limits", "wanted"),
    [
        ("", {"seconds": 0.5}, "time"),
        (HOG, {"memory_bytes": 100 * MIB}, "memory"),
        (HOARD, {"disk_bytes": 3 * MIB}, "disk"),
        ("", {"room_bytes": 2**60}, "room"),
        (SWARM, {"processes": 10}, "processes"),
    ],
    ids=["time", "memory", "disk", "room", "processes"],
)
async def test_each_limit_stops_it_and_is_named(tmp_path: Path, code: str, limits: dict, wanted: str) -> None:
    began = time.monotonic()
    ended, _ = await said(
        f"{code}\n{SLEEPS}", tmp_path, Limits(**{"seconds": 30, "folder": tmp_path, **limits})
    )
    assert ended.stopped == wanted
    assert not ended.ok
    assert time.monotonic() - began < 10


async def test_one_file_can_never_be_larger_than_the_limit_even_between_two_looks(tmp_path: Path) -> None:
    code = "open('a', 'wb').write(b'x' * 2**26)"
    await said(code, tmp_path, Limits(30, disk_bytes=4 * MIB, folder=tmp_path))
    assert (tmp_path / "a").stat().st_size <= 4 * MIB


async def test_what_it_leaves_running_ends_with_it(tmp_path: Path) -> None:
    mark = f"mark-{time.time_ns()}"
    code = (
        "import subprocess, sys\n"
        f"subprocess.Popen(['setsid', '-f', sys.executable, '-c', 'import time; time.sleep(300)', '{mark}'],"
        " stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)\n"
        "import time; time.sleep(0.3)\n"
    )
    ended, _ = await said(code, tmp_path)
    assert ended.ok
    assert not alive(mark)


async def test_a_process_whose_name_ends_in_half_a_letter_is_counted_and_ended(tmp_path: Path) -> None:
    mark = f"mark-{time.time_ns()}"
    hog = (
        "import ctypes, os, time\n"
        "ctypes.CDLL(None).prctl(15, b'fourteen-bytes' + bytes([0xc3]), 0, 0, 0)\n"
        f"{HOG}\n"
        "open('named', 'w').close(); time.sleep(300)\n"
    )
    code = (
        "import subprocess, sys\n"
        f"subprocess.run([sys.executable, '-c', {hog!r}, '{mark}'], start_new_session=True)\n"
    )
    ended, _ = await said(code, tmp_path, Limits(30, memory_bytes=100 * MIB))
    assert (tmp_path / "named").exists()
    assert ended.stopped == "memory"
    assert not alive(mark)


@pytest.mark.parametrize("output", ["closed", "open"])
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
async def test_what_ends_its_watcher_ends_too(
    tmp_path: Path, how: signal.Signals, output: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("podium_workers.services.programs._SECONDS_TO_END", 1.0)
    mark = f"mark-{time.time_ns()}"
    where = "subprocess.DEVNULL" if output == "closed" else "None"
    code = (
        "import os, subprocess, sys, time\n"
        "# The one that stays is nobody's child, in a session of its own, without its environment.\n"
        f"stays = [sys.executable, '-c', {SLEEPS!r}, '{mark}']\n"
        f"subprocess.run(['setsid', '-f', *stays], env={{}}, stdout={where}, stderr={where})\n"
        f"os.kill(os.getppid(), {int(how)})\n"
        f"{SLEEPS}\n"
    )
    # One that goes on beside it, and a process of the worker's own, are left alone.
    beside = asyncio.create_task(said("import time; time.sleep(2); print('whole')", tmp_path))
    own = await asyncio.create_subprocess_exec("sleep", "60", start_new_session=True)
    began = time.monotonic()
    ended, _ = await said(code, tmp_path, Limits(30 if how is signal.SIGKILL else 1))
    assert not ended.ok
    assert not alive(mark)
    assert time.monotonic() - began < 20
    assert own.returncode is None
    own.kill()
    await own.wait()
    assert (await beside)[1] == [("out", "whole")]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
async def test_a_shielded_worker_cannot_be_read_by_what_it_starts(tmp_path: Path) -> None:
    code = (
        "import ctypes, os, subprocess, sys\n"
        "os.setgid(65534); os.setuid(65534)\n"
        # Becoming another user shields already; a worker that was started as one is not.
        "ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)\n"
        "look = f'tr -d 0 < /proc/{os.getpid()}/environ'\n"
        "print(subprocess.run(['sh', '-c', look], capture_output=True).returncode)\n"
        "from podium_workers.services.programs import shield\n"
        "shield()\n"
        "print(subprocess.run(['sh', '-c', look], capture_output=True).returncode)\n"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", f"import podium_workers.services.programs\n{code}",
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    said, _ = await process.communicate()
    before, after = map(int, said.split())
    assert (before == 0, after == 0) == (True, False)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
async def test_it_ends_when_its_worker_dies(tmp_path: Path, how: signal.Signals) -> None:
    mark = f"mark-{time.time_ns()}"
    code = (
        "import asyncio, sys\n"
        "from pathlib import Path\n"
        "from podium_workers.services.programs import Limits, run\n"
        "argv = ['sh', '-c', 'setsid sleep 300 & sleep 300', sys.argv[1]]\n"
        "asyncio.run(run(argv, cwd=Path('/tmp'), env={'PATH': '/usr/bin:/bin'}, limits=Limits(300),"
        " on_line=print))\n"
    )
    worker = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, mark, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    )

    async def started() -> bool:
        return alive(mark)

    await eventually(started, bool, within=20)
    worker.send_signal(how)
    await worker.wait()
    await eventually(lambda: gone(mark), bool, within=5)


async def test_a_program_that_is_cancelled_is_gone_when_the_call_ends(tmp_path: Path) -> None:
    mark = f"mark-{time.time_ns()}"
    task = asyncio.create_task(
        run(["sh", "-c", "sleep 300; true", mark], cwd=tmp_path, env=dict(os.environ), limits=Limits(60),
            on_line=lambda *_: None)
    )  # fmt: skip

    async def started() -> bool:
        return alive(mark)

    await eventually(started, bool)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not alive(mark)


@pytest.mark.parametrize("turns", range(1, 12))
async def test_it_can_be_cancelled_in_the_middle_of_its_start(tmp_path: Path, turns: int) -> None:
    mark = f"mark-{time.time_ns()}"
    before = open_files()
    task = asyncio.create_task(
        run(["sh", "-c", "sleep 300; true", mark], cwd=tmp_path, env=dict(os.environ), limits=Limits(60),
            on_line=lambda *_: None)
    )  # fmt: skip
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 30)
    assert not alive(mark)

    async def descriptors() -> int:
        return open_files()

    await eventually(descriptors, lambda now: now <= before)
