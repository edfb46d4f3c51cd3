"""Runs kopf in a thread and an event loop of its own.

kopf ends by cancelling every task that was born in its loop after it began; in a loop that it
shares, those would be ours too.
"""

import asyncio
import functools
import logging
import random
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import kopf

from podium.informers.handlers import build_registry
from podium.ports import Json, Key

log = logging.getLogger(__name__)

# Seconds before an ended watch is begun again; a long life makes the next pause short again.
_SHORTEST_PAUSE = 0.5
_LONGEST_PAUSE = 5.0
_LONG_ENOUGH = 30.0


async def watch(
    on_object: Callable[[Key, Json], None],
    on_gone: Callable[[Key], None],
    *,
    connection: Callable[[], Awaitable[kopf.ConnectionInfo]],
    namespaces: tuple[str, ...],
    restart: asyncio.Event,
    on_restart: Callable[[], None],
) -> None:
    """Watch until cancelled, calling back in this loop.

    If kopf ends by itself it is begun again, each time a little later, up to a few seconds; and at once
    when `restart` is set. `on_restart()`: that happened. It then lists everything, so nothing is missed
    but deletions.
    """
    pause = _SHORTEST_PAUSE
    while True:
        restart.clear()
        begun = asyncio.get_running_loop().time()
        error = await _watch_once(on_object, on_gone, connection, namespaces, restart)
        on_restart()
        if asyncio.get_running_loop().time() - begun > _LONG_ENOUGH:
            pause = _SHORTEST_PAUSE
        if error is not None:
            log.warning("the watch ended: %r; beginning it again in %.1f s", error, pause)
            await asyncio.sleep(random.uniform(pause / 2, pause))
            pause = min(_LONGEST_PAUSE, pause * 2)


async def _watch_once(
    on_object: Callable[[Key, Json], None],
    on_gone: Callable[[Key], None],
    connection: Callable[[], Awaitable[kopf.ConnectionInfo]],
    namespaces: tuple[str, ...],
    restart: asyncio.Event,
) -> BaseException | None:
    """One kopf, until it ends (its error) or is to be begun again (None)."""
    loop = asyncio.get_running_loop()
    stop = threading.Event()

    def here(callback: Callable[..., None], *arguments: Any) -> None:
        if not stop.is_set():
            loop.call_soon_threadsafe(functools.partial(callback, *arguments))

    registry = build_registry(
        functools.partial(here, on_object), functools.partial(here, on_gone), connection=connection
    )
    ended: asyncio.Future[BaseException] = loop.create_future()

    async def operate() -> None:
        try:
            await kopf.operator(
                registry=registry,
                standalone=True,
                clusterwide=not namespaces,
                namespaces=list(namespaces),
                stop_flag=stop,
            )
        finally:
            # kopf waits for the flag in a thread of its loop, which would not end before it is set.
            stop.set()

    def run() -> None:
        try:
            asyncio.run(operate())
            error: BaseException = RuntimeError("it ended by itself")
        except BaseException as raised:  # noqa: BLE001 - whatever ends it must be known outside
            error = raised
        if not loop.is_closed():
            loop.call_soon_threadsafe(_settle, ended, error)

    threading.Thread(target=run, name="kopf", daemon=True).start()
    asked = asyncio.create_task(restart.wait())
    try:
        either: set[asyncio.Future[Any]] = {ended, asked}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        return ended.result() if ended.done() else None
    finally:
        asked.cancel()
        stop.set()
        if not ended.done():
            await asyncio.wait({ended}, timeout=2.0)


def _settle(ended: "asyncio.Future[BaseException]", error: BaseException) -> None:
    if not ended.done():
        ended.set_result(error)
