"""Jobs that another side may fail at: tried until they work, or again and again by the clock."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from podium.ports import PortError

log = logging.getLogger(__name__)

T = TypeVar("T")


async def first(what: str, job: Callable[[], Awaitable[T]], stop: asyncio.Event) -> T:
    """Something that must work once before anything else can; the API server may still be away."""
    told = False
    while True:
        try:
            return await job()
        except PortError as error:
            if not told:
                log.warning("cannot %s yet: %s", what, error)
                told = True
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await stop.wait()
            if stop.is_set():
                raise


async def every(interval: float, job: Callable[[], Awaitable[None]]) -> None:
    """Every `interval` seconds, until cancelled."""
    while True:
        await asyncio.sleep(interval)
        try:
            await job()
        except PortError as error:
            log.warning("%s: %s; trying again in %s s", job.__name__.strip("_"), error, interval)


async def unless(stop: asyncio.Event, job: Awaitable[None]) -> None:
    """Wait for the job or for the stop, whichever is first."""
    working = asyncio.ensure_future(job)
    stopping = asyncio.ensure_future(stop.wait())
    await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
    for task in (working, stopping):
        task.cancel()
    await asyncio.gather(working, stopping, return_exceptions=True)


async def wait_for(stop: asyncio.Event) -> None:
    """Until it is set."""
    await stop.wait()


async def end(tasks: list[asyncio.Task[None]]) -> None:
    """Cancel them and wait until all have ended."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
