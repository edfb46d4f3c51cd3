"""Follows runs in Conductor: notices are hints that wake it, a sweep is the truth.

No request per run: what moved is found by two searches over the time of change, and read in bulk.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable, Iterator

from podium.ports import Conductor, Key, NotSent, PortError, RunSeen

log = logging.getLogger(__name__)

_READ_AT_ONCE = 50
# Where no search tells what moved: so many in a sweep, in turn.
_READ_IN_TURN = 50
# Notices of one change come in a burst; a read shortly after serves them all.
_GATHER = 0.03
# A big run's answer is megabytes: it is not read more often than this, but for its end.
_BIG_RUN_TASKS = 200
# Seconds of rest for each task: a second at 200 tasks, ten at 2,000, and no longer.
_REST_PER_TASK = 0.005
_LONGEST_REST = 10.0
# The server's index may be behind its clock, and changes may carry the same millisecond.
_OVERLAP_MS = 5_000
_END_TRIES = 5
# More in one sweep than this are not looked at one by one.
_MOST_MOVED = 5_000


class RunTracker:
    """Views of the runs that are watched, and the keys of those that moved."""

    def __init__(
        self,
        conductor: Conductor,
        wake: Callable[[Key], None],
        *,
        sweep_interval: float,
        stranger: Callable[[str, str], None],
    ) -> None:
        """`wake(key)`: a watched run moved. `stranger(correlation id, workflow id)`: an unknown one did."""
        self._conductor = conductor
        self._wake = wake
        self._stranger = stranger
        self._sweep_interval = sweep_interval
        self._keys: dict[str, Key] = {}
        self._views: dict[str, RunSeen] = {}
        self._absent: set[str] = set()
        self._stale: dict[str, float] = {}
        self._resting: dict[str, float] = {}
        self._ending: dict[str, int] = {}
        self._swept: dict[tuple[str, int], None] = {}
        self._watermark_ms = 0
        self._at_once = _READ_AT_ONCE
        self._turn = 0
        self._work = asyncio.Event()
        self.sweeps = 0
        self.notices = 0
        self.last_error = ""

    def watch(self, workflow_id: str, key: Key) -> None:
        """Follow a run; the first view comes with the next read."""
        if self._keys.get(workflow_id) != key:
            self._keys[workflow_id] = key
            self.refresh(workflow_id)

    def forget(self, workflow_id: str) -> None:
        """Nobody asks for this run any more."""
        self._keys.pop(workflow_id, None)
        self._views.pop(workflow_id, None)
        self._absent.discard(workflow_id)
        self._stale.pop(workflow_id, None)
        self._resting.pop(workflow_id, None)

    def forget_key(self, key: Key) -> None:
        """The object is gone from the cluster."""
        for workflow_id in [known for known, whose in self._keys.items() if whose == key]:
            self.forget(workflow_id)

    def settle(self, workflow_id: str) -> None:
        """It ended and its end is written: keep listening, but drop the view."""
        self._views.pop(workflow_id, None)

    def is_watched(self, workflow_id: str) -> bool:
        """Whether this run is known."""
        return workflow_id in self._keys

    def view(self, workflow_id: str) -> RunSeen | str | None:
        """The latest view; "Absent" if Conductor does not have it; None if it was not read yet."""
        if workflow_id in self._absent:
            return "Absent"
        return self._views.get(workflow_id)

    def active(self) -> Iterator[tuple[Key, RunSeen]]:
        """The runs that have not ended, as they were seen last."""
        for workflow_id, view in self._views.items():
            if view.state in ("RUNNING", "PAUSED") and (key := self._keys.get(workflow_id)):
                yield key, view

    def put(self, workflow_id: str, view: RunSeen | None) -> None:
        """A view that someone else read."""
        if view is None:
            self._views.pop(workflow_id, None)
            self._absent.add(workflow_id)
        else:
            self._absent.discard(workflow_id)
            self._views[workflow_id] = view

    def refresh(self, workflow_id: str) -> None:
        """Its view is old: read it with the next bulk read. A big run has its rest first, but for its end."""
        due = asyncio.get_running_loop().time()
        if workflow_id not in self._ending:
            due = max(due, self._resting.get(workflow_id, due))
        self._stale[workflow_id] = min(due, self._stale.get(workflow_id, due))
        self._work.set()

    def notice(self, workflow_id: str, *, ended: bool) -> None:
        """Conductor says that this run moved (a hint: it may be late, doubled or lost)."""
        self.notices += 1
        if workflow_id not in self._keys:
            return
        if ended:
            self._ending[workflow_id] = _END_TRIES
        self.refresh(workflow_id)

    async def run(self) -> None:
        """Sweep and read until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._sweep_for_ever(), name="sweep")
            tasks.create_task(self._read_for_ever(), name="read")

    def refresh_all(self) -> None:
        """Read every active run again: after a start, and from time to time as an audit."""
        for workflow_id in self._keys:
            if workflow_id in self._views or workflow_id in self._absent:
                self.refresh(workflow_id)

    async def _sweep_for_ever(self) -> None:
        while True:
            await asyncio.sleep(self._sweep_interval)
            if not self._keys:
                # What others do meanwhile is no matter of ours, however much it is.
                self._watermark_ms = 0
                continue
            try:
                await self.sweep()
                self.last_error = ""
            except PortError as error:
                if not self.last_error:
                    log.warning("cannot look for runs that moved: %s", error)
                self.last_error = str(error)
                if not isinstance(error, NotSent):
                    # The server is there, its search is not: its index may have a store of its own.
                    self._read_in_turn()
            except Exception:
                log.exception("a bug in looking for runs that moved")
                self._read_in_turn()

    async def sweep(self) -> None:
        """Find the runs that moved since the last sweep, and have them read."""
        if not self._watermark_ms:
            await self._begin_sweeping()
            return
        since_ms = max(0, self._watermark_ms - _OVERLAP_MS)
        moved = await self._conductor.list_moved(since_ms, most=_MOST_MOVED)
        self.sweeps += 1
        if moved is None:
            self._read_in_turn()
            return
        if len(moved) >= _MOST_MOVED:
            # After an outage of a busy server: what is watched is read sooner than what moved, and also
            # what had ended, for it may have been set going again.
            await self._begin_sweeping()
            for workflow_id in self._keys:
                self.refresh(workflow_id)
            return
        swept: dict[tuple[str, int], None] = {}
        for item in moved:
            mark = (item.workflow_id, item.at_ms)
            swept[mark] = None
            self._watermark_ms = max(self._watermark_ms, item.at_ms)
            if mark in self._swept:
                continue
            if item.workflow_id in self._keys:
                self.refresh(item.workflow_id)
            else:
                self._stranger(item.correlation_id, item.workflow_id)
        self._swept = swept

    async def _begin_sweeping(self) -> None:
        """From now on: the history of the server, which may be long, is not read for that."""
        last_ms = await self._conductor.find_last_move()
        self.sweeps += 1
        if not last_ms:
            # Runs are watched, so something has moved: this server keeps no index.
            self._read_in_turn()
            return
        self._watermark_ms, self._swept = last_ms, {}
        self.refresh_all()

    def _read_in_turn(self) -> None:
        active = list(self._views)
        if not active:
            return
        begin = self._turn % len(active)
        for workflow_id in (active[begin:] + active[:begin])[:_READ_IN_TURN]:
            self.refresh(workflow_id)
        self._turn = begin + _READ_IN_TURN

    async def _read_for_ever(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            if not self._stale:
                self._work.clear()
                await self._work.wait()
                await asyncio.sleep(_GATHER)
                continue  # what was stale may have been forgotten meanwhile
            now = loop.time()
            due = [workflow_id for workflow_id, at in self._stale.items() if at <= now][: self._at_once]
            if not due:
                self._work.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(max(0.01, min(self._stale.values()) - now)):
                        await self._work.wait()
                        await asyncio.sleep(_GATHER)
                continue
            for workflow_id in due:
                del self._stale[workflow_id]
            try:
                views = await self._conductor.get_runs(due)
                self._take_in(views.items())
            except Exception as error:
                if isinstance(error, PortError):
                    log.debug("cannot read %s runs: %s", len(due), error)
                else:
                    log.exception("a bug in reading %s runs", len(due))
                for workflow_id in due:
                    self._stale.setdefault(workflow_id, loop.time() + 1.0)
                if not isinstance(error, NotSent):
                    # Perhaps it was too much for the time that an answer has.
                    self._at_once = max(1, len(due) // 2)
                await asyncio.sleep(0.5)
                continue
            self._at_once = min(_READ_AT_ONCE, self._at_once * 2)

    def _take_in(self, views: Iterable[tuple[str, RunSeen | None]]) -> None:
        now = asyncio.get_running_loop().time()
        for workflow_id, view in views:
            key = self._keys.get(workflow_id)
            if key is None:
                continue
            tries = self._ending.pop(workflow_id, 0)
            if view is not None and view.state in ("RUNNING", "PAUSED") and tries > 1:
                # The notice of the end was quicker than the store: look again at once.
                self._ending[workflow_id] = tries - 1
                self._stale.setdefault(workflow_id, now + 0.05)
            if view is not None and len(view.tasks) > _BIG_RUN_TASKS:
                self._resting[workflow_id] = now + min(_LONGEST_REST, _REST_PER_TASK * len(view.tasks))
            before = self.view(workflow_id)
            self.put(workflow_id, view)
            if before != self.view(workflow_id):
                self._wake(key)
