"""One task from its hand-over to the moment when Conductor has its result."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import dataclasses
import logging
import math
import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from podium_workers.runtime.attempt import attempt, failure, judge
from podium_workers.runtime.context import Reject, TaskContext
from podium_workers.runtime.logs import about
from podium_workers.runtime.metrics import WorkerMetrics
from podium_workers.runtime.processes import Processes
from podium_workers.runtime.redaction import find_secrets, redact, scrub, spellings
from podium_workers.runtime.registry import Function
from podium_workers.runtime.settings import Settings
from podium_workers.runtime.task import Outcome, Task
from podium_workers.runtime.taskapi import UPDATE_SECONDS, Refused, TaskApi, Unavailable
from podium_workers.services.references import References

REASON_CHARACTERS = 500
TRACEBACK_CHARACTERS = 3000
LOG_INTERVAL = 2.0
SHORTEST_BEAT = 0.25
SHORTEST_PATIENCE = 0.5
LONGEST_PAUSE = 5.0
MOST_LOOKS = 6
LOOK_PAUSE = 1.0

_OUTCOMES = {
    "COMPLETED": "completed",
    "FAILED": "failed",
    "FAILED_WITH_TERMINAL_ERROR": "rejected",
    "IN_PROGRESS": "postponed",
}
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Resources:
    """What all executions of a worker share."""

    api: TaskApi
    settings: Settings
    metrics: WorkerMetrics
    threads: ThreadPoolExecutor
    processes: Processes
    references: References
    secrets: tuple[str, ...] = ()


class Execution:
    """Runs `function` for `task`, keeps its lease, and sends the result until it is taken.

    `on_overdue` is called if its time is over before the function has ended.
    """

    def __init__(
        self,
        task: Task,
        function: Function,
        resources: Resources,
        on_overdue: Callable[[Execution], None],
    ) -> None:
        self.task = task
        self.phase = "running"
        self._on_overdue = on_overdue
        self.function = function
        self._api = resources.api
        self._settings = resources.settings
        self._metrics = resources.metrics
        self._threads = resources.threads
        self._processes = resources.processes
        self._secrets = [*resources.secrets, *find_secrets(task.input)]
        self._references = resources.references
        self._resolved: frozenset[str] = frozenset()
        lease = task.response_timeout
        self._patience = min(UPDATE_SECONDS, max(SHORTEST_PATIENCE, lease / 8)) if lease else UPDATE_SECONDS
        self._unanswered = False
        self._done = asyncio.Event()
        self._wake = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._context = TaskContext(
            task_id=task.task_id,
            workflow_id=task.workflow_id,
            task_type=task.task_type,
            ref=task.ref,
            attempt=task.retry_count + 1,
            poll_count=task.poll_count,
            domain=task.domain,
            data_dir=self._settings.data_dir,
            worker_id=self._settings.worker_id,
            output=task.output,
            wake=self._wake_up,
            clean=self._clean,
        )

    async def run(self) -> None:
        """Never raises, except when cancelled."""
        about(self.task)
        lease = asyncio.create_task(self._keep_lease())
        logs = asyncio.create_task(self._send_logs())
        working = asyncio.create_task(self._attempt())
        started = time.monotonic()
        try:
            await asyncio.wait([working], timeout=self.task.timeout or None)
        except asyncio.CancelledError:
            working.cancel()  # the worker is being cut off
            raise
        finally:
            self._done.set()
            self._wake.set()
        overdue = not working.done()
        # A sign of life that Conductor handles beside the result may be stored after it, and the task would
        # be IN_PROGRESS again, for good. So it is waited for, not cancelled.
        await lease
        if overdue:
            await self._drop(working)
        else:
            seconds = time.monotonic() - started
            self._metrics.seconds.labels(self.task.task_type).observe(seconds)
            outcome = self._finish(_result(working))
            log.debug("%s ended as %s after %.3f s", self, outcome.status, seconds)
            self.phase = "reporting"
            await self._report(outcome)
        await logs

    @property
    def overdue(self) -> bool:
        """Conductor has ended this attempt: nothing of it can be lost any more."""
        return self.phase == "overdue"

    def __str__(self) -> str:
        task = self.task
        return f"{task.task_type} {task.task_id} ({task.ref} of workflow {task.workflow_id}, {self.phase})"

    def _wake_up(self) -> None:
        """From any thread."""
        self._loop.call_soon_threadsafe(self._wake.set)

    async def _attempt(self) -> Outcome:
        task, function = self.task, self.function
        if task.external_input and not task.input:
            return failure(
                Reject(
                    f"the input is too large for Conductor and lies outside of it ({task.external_input}); "
                    "pass a reference to the data instead"
                )
            )
        try:
            resolved = await self._references.resolve(task.input, task.domain)
            self._resolved = frozenset(
                spelling for secret in resolved.secrets for spelling in spellings(secret) if spelling
            )
            if function.is_async:
                args, kwargs = function.signature.bind(resolved.input, self._context)
                return judge(await function.call(*args, **kwargs))
        except (asyncio.CancelledError, GeneratorExit):
            raise
        except BaseException as error:  # noqa: BLE001 — a function may raise anything; even SystemExit is its own
            return failure(error)
        if function.cpu_bound:
            return await self._processes.run(function.name, resolved.input, self._context)
        scope = contextvars.copy_context()
        return await self._loop.run_in_executor(
            self._threads, lambda: scope.run(attempt, function, resolved.input, self._context)
        )

    async def _drop(self, working: asyncio.Task[Outcome]) -> None:
        """Has Conductor end the attempt; another may begin at once."""
        self.phase = "overdue"
        self._on_overdue(self)
        where = "its thread cannot be stopped and keeps its slot"
        if self.function.is_async or self.function.cpu_bound:
            where = "it is stopped"
            working.cancel()
        reason = f"still running after the {self.task.timeout:g} s that timeoutSeconds allows: {where}"
        log.warning("%s is %s; Conductor is to end the attempt, and its result is dropped", self, reason)
        self._metrics.failures.labels(self.task.task_type, "timeout").inc()
        self._metrics.tasks.labels(self.task.task_type, "dropped").inc()
        self._context.log(reason)
        await self._send_lines()
        await self._have_it_ended()
        await asyncio.wait([working])
        log.info("%s has ended", self)

    async def _keep_lease(self) -> None:
        """Signs of life at half of the responseTimeout, and when the function asks for one, until it is done.

        One that is not answered within an eighth of it is sent anew: four fit into the lease.
        """
        lease = self.task.response_timeout
        beat = max(SHORTEST_BEAT, lease / 2) if lease else math.inf
        due = time.monotonic() + beat
        while True:
            await _pause(due - time.monotonic(), self._wake)
            self._wake.clear()
            if self._done.is_set():
                return
            now = time.monotonic()
            if self._context.take_extension() or now >= due:
                due = now + (beat if await self._extend() else max(SHORTEST_BEAT, beat / 8))

    async def _extend(self) -> bool:
        try:
            await self._api.extend(self.task, self._patience)
        except (Unavailable, Refused) as error:
            self._unanswered = isinstance(error, Unavailable)
            self._metrics.lease_failures.inc()
            log.debug("no sign of life for %s: %s", self, error)
            return False
        self._unanswered = False
        return True

    async def _send_logs(self) -> None:
        """Log lines every two seconds, until it is done. The lease must not wait for them."""
        while not self._done.is_set():
            await _pause(LOG_INTERVAL, self._done)
            if not self._done.is_set():
                await self._send_lines()

    async def _send_lines(self) -> None:
        lines = self._context.take_lines()
        if not lines:
            return
        text = self._clean("\n".join(line for _, line in lines))
        try:
            await self._api.log(self.task, text)
        except Unavailable as error:
            log.debug("log lines of %s were not taken: %s", self, error)

    async def _report(self, outcome: Outcome) -> None:
        """Sends the result until Conductor takes it, refuses it, or ten minutes are over."""
        lines = [(when, self._clean(line)) for when, line in self._context.take_lines()]
        deadline = time.monotonic() + self._settings.result_seconds
        pause = 0.2
        told = False
        unsure = False
        while True:
            try:
                if unsure and not await self._api.is_ours(self.task):
                    break
                await self._api.finish(self.task, outcome, lines)
            except Refused as error:
                self._metrics.update_failures.labels("refused").inc()
                log.error("Conductor refuses the result of %s: %s", self, error)  # noqa: TRY400
                if error.status == 404 or outcome.status != "COMPLETED":
                    return
                # The run would wait for the responseTimeout, and then do the same again.
                reason = f"Conductor refuses the result: {error}"
                outcome = self._told(Outcome("FAILED_WITH_TERMINAL_ERROR", reason=reason, kind="refused"))
                continue
            except Unavailable as error:
                self._metrics.update_failures.labels("retried").inc()
                if time.monotonic() >= deadline:
                    self._metrics.update_failures.labels("given_up").inc()
                    self._metrics.failures.labels(self.task.task_type, "given_up").inc()
                    log.error("gave up sending the result of %s: %s", self, error)  # noqa: TRY400
                    return
                if not told:
                    log.warning("Conductor did not take the result of %s, trying again: %s", self, error)
                told = True
                # If that one has come back and was given to another worker, a second word would take it away.
                unsure = outcome.status == "IN_PROGRESS"
                await asyncio.sleep(pause * random.uniform(0.5, 1.5))
                pause = min(LONGEST_PAUSE, pause * 2)
                continue
            if not self._unanswered:
                break
            # The last sign of life had no answer in time: Conductor may store it even now (see `run`).
            self._unanswered = False
            unsure = True
            await asyncio.sleep(min(LONGEST_PAUSE, self._patience))
        self._metrics.tasks.labels(self.task.task_type, _OUTCOMES[outcome.status]).inc()

    async def _have_it_ended(self) -> None:
        # Left alone, Conductor does not do it: it looks at the end of the first responseTimeout, and where
        # signs of life have come until then, not again for minutes (3.32.3). Asked while it is busy with the
        # run, it answers 200 and does nothing: so it is asked until the task is not IN_PROGRESS, but not for
        # ever, since in a paused run nothing ends.
        for look in range(MOST_LOOKS):
            with contextlib.suppress(Unavailable, Refused):
                await self._api.decide(self.task)
                if not await self._api.is_ours(self.task):
                    return
            await asyncio.sleep(LOOK_PAUSE * 2**look)

    def _finish(self, outcome: Outcome) -> Outcome:
        """The outcome as it may leave the worker."""
        if outcome.trace:
            self._context.log(_tail(self._clean(outcome.trace)))
        if self._resolved:
            # A function may return what it was given: what came out of a Secret does not go to Conductor.
            outcome = dataclasses.replace(outcome, output=scrub(outcome.output, self._resolved))
        return self._told(outcome) if outcome.kind else outcome

    def _told(self, outcome: Outcome) -> Outcome:
        """A failure with its reason as it goes to Conductor; it is logged and counted."""
        reason = self._clean(outcome.reason)
        if len(reason) > REASON_CHARACTERS:
            reason = reason[: REASON_CHARACTERS - 1] + "…"
        log.info("%s ended as %s: %s", self, outcome.status, reason)
        self._metrics.failures.labels(self.task.task_type, outcome.kind).inc()
        return dataclasses.replace(outcome, reason=reason)

    def _clean(self, text: str) -> str:
        return redact(text, [*self._secrets, *self._resolved])


def _result(working: asyncio.Task[Outcome]) -> Outcome:
    if working.cancelled():
        return Outcome("FAILED", reason="CancelledError: the function cancelled itself", kind="exception")
    return working.result()


async def _pause(seconds: float, until: asyncio.Event) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(max(0.0, seconds)):
            await until.wait()


def _tail(trace: str) -> str:
    """The end of the traceback: code lines, no values of variables."""
    return trace if len(trace) <= TRACEBACK_CHARACTERS else "…" + trace[-TRACEBACK_CHARACTERS:]
