"""How jobs end: a wait for the stop, a job that the stop cuts short, the first that ends, all of them."""

import asyncio
import logging
from collections.abc import Awaitable

log = logging.getLogger(__name__)


async def wait_for(stop: asyncio.Event) -> None:
    """Until it is set."""
    await stop.wait()


async def unless(stop: asyncio.Event, job: Awaitable[None]) -> None:
    """Wait for the job or for the stop, whichever is first."""
    working = asyncio.ensure_future(job)
    stopping = asyncio.ensure_future(stop.wait())
    await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
    for task in (working, stopping):
        task.cancel()
    await asyncio.gather(working, stopping, return_exceptions=True)


async def pass_on(stop: asyncio.Event, over: asyncio.Event) -> None:
    """Set `over` once `stop` is set."""
    await unless(over, wait_for(stop))
    over.set()


async def first_end(tasks: list[asyncio.Task[None]], over: asyncio.Event) -> int:
    """Wait until the first of them ends; the exit code: 1 if it should not have ended."""
    code = 0
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        if (error := task.exception()) is not None:
            log.error("%s ended: %r", task.get_name(), error)
            code = 1
        elif not over.is_set():
            log.error("%s ended by itself", task.get_name())
            code = 1
    return code


async def end(tasks: list[asyncio.Task[None]]) -> None:
    """Cancel them and wait until all have ended."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
