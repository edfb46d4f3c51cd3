"""One task from its hand-over to the moment when Conductor has its result."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import dataclasses
import logging
import random
import time
import traceback
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

from podium_workers.runtime.context import InProgress, Reject, Retry, TaskContext
from podium_workers.runtime.metrics import WorkerMetrics
from podium_workers.runtime.redaction import find_secrets, redact, scrub, spellings
from podium_workers.runtime.registry import Function
from podium_workers.runtime.results import build_output
from podium_workers.runtime.settings import Settings
from podium_workers.runtime.taskapi import Outcome, Refused, Task, TaskApi, Unavailable
from podium_workers.services.references import References

REASON_CHARACTERS = 500
TRACEBACK_CHARACTERS = 3000
LOG_INTERVAL = 2.0
SHORTEST_BEAT = 0.25
LONGEST_PAUSE = 15.0

_OUTCOMES = {
    "COMPLETED": "completed",
    "FAILED": "failed",
    "FAILED_WITH_TERMINAL_ERROR": "rejected",
    "IN_PROGRESS": "postponed",
}
log = logging.getLogger(__name__)


class Execution:
    """Runs `function` for `task`, keeps its lease, and sends the result until it is taken."""

    def __init__(
        self,
        task: Task,
        function: Function,
        api: TaskApi,
        settings: Settings,
        metrics: WorkerMetrics,
        threads: ThreadPoolExecutor,
        secrets: Iterable[str],
        references: References,
    ) -> None:
        self.task = task
        self.phase = "running"
        self._function = function
        self._api = api
        self._settings = settings
        self._metrics = metrics
        self._threads = threads
        self._secrets = [*secrets, *find_secrets(task.input)]
        self._references = references
        self._resolved: frozenset[str] = frozenset()
        self._done = False
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
            data_dir=settings.data_dir,
            worker_id=settings.worker_id,
            output=task.output,
            wake=self._wake_up,
            clean=self._clean,
        )

    async def run(self) -> None:
        """Never raises, except when cancelled."""
        companion = asyncio.create_task(self._accompany())
        started = time.monotonic()
        try:
            outcome = self._scrub(await self._outcome())
        finally:
            self._done = True
            self._wake.set()
        self._metrics.seconds.labels(self.task.task_type).observe(time.monotonic() - started)
        # A sign of life that Conductor handles beside the result may be stored after it, and the task would
        # be IN_PROGRESS again, for good. So it is waited for, not cancelled.
        await companion
        self.phase = "reporting"
        await self._report(outcome)

    def __str__(self) -> str:
        task = self.task
        return f"{task.task_type} {task.task_id} ({task.ref} of workflow {task.workflow_id}, {self.phase})"

    def _wake_up(self) -> None:
        """From any thread."""
        self._loop.call_soon_threadsafe(self._wake.set)

    async def _outcome(self) -> Outcome:
        try:
            result = await self._call()
            return (
                Outcome.back(result)
                if isinstance(result, InProgress)
                else Outcome("COMPLETED", build_output(result))
            )
        except Reject as error:
            return self._failure("FAILED_WITH_TERMINAL_ERROR", str(error), error.output)
        except Retry as error:
            return self._failure("FAILED", str(error), error.output)
        except asyncio.CancelledError:
            if (current := asyncio.current_task()) is not None and current.cancelling():
                raise  # the worker is being cut off
            return self._failure("FAILED", "CancelledError: the function cancelled itself")
        except BaseException as error:  # noqa: BLE001 — a function may raise anything; even SystemExit is its own
            self._context.log(_traceback_tail(error, self._clean))
            return self._failure("FAILED", f"{type(error).__name__}: {error}")

    async def _call(self) -> object:
        task = self.task
        if task.external_input and not task.input:
            raise Reject(
                f"the input is too large for Conductor and lies outside of it ({task.external_input}); "
                "pass a reference to the data instead"
            )
        resolved = await self._references.resolve(task.input, task.domain)
        self._resolved = frozenset(
            spelling for secret in resolved.secrets for spelling in spellings(secret) if spelling
        )
        args, kwargs = self._function.signature.bind(resolved.input, self._context)
        if self._function.is_async:
            return await self._function.call(*args, **kwargs)
        scope = contextvars.copy_context()
        return await self._loop.run_in_executor(
            self._threads, lambda: scope.run(_guarded, self._function, args, kwargs)
        )

    async def _accompany(self) -> None:
        """Signs of life at half of the responseTimeout, log lines every two seconds, until it is done."""
        lease = self.task.response_timeout
        beat = max(SHORTEST_BEAT, lease / 2) if lease else float("inf")
        last_beat = last_lines = time.monotonic()
        while not self._done:
            until = min(last_beat + beat, last_lines + LOG_INTERVAL)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, until - time.monotonic())):
                    await self._wake.wait()
            self._wake.clear()
            if self._done:
                return
            now = time.monotonic()
            if self._context.take_extension() or now >= last_beat + beat:
                last_beat = now if await self._extend() else now - beat + max(SHORTEST_BEAT, beat / 8)
            if now >= last_lines + LOG_INTERVAL:
                last_lines = now
                await self._send_lines()

    async def _extend(self) -> bool:
        try:
            await self._api.extend(self.task)
        except (Unavailable, Refused) as error:
            self._metrics.lease_failures.inc()
            log.debug("no sign of life for %s: %s", self, error)
            return False
        return True

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
        while True:
            try:
                await self._api.finish(self.task, outcome, lines)
            except Refused as error:
                self._metrics.update_failures.labels("refused").inc()
                log.error("Conductor refuses the result of %s: %s", self, error)  # noqa: TRY400
                if error.status == 404 or outcome.status != "COMPLETED":
                    return
                # The run would wait for the responseTimeout, and then do the same again.
                outcome = self._failure(
                    "FAILED_WITH_TERMINAL_ERROR", f"Conductor refuses the result: {error}"
                )
                continue
            except Unavailable as error:
                self._metrics.update_failures.labels("retried").inc()
                if time.monotonic() >= deadline:
                    self._metrics.update_failures.labels("given_up").inc()
                    log.error("gave up sending the result of %s: %s", self, error)  # noqa: TRY400
                    return
                if not told:
                    log.warning("Conductor did not take the result of %s, trying again: %s", self, error)
                told = True
                await asyncio.sleep(pause * random.uniform(0.5, 1.5))
                pause = min(LONGEST_PAUSE, pause * 2)
                continue
            self._metrics.tasks.labels(self.task.task_type, _OUTCOMES[outcome.status]).inc()
            return

    def _failure(self, status: str, reason: str, output: object = None) -> Outcome:
        try:
            kept = build_output(output)
        except Reject as error:
            kept, reason = {}, f"{reason} (its output is left out: {error})"
        reason = self._clean(reason)
        if len(reason) > REASON_CHARACTERS:
            reason = reason[: REASON_CHARACTERS - 1] + "…"
        log.info("%s ended as %s: %s", self, status, reason)
        return Outcome(status, kept, reason)

    def _clean(self, text: str) -> str:
        return redact(text, [*self._secrets, *self._resolved])

    def _scrub(self, outcome: Outcome) -> Outcome:
        """A function may return what it was given: what came out of a Secret does not go to Conductor."""
        if not self._resolved:
            return outcome
        return dataclasses.replace(outcome, output=scrub(outcome.output, self._resolved))


def _guarded(function: Function, args: list[object], kwargs: dict[str, object]) -> object:
    try:
        return function.call(*args, **kwargs)
    except StopIteration as error:
        # A future cannot carry one: it would wait for ever.
        raise RuntimeError(f"StopIteration: {error}") from error


def _traceback_tail(error: BaseException, clean: Callable[[str], str]) -> str:
    """The end of the traceback: code lines, no values of variables."""
    text = clean("".join(traceback.format_exception(error)))
    return text if len(text) <= TRACEBACK_CHARACTERS else "…" + text[-TRACEBACK_CHARACTERS:]
