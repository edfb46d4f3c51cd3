"""How attempts end that do not simply return: on a real Conductor."""

import asyncio
import os
import signal

import aiohttp
import pytest

from podium.local import free_port
from support.eventually import eventually
from support.pids import children_of, until_gone

pytestmark = pytest.mark.slow


async def metrics_of(port: int) -> set[str]:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{port}/metrics") as answer,
    ):
        return set((await answer.text()).splitlines())


ENDS = {
    ("busy_end", "kill"): (
        "FAILED",
        "the function's process was killed by signal 9 (SIGKILL): out of memory?",
        "killed",
    ),
    ("busy_end", "_exit"): ("FAILED", "the function's process exited with code 3", "exit"),
    ("busy_end", "raise"): ("FAILED", "ConnectionError: cannot log in", "exception"),
    ("busy_end", "reject"): ("FAILED_WITH_TERMINAL_ERROR", "no such colour", "rejected"),
    ("probe_exit", None): ("FAILED", "SystemExit: enough", "exit"),
    ("probe_exit_async", None): ("FAILED", "SystemExit: enough", "exit"),
    ("probe_bad_result", None): (
        "FAILED_WITH_TERMINAL_ERROR",
        "result.files[0].path: pathlib.PosixPath is not JSON; return text, numbers, lists or dicts",
        "bad_result",
    ),
    ("probe_large", None): (
        "FAILED_WITH_TERMINAL_ERROR",
        (
            "the result has 11.0 MB, and Conductor takes at most 10.5: "
            "keep it in a file or a store, and return where it is"
        ),
        "too_large",
    ),
}


async def test_each_end_has_its_status_its_reason_and_its_count_and_the_worker_goes_on(desk):
    port = free_port()
    await desk.worker("--listen", f"127.0.0.1:{port}", "--concurrency", "10", "--processes", "2")
    beside = await desk.start("busy_count", {"to": 5, "seconds": 2.0})
    runs = {}
    for kind, how in ENDS:
        given = {"how": how} if how else {"megabytes": 11.0} if kind == "probe_large" else {}
        runs[kind, how] = await desk.start(kind, given)
    for key, run in runs.items():
        task = await desk.ended(run)
        assert (task["status"], task["reasonForIncompletion"]) == ENDS[key][:2]
    task = await desk.ended(beside)
    assert (task["status"], task["outputData"]["sum"]) == ("COMPLETED", 10)
    logs = await desk.call("GET", f"/tasks/{task['taskId']}/log")
    assert [line["log"] for line in logs] == ["counting to 5"]
    task = await desk.ended(await desk.start("busy_count", {"to": 5, "seconds": 0.0}))
    assert task["status"] == "COMPLETED"
    counted = await metrics_of(port)
    for kind, how in ENDS:
        failure = ENDS[kind, how][2]
        assert f'podium_worker_failures_total{{kind="{failure}",task_type="{kind}"}} 1.0' in counted
    assert "podium_worker_capacity 10.0" in counted
    # Those that were killed are begun anew as they are needed: at least the one that has just counted.
    assert counted & {"podium_worker_processes 1.0", "podium_worker_processes 2.0"}


async def test_an_attempt_over_its_time_is_stopped_dropped_and_tried_again(desk):
    port = free_port()
    worker = await desk.worker("--listen", f"127.0.0.1:{port}", "--processes", "1")
    naps = await desk.start("probe_nap", {"seconds": 60}, response_timeout=1, timeout=3, retries=1)
    late = await desk.start("probe_late", {"gate": "gate"}, response_timeout=1, timeout=3, retries=1)
    busy = await desk.start("busy_hang", response_timeout=1, timeout=3, retries=0)
    for run in (naps, late):
        task = await desk.ended(run)
        assert (task["status"], task["outputData"]) == ("COMPLETED", {"attempt": 2})
        first = (await desk.run(run))["tasks"][0]
        assert first["status"] == "TIMED_OUT"
        # Conductor stores log lines when it has the time.
        logs = await eventually(lambda of=first["taskId"]: desk.call("GET", f"/tasks/{of}/log"), bool)
        assert "still running after the 3 s that timeoutSeconds allows" in logs[-1]["log"]
    assert [word for _, word, _ in desk.trace()].count("cancelled") == 1
    assert (await desk.ended(busy))["status"] == "TIMED_OUT"
    await until_gone(*(int(pid) for pid in (desk.data / "pids").read_text().split()))
    # The thread cannot be stopped, but nothing of it can be lost: its pod may go.
    counted = await eventually(lambda: metrics_of(port), lambda now: "podium_worker_busy 0.0" in now)
    assert 'podium_worker_running{task_type="probe_late"} 0.0' in counted
    for kind in ("probe_nap", "probe_late", "busy_hang"):
        assert f'podium_worker_failures_total{{kind="timeout",task_type="{kind}"}} 1.0' in counted
        assert f'podium_worker_tasks_total{{outcome="dropped",task_type="{kind}"}} 1.0' in counted
    # The result of that thread is nobody's any more: a stop does not wait for it.
    worker.signal()
    assert await worker.exits(within=10) == 0
    assert "left behind: probe_late" in worker.said()
    assert (await desk.run(late))["status"] == "COMPLETED"


async def test_a_retried_attempt_has_the_delay_of_its_retry_as_more_time(desk):
    """Conductor does not end it sooner, however often it is asked, and takes its result until then."""
    worker = await desk.worker()
    times = {"response_timeout": 1, "timeout": 3, "retries": 1, "retry_delay": 5}
    soon = await desk.start("probe_naps", {"seconds": [60, 5]}, **times)
    never = await desk.start("probe_naps", {"seconds": [60, 60]}, **times)
    run = await eventually(lambda: desk.decided(never), lambda run: run["status"] != "RUNNING")
    assert [task["status"] for task in run["tasks"]] == ["TIMED_OUT", "TIMED_OUT"]
    task = run["tasks"][-1]
    assert 8 <= (task["endTime"] - task["startTime"]) / 1000 < 30
    task = await desk.ended(soon)
    assert (task["status"], task["outputData"]) == ("COMPLETED", {"attempt": 2})

    async def told() -> list[int]:
        said = worker.said()
        return [said.count(f"still running after the {seconds} s that timeoutSeconds") for seconds in (3, 8)]

    # The worker counts from when it was given the task, a moment later than Conductor.
    await eventually(told, lambda times: times == [2, 1])


async def test_a_worker_whose_slots_are_all_held_by_overdue_threads_makes_room_for_another(desk):
    port = free_port()
    code = "from podium_workers.runtime import main, worker; worker.EXHAUSTED_AFTER = 2.0; main.main()"
    worker = await desk.worker(
        *("--concurrency", "2", "--listen", f"127.0.0.1:{port}"),
        program=("-c", code, "--no-builtin", "--functions", "probes"),
    )
    naps = [await desk.start("probe_nap", {"seconds": 60}, response_timeout=1, timeout=3) for _ in range(2)]
    for run in naps:
        assert (await desk.ended(run))["status"] == "TIMED_OUT"
    one = await desk.start("probe_late", {"gate": "gate"}, response_timeout=1, timeout=3)
    assert (await desk.ended(one))["status"] == "TIMED_OUT"
    assert (await desk.ended(await desk.start("probe_add", {"a": 1})))["status"] == "COMPLETED"
    await eventually(lambda: metrics_of(port), lambda now: "podium_worker_busy 0.0" in now)
    two = await desk.start("probe_late", {"gate": "gate"}, response_timeout=1, timeout=3)
    assert (await desk.ended(two))["status"] == "TIMED_OUT"
    waits = await desk.start("probe_add", {"a": 1})
    assert await worker.exits(within=20) == 1
    (told,) = [record for record in worker.records() if record["level"] == "ERROR"]
    assert told["message"].startswith("all 2 slots are held by functions that still run")
    for run in (one, two):
        assert (await desk.task(run))["taskId"] in told["message"]
    assert await desk.statuses([waits]) == ["SCHEDULED"], "it is left to another worker"


async def test_a_long_computation_keeps_its_lease(desk):
    await desk.worker("--processes", "1")
    task = await desk.ended(
        await desk.start("busy_count", {"to": 3, "seconds": 4.0}, response_timeout=1, retries=1)
    )
    assert (task["status"], task["outputData"]["attempt"], task["pollCount"]) == ("COMPLETED", 1, 1)


async def test_computations_that_find_no_process_are_left_to_other_workers(desk):
    await desk.worker("--processes", "1", "--concurrency", "5")
    runs = [await desk.start("busy_hang") for _ in range(3)]
    quick = await desk.start("probe_add", {"a": 1})
    assert (await desk.ended(quick))["status"] == "COMPLETED"

    async def statuses() -> list[str]:
        return sorted(await desk.statuses(runs))

    await eventually(statuses, lambda seen: seen == ["IN_PROGRESS", "SCHEDULED", "SCHEDULED"])


COUNTS_TURNS = """
from podium_workers.runtime import main, worker

async def counted(self, until, wait=worker.Worker._wait):
    print("turn", flush=True)
    await wait(self, until)

worker.Worker._wait = counted
main.main()
"""


async def test_the_loop_does_not_spin_while_tasks_wait_for_a_process_or_for_conductor(desk, relay):
    away, refused, held, opened = (asyncio.Event() for _ in range(4))

    async def before(path, query):
        if "/poll/batch/probe_add" in path and away.is_set():
            refused.set()
            raise aiohttp.web.HTTPServiceUnavailable
        if "/queue/sizes" in path and refused.is_set():
            held.set()
            await opened.wait()

    async def turns():
        return worker.said().count("turn\n")

    async def looks():
        return sum("/queue/sizes" in path for path in relay.seen)

    relay.before = before
    worker = await desk.worker(
        *("--processes", "1", "--tasks", "busy_hang,probe_add"),
        url=await relay.listen(),
        program=("-c", COUNTS_TURNS, "--no-builtin", "--functions", "probes,busy"),
    )
    runs = [await desk.start("busy_hang") for _ in range(2)]
    await eventually(lambda: desk.statuses(runs), lambda seen: sorted(seen) == ["IN_PROGRESS", "SCHEDULED"])
    before_looks, before_turns = await looks(), await turns()
    await eventually(looks, lambda seen: seen >= before_looks + 10)
    assert await turns() - before_turns < 100, "a few for each of ten looks"
    # Now the poll for a task that waits fails, and the look whether Conductor is back has no answer.
    away.set()
    await desk.start("probe_add", {"a": 1})
    async with asyncio.timeout(30):
        await held.wait()
    before_turns = await turns()
    await asyncio.sleep(2)  # a rate needs a time
    assert await turns() - before_turns < 20
    opened.set()


async def test_a_stop_waits_for_computations(desk):
    worker = await desk.worker()
    run = await desk.start("busy_count", {"to": 3, "seconds": 3.0})
    await worker.says("counting to 3")
    worker.interrupt()
    assert await worker.exits() == 0
    assert (await desk.task(run))["status"] == "COMPLETED"


async def test_ctrl_c_twice_cuts_and_leaves_no_process(desk):
    worker = await desk.worker()
    run = await desk.start("busy_hang")

    async def told() -> bool:
        return (desk.data / "pids").exists()

    await eventually(told, bool)
    worker.interrupt()
    await worker.says("stopping")
    worker.interrupt()
    assert await worker.exits(within=10) == 1
    assert "cut off: busy_hang" in worker.said()
    assert (await desk.task(run))["status"] == "IN_PROGRESS"
    await until_gone(*(int(pid) for pid in (desk.data / "pids").read_text().split()))


async def test_a_stop_during_an_outage_waits_for_conductor_and_loses_nothing(desk, relay):
    port = free_port()
    url = await relay.listen(port)
    worker = await desk.worker(url=url)
    runs = [await desk.start("probe_gate", {"gate": "gate"}) for _ in range(2)]
    await desk.running(runs, 2)
    await relay.close()
    worker.signal()
    await worker.says("stopping")
    desk.open_gate()
    await worker.says("did not take the result")
    assert worker.process.returncode is None
    await relay.listen(port)
    assert await worker.exits(within=30) == 0
    assert await desk.statuses(runs) == ["COMPLETED", "COMPLETED"]


UNSHARE = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")


@pytest.fixture
async def first_process() -> tuple[str, ...]:
    """Makes a command the first process of its own world, as in a container."""
    probe = await asyncio.create_subprocess_exec(*UNSHARE, "true", stderr=asyncio.subprocess.DEVNULL)
    if await probe.wait():
        pytest.skip("this user may not make a PID namespace")
    return UNSHARE


async def test_as_the_first_process_of_a_container_it_stops_when_told(desk, first_process):
    """The kernel ignores signals to process 1 for which it has no handler."""
    worker = await desk.worker(before=first_process)
    run = await desk.start("probe_gate", {"gate": "gate"})
    await desk.running([run], 1)
    os.kill(children_of(worker.process.pid)[0], signal.SIGTERM)
    await worker.says("stopping")
    desk.open_gate()
    assert await worker.exits(within=20) == 0
    assert (await desk.task(run))["status"] == "COMPLETED"


async def test_a_stop_during_slow_imports_is_heeded(desk, first_process, tmp_path):
    (tmp_path / "slow.py").write_text("import time\nprint('importing', flush=True)\ntime.sleep(60)\n")
    program = ("-m", "podium_workers", "--functions", "slow")
    worker = await desk.worker(before=first_process, program=program, folder=tmp_path)
    await worker.says("importing")
    os.kill(children_of(worker.process.pid)[0], signal.SIGTERM)
    assert await worker.exits(within=5) == 0


async def test_every_record_about_a_task_names_it(desk):
    worker = await desk.worker("--worker-id", "me")
    said = await desk.ended(await desk.start("probe_say", {"words": "hello"}))
    counted = await desk.ended(await desk.start("busy_count", {"to": 4, "seconds": 0.0}))
    failed = await desk.ended(await desk.start("probe_reject"))
    worker.signal()
    assert await worker.exits() == 0
    records = worker.records()
    assert len(records) == len(worker.said().splitlines()), "every line is JSON"
    assert {record["worker_id"] for record in records} == {"me"}
    for task, logger, message in (
        (said, "some.library", "said hello"),
        (counted, "busy", "counting to 4"),
        (failed, "podium_workers.runtime.execution", "ended as FAILED_WITH_TERMINAL_ERROR: no such colour"),
    ):
        (record,) = [
            record for record in records if record["logger"] == logger and message in record["message"]
        ]
        ids = {key: record[key] for key in ("workflow_id", "task_id", "task_type", "attempt")}
        assert ids == {
            "workflow_id": task["workflowInstanceId"],
            "task_id": task["taskId"],
            "task_type": task["taskDefName"],
            "attempt": 1,
        }
