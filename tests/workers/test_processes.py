"""Functions that have a process of their own: without Conductor."""

import asyncio
import logging
import os
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from podium_workers import Registry, TaskContext
from podium_workers.runtime.processes import Processes
from podium_workers.runtime.settings import Setup, count_processors
from support.eventually import eventually
from support.pids import is_alive, until_gone

HERE = str(Path(__file__).parent)


def context(folder: Path) -> TaskContext:
    return TaskContext(
        task_id="t1",
        workflow_id="w1",
        task_type="x",
        ref="it",
        attempt=2,
        poll_count=1,
        domain=None,
        data_dir=folder,
        worker_id="me",
    )


@pytest.fixture
async def processes(monkeypatch) -> AsyncIterator[Processes]:
    monkeypatch.syspath_prepend(HERE)
    pool = Processes(2, Setup(modules=("busy",)))
    yield pool
    await pool.close()


async def test_a_function_runs_in_another_process_which_is_used_again(processes, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    assert processes.pids == []
    told = context(tmp_path)
    first = await processes.run("busy_count", {"to": "10"}, told)
    second = await processes.run("busy_count", {}, told)
    assert (first.status, first.output["sum"], first.output["attempt"]) == ("COMPLETED", 45, 2)
    assert first.output["pid"] == second.output["pid"] == first.output["group"] != os.getpid()
    assert [line for _, line in told.take_lines()] == ["counting to 10", "counting to 1000"]
    assert ("busy", logging.INFO, "counting to 10") in caplog.record_tuples


async def test_two_run_at_once_and_no_more(processes, tmp_path):
    jobs = [processes.run("busy_count", {"seconds": 0.3}, context(tmp_path)) for _ in range(5)]
    outcomes = await asyncio.gather(*jobs)
    assert len({outcome.output["pid"] for outcome in outcomes}) == 2


@pytest.mark.parametrize(
    ("how", "status", "kind", "reason"),
    [
        (
            "kill",
            "FAILED",
            "killed",
            "the function's process was killed by signal 9 (SIGKILL): out of memory?",
        ),
        ("fault", "FAILED", "killed", "the function's process was killed by signal 11 (SIGSEGV)"),
        ("_exit", "FAILED", "exit", "the function's process exited with code 3"),
        ("exit", "FAILED", "exit", "SystemExit: enough"),
        ("raise", "FAILED", "exception", "ConnectionError: cannot log in"),
        ("reject", "FAILED_WITH_TERMINAL_ERROR", "rejected", "no such colour"),
        (
            "set",
            "FAILED_WITH_TERMINAL_ERROR",
            "bad_result",
            "result.a: set is not JSON; return text, numbers, lists or dicts",
        ),
        (
            "large",
            "FAILED_WITH_TERMINAL_ERROR",
            "too_large",
            (
                "the result has 11.0 MB, and Conductor takes at most 10.5: "
                "keep it in a file or a store, and return where it is"
            ),
        ),
    ],
)
async def test_each_end_is_the_end_of_one_attempt_and_says_how(
    processes, tmp_path, how, status, kind, reason
):
    beside = asyncio.create_task(processes.run("busy_count", {"seconds": 0.5}, context(tmp_path)))
    ended = await processes.run("busy_end", {"how": how}, context(tmp_path))
    assert (ended.status, ended.kind, ended.reason) == (status, kind, reason)
    assert ("in end" in ended.trace) == (how in {"raise", "exit"})
    assert (await beside).status == "COMPLETED"
    assert (await processes.run("busy_count", {}, context(tmp_path))).status == "COMPLETED"


async def test_a_cancelled_attempt_is_killed_with_the_programs_it_has_started(processes, tmp_path):
    running = asyncio.create_task(processes.run("busy_hang", {}, context(tmp_path)))

    async def told() -> bool:
        return (tmp_path / "pids").exists()

    await eventually(told, bool, within=30)
    pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    assert all(map(is_alive, pids))
    running.cancel()
    await until_gone(*pids)
    assert processes.pids == []
    assert (await processes.run("busy_count", {}, context(tmp_path))).status == "COMPLETED"


async def test_processes_end_with_a_worker_that_is_killed(tmp_path):
    code = (
        "import asyncio, pathlib, sys; sys.path.insert(0, sys.argv[1]);"
        "from podium_workers.runtime.processes import Processes;"
        "from podium_workers.runtime.settings import Setup;"
        "from test_processes import context;"
        "asyncio.run(Processes(1, Setup(('busy',))).run('busy_hang', {}, context(pathlib.Path(sys.argv[2]))))"
    )
    paths = os.pathsep.join([os.environ.get("PYTHONPATH", ""), str(Path(HERE).parent)])
    worker = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, HERE, str(tmp_path), env={**os.environ, "PYTHONPATH": paths}
    )

    async def told() -> bool:
        return (tmp_path / "pids").exists()

    await eventually(told, bool, within=30)
    function, program = map(int, (tmp_path / "pids").read_text().split())
    worker.kill()
    await worker.wait()
    try:
        await until_gone(function)
    finally:
        os.kill(program, 9)  # nobody is left who knows of it; in a container it ends with the first process


async def test_a_module_that_cannot_be_imported_says_so_each_time(tmp_path, monkeypatch):
    (tmp_path / "broken_shop.py").write_text("import not_there_at_all\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    pool = Processes(1, Setup(modules=("broken_shop",)))
    for _ in range(2):
        ended = await pool.run("x", {}, context(tmp_path))
        assert (ended.status, ended.reason) == (
            "FAILED",
            "a process for x could not be started: ModuleNotFoundError: No module named 'not_there_at_all'",
        )
    assert pool.pids == []


async def test_a_function_that_is_not_there_in_another_process_is_explained(processes, tmp_path):
    ended = await processes.run("made_up", {}, context(tmp_path))
    assert ended.status == "FAILED_WITH_TERMINAL_ERROR"
    assert "must be registered at the top of a module" in ended.reason


async def test_a_process_that_died_at_rest_is_replaced(processes, tmp_path):
    first = await processes.run("busy_count", {}, context(tmp_path))
    os.kill(first.output["pid"], 9)
    await until_gone(first.output["pid"])
    second = await processes.run("busy_count", {}, context(tmp_path))
    assert second.status == "COMPLETED"


async def test_a_process_that_dies_at_rest_unnoticed_costs_no_attempt(processes, tmp_path):
    first = await processes.run("busy_count", {}, context(tmp_path))
    # It is given the next task before anybody can know that it is dying.
    os.kill(first.output["pid"], 9)
    second = await processes.run("busy_count", {}, context(tmp_path))
    assert second.status == "COMPLETED"
    assert second.output["pid"] != first.output["pid"]


async def test_a_process_that_is_not_needed_any_more_goes(processes, tmp_path, monkeypatch):
    monkeypatch.setattr("podium_workers.runtime.processes.IDLE_SECONDS", 0.0)
    ended = await processes.run("busy_count", {}, context(tmp_path))
    await until_gone(ended.output["pid"])
    assert processes.pids == []


def test_an_async_function_needs_no_process():
    async def nap() -> None: ...

    with pytest.raises(TypeError, match="write `def`"):
        Registry().task("nap", cpu_bound=True)(nap)


@pytest.mark.parametrize(
    ("files", "count"),
    [
        ({"cpu.max": "150000 100000"}, 2),
        ({"cpu.max": "20000 100000"}, 1),
        ({"cpu.max": "max 100000"}, None),
        ({"cpu/cpu.cfs_quota_us": "100000", "cpu/cpu.cfs_period_us": "100000"}, 1),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        ({}, None),
    ],
)
def test_a_containers_share_of_the_processors_counts(tmp_path, monkeypatch, files, count):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert count_processors(tmp_path) == (count or 8)


async def test_the_loop_turns_while_processes_work(processes, tmp_path):
    job = asyncio.create_task(processes.run("busy_count", {"seconds": 1.0}, context(tmp_path)))
    longest, last = 0.0, time.monotonic()
    while not job.done():
        await asyncio.sleep(0.01)
        longest, last = max(longest, time.monotonic() - last), time.monotonic()
    assert longest < 0.5
