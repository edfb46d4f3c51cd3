"""The loop goes on whatever one object does, and ends when it is told to."""

import asyncio

from podium.ports import Conflict, Gone, Key, RetryLater
from podium.reconciler.loop import work
from podium.reconciler.queue import KeyedQueue

KEYS = [Key("WorkflowRun", "studio", f"r{number}") for number in range(8)]


async def test_it_ends_even_if_a_key_comes_in_the_moment_of_its_end() -> None:
    """Before Python 3.12 `asyncio.wait_for` swallows such a cancellation: the operator never ended."""
    loop = asyncio.get_running_loop()

    async def reconcile(key: Key) -> None:
        return None

    for ticks in range(6):
        for _ in range(20):
            queue = KeyedQueue(loop.time)
            queue.add(KEYS[0], delay=60)
            working = asyncio.create_task(work(queue, {"WorkflowRun": reconcile}, at_once=4))
            for _ in range(5):
                await asyncio.sleep(0)
            for key in KEYS[1:]:
                queue.add(key)
            for _ in range(ticks):
                await asyncio.sleep(0)
            working.cancel()
            _, hanging = await asyncio.wait({working}, timeout=5)
            assert not hanging, f"cancelled {ticks} ticks after a key came"


async def test_what_fails_is_tried_again_and_stops_nothing_else() -> None:
    loop = asyncio.get_running_loop()
    queue = KeyedQueue(loop.time, seed=1)
    errors = [Conflict("newer"), RetryLater("away"), ValueError("a bug"), None]
    seen: list[str] = []
    ended = asyncio.Event()

    async def reconcile(key: Key) -> None:
        seen.append(key.name)
        if key == KEYS[1]:
            raise Gone("deleted meanwhile")
        if key == KEYS[0] and (error := errors.pop(0)) is not None:
            raise error
        if key == KEYS[0]:
            ended.set()

    for key in KEYS[:3]:
        queue.add(key)
    working = asyncio.create_task(work(queue, {"WorkflowRun": reconcile}, at_once=1))
    async with asyncio.timeout(10):
        await ended.wait()
    working.cancel()
    await asyncio.wait({working})
    assert seen.count("r0") == 4
    assert seen.count("r1") == 1
    assert seen.count("r2") == 1
