"""What a worker's pod says of itself: whatever it says, a load or one kind of error comes of it."""

import asyncio
from datetime import UTC, datetime

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from podium.adapters.workers import HttpWorkers, parse_load
from podium.ports import RetryLater, WorkerLoad
from support.fakes import FakeClock

NOW = datetime(2026, 1, 1, tzinfo=UTC)
NUMBERS = st.one_of(st.floats().map(str), st.sampled_from(["+Inf", "NaN", "-5", "1e300", "x", ""]))


def page(busy: str, running: str = "1", polled: str = "1.7e9") -> str:
    return (
        f"podium_worker_busy {busy}\n"
        f'podium_worker_running{{task_type="resize"}} {running}\n'
        f'podium_worker_last_poll_timestamp_seconds{{task_type="resize"}} {polled}\n'
    )


def test_a_page_is_read() -> None:
    load = parse_load(page("3") + "podium_worker_draining 1\n", NOW)
    assert (load.busy, load.draining, dict(load.running)) == (3, True, {"resize": 1})


@given(NUMBERS, NUMBERS, NUMBERS)
def test_no_number_makes_more_than_an_answer_that_is_no_use(busy: str, running: str, polled: str) -> None:
    try:
        load = parse_load(page(busy, running, polled), NOW)
    except RetryLater:
        return
    assert min([load.busy, *load.running.values()]) >= 0


async def read(parts: list[bytes]) -> WorkerLoad:
    """The load of a worker whose page comes in these parts."""

    async def metrics(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        for part in parts:
            await answer.write(part)
            await asyncio.sleep(0.02)
        return answer

    application = web.Application()
    application.router.add_get("/metrics", metrics)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        async with HttpWorkers(FakeClock(), port=runner.addresses[0][1]) as workers:
            return await workers.read_load("127.0.0.1")
    finally:
        await runner.cleanup()


async def test_a_page_that_comes_in_parts_is_read_whole() -> None:
    load = await read(
        [
            b"podium_worker_busy 2\n",
            b'podium_worker_running{task_type="a"} 2\n',
            b"podium_worker_draining 1\n",
        ]
    )
    assert (load.busy, load.draining, dict(load.running)) == (2, True, {"a": 2})


async def test_a_page_without_end_is_refused() -> None:
    with pytest.raises(RetryLater, match="longer than"):
        await read([b"# filler\n" * 20_000] * 8)
