"""Which queue to ask next, and for how many tasks. Pure: time comes in as `now` (seconds, monotonic)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from podium_workers.runtime.task import Queue

FIRST_PAUSE = 0.1
PRESENCE_SECONDS = 25.0


@dataclass
class _State:
    depth: int = 0
    """What is believed to wait: the last look, less what was taken since."""
    floor: int = 0
    """So many were seen and could not be had: delayed retries, tasks above a limit, paused runs."""
    pause: float = 0.0
    not_before: float = 0.0
    asked_at: float = float("-inf")
    asking: bool = False


class Backlog:
    """What waits in a worker's queues.

    `saw` takes the depths in, `share` deals out free slots, `answered` says what came of it. A queue that
    was not asked for 25 s is asked even if it seems empty: Conductor tells who serves a task type from
    polls, and a depth may be wrong.
    """

    def __init__(
        self, queues: Iterable[Queue], poll_interval: float, cpu_bound: Iterable[Queue] = ()
    ) -> None:
        """`cpu_bound`: those whose tasks need a process beside a slot."""
        self._states = {queue: _State() for queue in queues}
        self._cpu_bound = frozenset(cpu_bound)
        self._poll_interval = poll_interval

    @property
    def queues(self) -> list[Queue]:
        return list(self._states)

    def saw(self, depths: Mapping[Queue, int]) -> None:
        """Depths as just read from Conductor."""
        for queue, depth in depths.items():
            state = self._states[queue]
            if state.asking:
                continue  # read before or after the poll took some? Its answer tells
            if depth > state.floor:
                state.pause = state.not_before = 0.0
            state.floor = min(state.floor, depth)
            state.depth = depth

    def share(self, free: int, now: float, processes: int = 0) -> list[tuple[Queue, int]]:
        """Deals `free` slots to the queues with work, one each in turn, the longest unasked first.

        A task of a cpu_bound queue takes one of the free `processes` too: one that would wait for a
        process here is better left to another worker. A (queue, 0) in the result asks for nothing and only
        shows that we are there. Each queue in the result counts as being asked until `answered`.
        """
        shares: dict[Queue, int] = {}

        def deal(queue: Queue, most: int) -> bool:
            nonlocal free, processes
            bound = queue in self._cpu_bound
            if free <= 0 or (bound and processes <= 0) or shares.get(queue, 0) >= most:
                return False
            shares[queue] = shares.get(queue, 0) + 1
            free -= 1
            processes -= bound
            return True

        ready = [
            (queue, state)
            for queue, state in sorted(self._states.items(), key=lambda item: item[1].asked_at)
            if not state.asking and state.depth > 0 and state.not_before <= now
        ]
        dealt = 1
        while dealt:  # each queue has its turn, then all again
            dealt = sum(deal(queue, state.depth) for queue, state in ready)
        for queue, state in self._states.items():
            if (
                queue not in shares
                and not state.asking
                and now - state.asked_at >= PRESENCE_SECONDS
                and not deal(queue, 1)
            ):
                shares[queue] = 0
        for queue in shares:
            self._states[queue].asking = True
            self._states[queue].asked_at = now
        return list(shares.items())

    def answered(self, queue: Queue, asked: int, got: int, now: float) -> None:
        """The poll brought `got` of the `asked` tasks."""
        state = self._states[queue]
        state.asking = False
        if asked == 0:
            return
        if got:
            state.pause = state.not_before = 0.0
        if got == asked:
            state.depth = max(0, state.depth - got)
            return
        # The rest of what was seen is someone else's now, or may not be had yet: less and less often.
        state.floor = max(0, state.depth - got)
        state.depth = 0
        if state.floor and not got:
            state.pause = min(self._poll_interval, max(FIRST_PAUSE, state.pause * 2))
            state.not_before = now + state.pause

    def failed(self, queue: Queue) -> None:
        """The poll had no answer."""
        self._states[queue].asking = False

    def next_at(self, now: float) -> float:
        """When the next pause of a queue with work ends: later than `now`, or infinity.

        A queue that might be asked already, and is not, waits for something else: a process, or Conductor.
        """
        times = (
            state.not_before
            for state in self._states.values()
            if state.depth > 0 and not state.asking and state.not_before > now
        )
        return min(times, default=float("inf"))
