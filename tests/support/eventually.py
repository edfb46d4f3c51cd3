"""Waiting for a condition, never for a time."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


async def eventually(
    look: Callable[[], Awaitable[T]],
    until: Callable[[T], object],
    *,
    within: float = 30.0,
    every: float = 0.05,
) -> T:
    """Look until what is seen is as wanted; it. Fails with what was seen last."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within
    while True:
        seen = await look()
        if until(seen):
            return seen
        if loop.time() > deadline:
            raise AssertionError(f"not within {within} s; seen last: {seen!r}")
        await asyncio.sleep(every)
