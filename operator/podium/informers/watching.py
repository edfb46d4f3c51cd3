"""Runs kopf in a thread and an event loop of its own.

kopf ends by cancelling every task that was born in its loop after it began; in a loop that it
shares, those would be ours too.
"""

import asyncio
import functools
import threading
from collections.abc import Callable
from typing import Any

import kopf

from podium.informers.handlers import build_registry
from podium.ports import Json, Key


async def watch(
    on_object: Callable[[Key, Json], None],
    on_gone: Callable[[Key], None],
    *,
    connection: Callable[[], kopf.ConnectionInfo],
    namespaces: tuple[str, ...],
) -> None:
    """Watch until cancelled, calling back in this loop. Raises what ends kopf, if it ends by itself."""
    loop = asyncio.get_running_loop()
    stop = threading.Event()

    def here(callback: Callable[..., None], *arguments: Any) -> None:
        if not stop.is_set():
            loop.call_soon_threadsafe(functools.partial(callback, *arguments))

    registry = build_registry(
        functools.partial(here, on_object), functools.partial(here, on_gone), connection=connection
    )

    def run() -> None:
        asyncio.run(
            kopf.operator(
                registry=registry,
                standalone=True,
                clusterwide=not namespaces,
                namespaces=list(namespaces),
                stop_flag=stop,
            )
        )

    ended = loop.create_future()

    def run_and_tell() -> None:
        error: BaseException | None = None
        try:
            run()
        except BaseException as raised:  # noqa: BLE001 - whatever ends it must be known outside
            error = raised
        if not loop.is_closed():
            loop.call_soon_threadsafe(_settle, ended, error)

    threading.Thread(target=run_and_tell, name="kopf", daemon=True).start()
    try:
        await asyncio.shield(ended)
    finally:
        stop.set()
        if not ended.done():
            await asyncio.wait({ended}, timeout=2.0)


def _settle(ended: "asyncio.Future[None]", error: BaseException | None) -> None:
    if ended.done():
        return
    if error is None:
        ended.set_result(None)
    else:
        ended.set_exception(RuntimeError(f"kopf ended: {error!r}"))
