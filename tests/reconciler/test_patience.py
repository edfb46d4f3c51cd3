"""What goes on for ever goes on, whatever one turn of it comes to."""

import asyncio
import contextlib

import pytest

from podium.ports import RetryLater
from podium.reconciler.patience import every


@pytest.mark.parametrize("error", [RetryLater("away"), KeyError("a bug")])
async def test_a_job_that_fails_has_its_next_turn(error: Exception) -> None:
    turns, again = 0, asyncio.Event()

    async def job() -> None:
        nonlocal turns
        turns += 1
        if turns == 1:
            raise error
        again.set()

    going = asyncio.create_task(every(0.001, job))
    async with asyncio.timeout(10):
        await again.wait()
    going.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await going
