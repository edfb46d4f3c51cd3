"""A queue of keys: each at most once, after a delay if asked, with back-off for what fails."""

import asyncio
import contextlib
import heapq
import itertools
import random
from collections.abc import Callable

from podium.ports import Key

_BASE_BACKOFF = 0.2
_LONGEST_BACKOFF = 60.0
_SUPERSEDED = 64


class KeyedQueue:
    """Keys that want to be looked at.

    A key that is added twice is taken once; one that is added while it is worked on is taken again
    afterwards; the earlier of two delays wins. Nothing here is lost or run twice at the same time.
    """

    def __init__(self, monotonic: Callable[[], float], seed: int | None = None) -> None:
        """`monotonic`: seconds, as asyncio's loop time. `seed`: of the jitter."""
        self._now = monotonic
        self._random = random.Random(seed)
        self._heap: list[tuple[float, int, Key]] = []
        self._due: dict[Key, float] = {}
        self._working: set[Key] = set()
        self._again: dict[Key, float] = {}
        self._failures: dict[Key, int] = {}
        self._order = itertools.count()
        self._changed = asyncio.Event()

    def __len__(self) -> int:
        """Keys waiting, those with a delay included."""
        return len(self._due) + len(self._again)

    @property
    def due(self) -> int:
        """Keys whose time has come, those being worked on included."""
        now = self._now()
        return len(self._working) + sum(due <= now for due in self._due.values())

    def add(self, key: Key, delay: float = 0.0) -> None:
        """Have the key looked at in `delay` seconds at the latest."""
        due = self._now() + delay
        if key in self._working:
            self._again[key] = min(due, self._again.get(key, due))
            return
        if key in self._due and self._due[key] <= due:
            return
        self._due[key] = due
        if len(self._heap) > 2 * len(self._due) + _SUPERSEDED:
            # An earlier time leaves the later one behind, which may be days away.
            self._heap = [(at, next(self._order), known) for known, at in self._due.items()]
            heapq.heapify(self._heap)
        else:
            heapq.heappush(self._heap, (due, next(self._order), key))
        self._changed.set()

    async def take(self) -> Key:
        """The next key that is due; it is being worked on until `done`."""
        while True:
            self._changed.clear()
            while self._heap and self._due.get(self._heap[0][2]) != self._heap[0][0]:
                heapq.heappop(self._heap)  # superseded by an earlier time
            if self._heap:
                due, _, key = self._heap[0]
                wait = due - self._now()
                if wait <= 0:
                    heapq.heappop(self._heap)
                    del self._due[key]
                    self._working.add(key)
                    return key
            else:
                wait = None
            # Not wait_for: before Python 3.12 it can swallow a cancellation that comes with the event.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._changed.wait()

    def hasten(self, within: float) -> None:
        """What failed may work now: have it looked at in so many seconds, each at a moment of its own."""
        for key in list(self._failures):
            if key in self._due:
                self.add(key, self._random.uniform(0.0, within))

    def done(
        self, key: Key, *, again_after: float | None = None, failed: bool = False, rest: float = 0.0
    ) -> None:
        """The work on a key has ended; a failure is repeated with growing, jittered delay.

        `rest`: seconds that it is left alone at least, because a server asked for that.
        """
        self._working.discard(key)
        if failed:
            failures = self._failures[key] = self._failures.get(key, 0) + 1
            backoff = min(_LONGEST_BACKOFF, _BASE_BACKOFF * 2 ** min(failures - 1, 10))
            again_after = max(backoff * self._random.uniform(0.7, 1.3), rest * self._random.uniform(1.0, 1.5))
        else:
            self._failures.pop(key, None)
        if again_after is not None:
            self.add(key, again_after)
        if (due := self._again.pop(key, None)) is not None:
            self.add(key, max(0.0, due - self._now()))
