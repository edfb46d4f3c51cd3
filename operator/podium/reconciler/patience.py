"""Jobs that another side may fail at: tried until they work, or again and again by the clock."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from podium.ports import PortError

log = logging.getLogger(__name__)

T = TypeVar("T")


async def first(what: str, job: Callable[[], Awaitable[T]], over: asyncio.Event) -> T | None:
    """Something that must work once before anything else can; None if it is over before."""
    told = False
    while not over.is_set():
        try:
            return await job()
        except PortError as error:
            if not told:
                log.warning("cannot %s yet: %s", what, error)
                told = True
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await over.wait()
    return None


async def every(interval: float, job: Callable[[], Awaitable[None]]) -> None:
    """Every `interval` seconds, until cancelled."""
    while True:
        await asyncio.sleep(interval)
        try:
            await job()
        except PortError as error:
            log.warning("%s: %s; trying again in %s s", job.__name__.strip("_"), error, interval)
        except Exception:
            log.exception("%s: a bug; trying again in %s s", job.__name__.strip("_"), interval)
