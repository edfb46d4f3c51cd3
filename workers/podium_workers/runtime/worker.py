"""The worker's loop: looks what waits, takes what it can start, and on a stop finishes what it has."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from podium_workers.runtime.backlog import Backlog
from podium_workers.runtime.execution import Execution, Resources
from podium_workers.runtime.metrics import WorkerMetrics
from podium_workers.runtime.processes import Processes
from podium_workers.runtime.registry import Function
from podium_workers.runtime.settings import Settings
from podium_workers.runtime.task import Queue, Task
from podium_workers.runtime.taskapi import Hidden, Refused, TaskApi, Unavailable
from podium_workers.services.references import References, Sources

BUSY_LOOK = 0.1
LONGEST_LOOK = 1.0
IDLE_SHARE = 1 / 40
LONGEST_OUTAGE_PAUSE = 5.0
STUCK_AFTER = 60.0
DRAIN_LOOK = 0.5
HIDDEN_SECONDS = 60.0
EXHAUSTED_AFTER = 60.0
log = logging.getLogger(__name__)


class Worker:
    """Serves `functions` with `settings.concurrency` slots, which all its queues share.

    One look reads the depths of all queues with one request (ten a second at work, one when idle for long;
    a held long poll per queue would reserve a slot each, and one of Conductor's threads). A slot is
    reserved before a poll, and is free again when Conductor has the result. Must be made inside of an
    event loop.
    """

    def __init__(
        self,
        functions: Iterable[Function],
        settings: Settings,
        api: TaskApi,
        metrics: WorkerMetrics,
        secrets: Iterable[str] = (),
        references: References | None = None,
    ) -> None:
        self._functions: Mapping[str, Function] = {function.name: function for function in functions}
        self._settings = settings
        self._api = api
        self._metrics = metrics
        self._processes = Processes(settings.processes, settings.setup)
        self._resources = Resources(
            api=api,
            settings=settings,
            metrics=metrics,
            threads=ThreadPoolExecutor(settings.concurrency, thread_name_prefix="task"),
            processes=self._processes,
            references=references or References(Sources()),
            secrets=tuple(secrets),
        )
        queues = [Queue(name, domain) for name in self._functions for domain in settings.domains]
        cpu_bound = [queue for queue in queues if self._functions[queue.task_type].cpu_bound]
        self._backlog = Backlog(queues, settings.poll_interval, cpu_bound)
        self._free = settings.concurrency
        self._busy = 0
        self._held_since: float | None = None
        self._exhausted = False
        self._free_processes = settings.processes
        self._executions: dict[asyncio.Task[None], Execution] = {}
        self._polls: set[asyncio.Task[None]] = set()
        self._look: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._stopping = False
        self._turned_at = time.monotonic()
        self._active_at = time.monotonic()
        self._look_at = 0.0
        self._outage = 0
        self._connected = False
        self._met = False
        self._by_depth_at = 0.0
        self._hidden = False

    @property
    def connected(self) -> bool:
        """Conductor answered the last request."""
        return self._connected

    @property
    def met(self) -> bool:
        """Conductor has answered at least once."""
        return self._met

    @property
    def stopping(self) -> bool:
        return self._stopping

    @property
    def stuck(self) -> bool:
        """The loop has not turned for a minute: something blocks the process."""
        return time.monotonic() - self._turned_at > STUCK_AFTER

    @property
    def unfinished(self) -> list[Execution]:
        """The tasks that it has, and whose results Conductor has not and would take."""
        return [execution for execution in self._executions.values() if not execution.overdue]

    @property
    def overdue(self) -> list[Execution]:
        """Functions that still run though Conductor has ended their attempts."""
        return [execution for execution in self._executions.values() if execution.overdue]

    @property
    def exhausted(self) -> bool:
        """It has stopped by itself: such functions hold all slots, and only a new process has others."""
        return self._exhausted

    def stop(self) -> None:
        """No more polls; `run` returns when all that was taken is finished. For the loop's thread."""
        self._stopping = True
        self._metrics.draining.set(1)
        self._wake.set()

    async def run(self) -> None:
        """Works until `stop`, and then until nothing is left."""
        try:
            while not self._stopping:
                now = self._turned_at = time.monotonic()
                self._wake.clear()
                if self._outage and now < self._look_at:
                    await self._wait(self._look_at)
                    continue
                if self._all_held_for_long(now):
                    self._give_up()
                    break
                # While all slots are busy, a result wakes the loop, and looking would be in vain; but in an
                # outage it tells whether Conductor is back.
                looks = self._look is None and (self._free > 0 or self._outage > 0)
                if looks and now >= self._look_at:
                    self._look = asyncio.create_task(self._read_depths())
                if not self._outage:
                    self._ask(now)
                due = self._look_at if looks and self._look is None else now + 1.0
                await self._wait(min(due, self._backlog.next_at(now) if self._free else due))
            await self._drain()
        finally:
            self._resources.threads.shutdown(wait=False, cancel_futures=True)
            await self._processes.close()

    def cut(self) -> list[Execution]:
        """Drops what is unfinished, and sends nothing more. Returns what was dropped."""
        cut = self.unfinished
        for running in (*self._polls, *self._executions):
            running.cancel()
        self._processes.kill()
        for execution in cut:
            self._metrics.tasks.labels(execution.task.task_type, "cut").inc()
            self._metrics.failures.labels(execution.task.task_type, "cut").inc()
        return cut

    def _all_held_for_long(self, now: float) -> bool:
        """Some end late by themselves, and many at a time where what they wait for answers again."""
        if len(self._executions) - self._busy < self._settings.concurrency:
            self._held_since = None
        elif self._held_since is None:
            self._held_since = now
        return self._held_since is not None and now - self._held_since >= EXHAUSTED_AFTER

    def _give_up(self) -> None:
        log.error(
            "all %d slots are held by functions that still run though Conductor has ended their attempts: "
            "%s; no task can be taken any more, and this process ends so that another can take its place",
            self._settings.concurrency,
            ", ".join(map(str, self.overdue)),
        )
        self._exhausted = True
        self.stop()

    async def _wait(self, until: float) -> None:
        try:
            async with asyncio.timeout(max(0.0, until - time.monotonic())):
                await self._wake.wait()
        except TimeoutError:
            pass

    async def _drain(self) -> None:
        if self._look is not None:
            self._look.cancel()
        log.info("stopping: %d polls in flight, %d tasks to finish", len(self._polls), len(self.unfinished))
        # A poll that is under way may still bring tasks: they have their slots, and are run like the others.
        while self._polls or self.unfinished:
            self._turned_at = time.monotonic()
            await asyncio.wait([*self._polls, *self._executions], timeout=DRAIN_LOOK)

    async def _read_depths(self) -> None:
        try:
            self._backlog.saw(await self._depths())
            self._metrics.looks.labels("answered").inc()
            self._answered()
        except Unavailable as error:
            self._metrics.looks.labels("failed").inc()
            self._unavailable(error)
        finally:
            self._look = None
            now = time.monotonic()
            if not self._outage:
                self._look_at = now + self._look_pause(now) * random.uniform(0.8, 1.2)
            self._wake.set()

    async def _depths(self) -> Mapping[Queue, int]:
        """What waits; where that cannot be read, each queue may hold work. Raises Unavailable."""
        queues = self._backlog.queues
        error: Exception | None = None
        if time.monotonic() >= self._by_depth_at:
            try:
                depths = await self._api.depths(queues)
            except (Refused, Hidden) as refusal:
                error = refusal
            else:
                self._hidden = False
                return depths
        # Whether Conductor is there at all: while it starts, an ingress answers 404 to everything.
        with contextlib.suppress(Refused):
            self._begin(queues[0], await self._api.poll(queues[0], 0), 0)
        if error is not None:
            # Not Conductor OSS, or a proxy that hides it. Polling for nothing costs more, and works too.
            if not self._hidden:
                log.warning("queue sizes cannot be read (%s); polling each queue instead", error)
            self._hidden = True
            self._by_depth_at = time.monotonic() + HIDDEN_SECONDS
        return dict.fromkeys(queues, self._settings.concurrency)

    def _look_pause(self, now: float) -> float:
        """Ten looks a second at work, and the fewer the longer nothing came: after 40 s one."""
        idle = 0.0 if self._busy else now - self._active_at
        most = max(BUSY_LOOK, min(LONGEST_LOOK, self._settings.poll_interval))
        return max(BUSY_LOOK, min(most, idle * IDLE_SHARE))

    def _ask(self, now: float) -> None:
        for queue, count in self._backlog.share(self._free, now, self._free_processes):
            self._reserve(queue.task_type, count)
            poll = asyncio.create_task(self._take(queue, count))
            self._polls.add(poll)
            poll.add_done_callback(self._polls.discard)

    async def _take(self, queue: Queue, count: int) -> None:
        tasks: list[Task] = []
        try:
            tasks = await self._api.poll(queue, count)
        except Refused as error:
            self._metrics.polls.labels(queue.task_type, "refused").inc()
            self._backlog.answered(queue, count, 0, time.monotonic())
            log.error("Conductor refuses polls of %s: %s", queue, error)  # noqa: TRY400
        except Unavailable as error:
            self._failed(queue, error)
        except Exception as error:
            # Else the queue would count as being asked for good, and this worker never ask it again.
            log.exception("a fault of the runtime in a poll of %s", queue)
            self._failed(queue, error)
        else:
            self._answered()
            self._metrics.polls.labels(queue.task_type, "tasks" if tasks else "empty").inc()
            self._backlog.answered(queue, count, len(tasks), time.monotonic())
        finally:
            self._begin(queue, tasks, count)
            self._wake.set()

    def _failed(self, queue: Queue, error: Exception) -> None:
        self._metrics.polls.labels(queue.task_type, "failed").inc()
        self._backlog.failed(queue)
        self._unavailable(error)

    def _begin(self, queue: Queue, tasks: list[Task], reserved: int) -> None:
        self._reserve(queue.task_type, len(tasks) - reserved)
        for task in tasks:
            self._start(task, queue)

    def _reserve(self, task_type: str, count: int) -> None:
        """Takes so many slots; a negative number gives them back."""
        self._free -= count
        if self._functions[task_type].cpu_bound:
            self._free_processes -= count

    def _start(self, task: Task, queue: Queue) -> None:
        self._active_at = time.monotonic()
        execution = Execution(task, self._functions[queue.task_type], self._resources, self._uncount)
        running = asyncio.create_task(execution.run(), name=f"task {task.task_id}")
        self._executions[running] = execution
        running.add_done_callback(self._finished)
        self._busy += 1
        self._metrics.busy.set(self._busy)
        self._metrics.running.labels(execution.function.name).inc()

    def _uncount(self, execution: Execution) -> None:
        """It holds nothing any more that could be lost: a pod with no other tasks may go."""
        self._busy -= 1
        self._metrics.busy.set(self._busy)
        self._metrics.running.labels(execution.function.name).dec()

    def _finished(self, running: asyncio.Task[None]) -> None:
        execution = self._executions.pop(running)
        if not execution.overdue:
            self._uncount(execution)
        self._reserve(execution.function.name, -1)
        self._metrics.processes.set(len(self._processes.pids))
        self._active_at = time.monotonic()
        self._wake.set()
        if not running.cancelled() and (error := running.exception()) is not None:
            log.error("a fault of the runtime, not of the function, in %s", execution, exc_info=error)

    def _answered(self) -> None:
        if self._outage or not self._connected:
            log.info("connected to Conductor at %s", self._api.url)
        self._outage = 0
        self._connected = self._met = True
        self._metrics.connected.set(1)
        self._metrics.last_poll.set(time.time())

    def _unavailable(self, error: Any) -> None:
        if not self._outage:
            log.warning(
                "Conductor at %s does not answer, trying again until it does: %s", self._api.url, error
            )
        self._outage += 1
        self._connected = False
        self._metrics.connected.set(0)
        pause = min(LONGEST_OUTAGE_PAUSE, 0.25 * 2 ** min(self._outage, 10))
        self._look_at = time.monotonic() + pause * random.uniform(0.5, 1.0)
