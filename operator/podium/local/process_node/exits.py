"""Tells when processes end: one look at all of them in turn, instead of a thread for each."""

from __future__ import annotations

import asyncio
import contextlib

from podium.local.processes import Process

_LOOK_EVERY = 0.05


class Exits:
    """Its `watch` runs as a task for as long as processes are awaited."""

    def __init__(self) -> None:
        self._awaited: dict[Process, asyncio.Future[int]] = {}

    def of(self, process: Process) -> asyncio.Future[int]:
        """Will hold the exit code, 128 + n if signal n ended it."""
        return self._awaited.setdefault(process, asyncio.get_running_loop().create_future())

    async def watch(self) -> None:
        while True:
            for process, ended in list(self._awaited.items()):
                code = process.exit_code
                if code is not None:
                    del self._awaited[process]
                    process.wait()  # closes its leash
                    with contextlib.suppress(asyncio.InvalidStateError):
                        ended.set_result(code)
            await asyncio.sleep(_LOOK_EVERY)
