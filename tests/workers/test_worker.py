"""What a user sees of a worker, on a real Conductor."""

import asyncio
import re

import aiohttp
import pytest

from podium.local import Conductor, free_port
from support.eventually import eventually

pytestmark = pytest.mark.slow


async def test_a_function_runs_and_its_result_and_log_are_in_conductor(desk):
    await desk.worker()
    run = await desk.start("probe_add", {"a": "2"})
    task = await desk.ended(run)
    assert (task["status"], task["outputData"]) == ("COMPLETED", {"result": 12})
    logs = await desk.call("GET", f"/tasks/{task['taskId']}/log")
    assert [line["log"] for line in logs] == ['adding "2" and 10: é']


@pytest.mark.parametrize(
    ("kind", "given", "status", "reason"),
    [
        ("probe_add", {"b": 1}, "FAILED_WITH_TERMINAL_ERROR", "input field 'a' is missing; given: b"),
        ("probe_reject", {}, "FAILED_WITH_TERMINAL_ERROR", "no such colour"),
        (
            "probe_bad_result",
            {},
            "FAILED_WITH_TERMINAL_ERROR",
            r"result.files\[0\].path: pathlib.*is not JSON.*",
        ),
        ("probe_leak", {"password": "hunter22"}, "FAILED", r"ConnectionError: cannot log in with \*\*\*"),
    ],
)
async def test_a_failure_says_why(desk, kind, given, status, reason):
    await desk.worker()
    task = await desk.ended(await desk.start(kind, given))
    assert task["status"] == status
    assert re.fullmatch(reason, task["reasonForIncompletion"])


async def test_a_failure_leaves_its_traceback_without_secrets(desk):
    await desk.worker()
    task = await desk.ended(await desk.start("probe_leak", {"password": "hunter22"}))
    text = "".join(line["log"] for line in await desk.call("GET", f"/tasks/{task['taskId']}/log"))
    assert "Traceback" in text
    assert "in leak" in text
    assert "hunter22" not in text
    assert "hunter22" not in desk.workers[0].said()


async def test_a_task_may_come_back_later(desk):
    await desk.worker()
    task = await desk.ended(await desk.start("probe_twice"))
    assert task["outputData"] == {"polls": 2, "page": 7}


async def test_a_task_that_came_back_is_not_taken_from_the_worker_that_has_it(desk, relay):
    """Conductor has stored that it is to come back, and the answer was lost."""
    lost, waiting, given = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def before(path, query):
        if lost.is_set() and path.startswith("/tasks") and "/poll/" not in path and "/queue/" not in path:
            waiting.set()
            await given.wait()

    async def after(path, query):
        if path == "/tasks" and not lost.is_set():
            lost.set()
            raise aiohttp.web.HTTPServiceUnavailable

    relay.before, relay.after = before, after
    await desk.worker("--concurrency", "1", url=await relay.listen())
    run = await desk.start("probe_back", {"until": "gate"})
    async with asyncio.timeout(30):
        await waiting.wait()
    await desk.worker("--tasks", "probe_back")
    await desk.running([run], 1)
    given.set()
    await desk.ended(await desk.start("probe_add", {"a": 1}))  # so the first worker has done with it
    task = await desk.task(run)
    assert (task["status"], task["pollCount"]) == ("IN_PROGRESS", 2)
    desk.open_gate()
    assert (await desk.ended(run))["outputData"]["polls"] == 2


async def test_no_more_tasks_than_slots_are_ever_taken(desk):
    kinds = ("probe_gate", "probe_gate_b", "probe_gate_c")
    runs = [await desk.start(kinds[number % 3], {"gate": "gate"}) for number in range(30)]
    await desk.worker("--concurrency", "4")
    await desk.running(runs, 4)
    taken = [(await desk.statuses(runs)).count("IN_PROGRESS")]
    desk.open_gate()

    async def statuses():
        seen = await desk.statuses(runs)
        taken.append(seen.count("IN_PROGRESS"))
        return seen

    await eventually(statuses, lambda seen: set(seen) == {"COMPLETED"}, within=90)
    running = most = 0
    for _, word, _ in desk.trace():
        running += 1 if word == "begin" else -1
        most = max(most, running)
    assert (most, taken[0], max(taken)) == (4, 4, 4)


async def test_task_types_take_turns(desk):
    many = [await desk.start("probe_gate", {"seconds": 0.05}) for _ in range(20)]
    few = await desk.start("probe_gate_b", {"seconds": 0.0})
    await desk.worker("--concurrency", "1")
    await desk.ended(few)
    assert (await desk.statuses(many)).count("SCHEDULED") > 10


async def test_sigterm_lets_running_tasks_finish_and_takes_no_more(desk):
    port = free_port()
    worker = await desk.worker("--concurrency", "5", "--listen", f"127.0.0.1:{port}")
    runs = [await desk.start("probe_gate", {"gate": "gate"}) for _ in range(5)]
    await desk.running(runs, 5)
    worker.signal()
    await worker.says("stopping")
    late = await desk.start("probe_gate", {"gate": "gate"})
    async with aiohttp.ClientSession() as session:
        async with session.get(f"http://127.0.0.1:{port}/readyz") as ready:
            assert (ready.status, await ready.json()) == (503, {"status": "draining, 5 tasks left"})
        async with session.get(f"http://127.0.0.1:{port}/healthz") as healthy:
            assert healthy.status == 200
        async with session.get(f"http://127.0.0.1:{port}/metrics") as metrics:
            assert "podium_worker_busy 5.0" in await metrics.text()
    desk.open_gate()
    assert await worker.exits() == 0
    assert set(await desk.statuses(runs)) == {"COMPLETED"}
    assert await desk.statuses([late]) == ["SCHEDULED"]
    with pytest.raises(ProcessLookupError):
        worker.signal(0)


async def test_tasks_of_a_poll_in_flight_at_sigterm_are_run(desk, relay):
    """Conductor has handed them over when the signal comes; the answer is still on its way."""
    handed_over, deliver = asyncio.Event(), asyncio.Event()
    runs = [await desk.start("probe_gate") for _ in range(3)]

    async def hold(path, query):
        if "/poll/batch/probe_gate" in path and "IN_PROGRESS" in await desk.statuses(runs):
            handed_over.set()
            await deliver.wait()

    relay.after = hold
    worker = await desk.worker(url=await relay.listen())
    async with asyncio.timeout(30):
        await handed_over.wait()
    worker.signal()
    await worker.says("stopping")
    deliver.set()
    assert await worker.exits() == 0
    tasks = [await desk.task(run) for run in runs]
    assert {task["status"] for task in tasks} <= {"COMPLETED", "SCHEDULED"}
    assert [task["status"] for task in tasks].count("COMPLETED") >= 1


async def test_five_stops_while_tasks_arrive_lose_none(desk):
    runs = []

    async def arrive():
        for _ in range(50):
            runs.append(await desk.start("probe_gate", {"seconds": 0.05}))
            await asyncio.sleep(0.02)

    arriving = asyncio.create_task(arrive())
    for stop in range(5):
        worker = await desk.worker("--concurrency", "3")
        await desk.running(runs, 6 * (stop + 1))
        worker.signal()
        assert await worker.exits() == 0
        assert "IN_PROGRESS" not in await desk.statuses(list(runs))
    await arriving
    await desk.worker("--concurrency", "5")
    tasks = [await desk.ended(run) for run in runs]
    assert {(task["status"], task["retryCount"], task["pollCount"]) for task in tasks} == {
        ("COMPLETED", 0, 1)
    }


async def test_a_second_sigterm_cuts_and_names_the_tasks(desk):
    worker = await desk.worker()
    run = await desk.start("probe_gate", {"gate": "never"})
    await desk.running([run], 1)
    worker.signal()
    await worker.says("stopping")
    worker.signal()
    assert await worker.exits() == 1
    task = await desk.task(run)
    assert task["status"] == "IN_PROGRESS"
    assert f"cut off: probe_gate {task['taskId']}" in worker.said()


async def test_the_drain_has_an_end(desk):
    worker = await desk.worker("--drain-timeout", "500ms")
    run = await desk.start("probe_gate", {"gate": "never"})
    await desk.running([run], 1)
    worker.signal()
    assert await worker.exits(within=10) == 1
    assert "cut off" in worker.said()


async def test_results_outlive_a_crash_of_conductor(desk, conductor: Conductor):
    worker = await desk.worker()
    runs = [await desk.start("probe_gate", {"gate": "gate"}) for _ in range(3)]
    await desk.running(runs, 3)
    conductor.kill()
    desk.open_gate()
    await worker.says("did not take the result")
    await asyncio.to_thread(conductor.resume)
    tasks = [await desk.ended(run) for run in runs]
    assert [(task["status"], task["outputData"]["attempt"]) for task in tasks] == [("COMPLETED", 1)] * 3
    after = await desk.start("probe_add", {"a": 1})
    assert (await desk.ended(after))["status"] == "COMPLETED"
    assert worker.said().count("does not answer") == 1


async def readiness(port: int) -> tuple[int, str]:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{port}/readyz") as answer,
    ):
        return answer.status, (await answer.json())["status"]


async def test_a_worker_waits_for_conductor_and_says_so_once(desk, relay):
    port, health = free_port(), free_port()
    worker = await desk.worker("--listen", f"127.0.0.1:{health}", url=f"http://127.0.0.1:{port}/api")
    await worker.says("does not answer")
    assert await readiness(health) == (503, "Conductor has not answered yet")
    await relay.listen(port)
    task = await desk.ended(await desk.start("probe_add", {"a": 1}))
    assert task["status"] == "COMPLETED"
    assert worker.said().count("does not answer") == 1
    assert await readiness(health) == (200, "ok")
    await relay.close()

    async def said() -> int:
        return worker.said().count("does not answer")

    await eventually(said, lambda seen: seen == 2)
    assert await readiness(health) == (200, "ok"), "no pod can mend an outage"


async def test_a_busy_worker_notices_that_conductor_is_back(desk, relay):
    """All its slots are busy, and the poll that shows it to Conductor has failed."""

    async def refuse(path, query):
        raise aiohttp.web.HTTPServiceUnavailable

    async def polls():
        return sum("/poll/batch/probe_gate" in path for path in relay.seen)

    code = "from podium_workers.runtime import backlog, main; backlog.PRESENCE_SECONDS = 0.5; main.main()"
    worker = await desk.worker(
        *("--concurrency", "1", "--tasks", "probe_gate"),
        url=await relay.listen(),
        program=("-c", code, "--no-builtin", "--functions", "probes"),
    )
    run = await desk.start("probe_gate", {"gate": "gate"})
    await desk.running([run], 1)
    relay.before = refuse
    await worker.says("does not answer")
    relay.before = None
    before = await polls()
    await eventually(polls, lambda seen: seen > before + 2)
    assert worker.said().count("connected to Conductor") == 2
    desk.open_gate()
    assert (await desk.ended(run))["status"] == "COMPLETED"


async def test_a_worker_stops_while_conductor_is_away(desk):
    worker = await desk.worker(url=f"http://127.0.0.1:{free_port()}/api")
    await worker.says("does not answer")
    worker.signal()
    assert await worker.exits(within=10) == 0


async def test_a_long_task_is_not_taken_for_lost(desk):
    await desk.worker()
    task = await desk.ended(await desk.start("probe_gate", {"seconds": 5.0}, response_timeout=2))
    assert (task["status"], task["outputData"]["attempt"], task["pollCount"]) == ("COMPLETED", 1, 1)


@pytest.mark.parametrize("silent", ["a sign of life", "the log"])
async def test_one_request_that_is_never_answered_costs_no_lease(desk, relay, silent):
    held, opened = [], asyncio.Event()

    async def hold(path, query):
        life, said = b"extendLease" in relay.body, path.endswith("/log")
        if not held and (life if silent == "a sign of life" else said):
            held.append(path)
            await opened.wait()

    relay.before = hold
    await desk.worker(url=await relay.listen())
    run = await desk.start("probe_chatty", {"seconds": 12.0}, response_timeout=4, retries=1)
    await eventually(lambda: desk.decided(run), lambda seen: seen["status"] != "RUNNING")
    task = await desk.ended(run)
    assert held
    assert (task["status"], task["outputData"], task["pollCount"]) == ("COMPLETED", {"attempt": 1}, 1)
    opened.set()


async def test_a_result_that_a_late_sign_of_life_undid_is_sent_again(desk, relay):
    """Conductor writes the task back as it has read it before; here it does not see the first result."""
    results, opened = [], asyncio.Event()

    async def between(path, query):
        if b"extendLease" in relay.body:
            await opened.wait()
        elif path == "/tasks":
            results.append(relay.body)
            if len(results) == 1:
                raise aiohttp.web.HTTPOk(text="taken")

    async def extensions():
        return relay.seen.count("/tasks")

    relay.before = between
    await desk.worker(url=await relay.listen())
    run = await desk.start("probe_gate", {"gate": "gate"}, response_timeout=12)
    await eventually(extensions, bool)
    desk.open_gate()
    task = await desk.ended(run)
    assert (task["status"], task["outputData"]["attempt"]) == ("COMPLETED", 1)
    assert len(results) == 2
    opened.set()


async def test_namespaces_are_apart(desk):
    other = f"{desk.domain}x"
    await desk.worker()
    theirs = await desk.start("probe_gate", domain=other)
    ours = await desk.start("probe_gate")
    assert (await desk.ended(ours))["outputData"]["domain"] == desk.domain
    assert (await desk.task(theirs))["status"] == "SCHEDULED"
    await desk.worker(domain=other)
    assert (await desk.ended(theirs))["outputData"]["domain"] == other


async def test_what_an_ingress_says_in_conductors_place_loses_no_result(desk, relay):
    """Without a backend it answers 404, in words of its own: a result would be dropped at once."""

    async def refuse(path, query):
        raise aiohttp.web.HTTPNotFound(text="404 page not found")

    worker = await desk.worker(url=await relay.listen())
    runs = [await desk.start("probe_gate", {"gate": "gate"}) for _ in range(2)]
    await desk.running(runs, 2)
    relay.before = refuse
    await worker.says("does not answer")
    desk.open_gate()
    await worker.says("did not take the result")
    relay.before = None
    assert {(await desk.ended(run))["status"] for run in runs} == {"COMPLETED"}
    assert "polling each queue instead" not in worker.said(), "an outage is no reason to stop looking"


async def test_a_worker_without_the_queue_sizes_still_works(desk, relay):
    """Another make of Conductor, or a proxy that lets only some calls through."""

    async def refuse(path, query):
        if "queue/sizes" in path:
            raise aiohttp.web.HTTPNotFound

    async def seen():
        return relay.seen[-20:]

    relay.before = refuse
    code = "from podium_workers.runtime import main, worker; worker.HIDDEN_SECONDS = 0.5; main.main()"
    worker = await desk.worker(
        url=await relay.listen(), program=("-c", code, "--no-builtin", "--functions", "probes")
    )
    assert (await desk.ended(await desk.start("probe_add", {"a": 1})))["status"] == "COMPLETED"
    await eventually(seen, lambda now: sum("queue/sizes" in path for path in now) == 1)
    assert worker.said().count("polling each queue instead") == 1
    relay.before = None
    await eventually(seen, lambda now: all("queue/sizes" in path for path in now))


FAILS_ONCE = """
from podium_workers.runtime import main, taskapi

faults = [ValueError("odd")]

async def poll(self, queue, count, poll=taskapi.TaskApi.poll):
    if count and faults:
        raise faults.pop()
    return await poll(self, queue, count)

taskapi.TaskApi.poll = poll
main.main()
"""


async def test_a_fault_in_a_poll_does_not_silence_its_queue(desk):
    worker = await desk.worker(program=("-c", FAILS_ONCE, "--no-builtin", "--functions", "probes"))
    assert (await desk.ended(await desk.start("probe_add", {"a": 1})))["status"] == "COMPLETED"
    assert worker.said().count("a fault of the runtime in a poll") == 1


async def test_an_idle_worker_asks_little(desk, relay):
    worker = await desk.worker(url=await relay.listen())
    await worker.says("connected")
    await desk.ended(await desk.start("probe_add", {"a": 1}))
    before = len(relay.seen)
    await asyncio.sleep(2)  # a rate needs a time
    assert len(relay.seen) - before < 40
