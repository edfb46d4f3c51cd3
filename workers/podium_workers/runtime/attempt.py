"""One call of a function, from the task's input to an outcome: the same in a thread and in a process."""

from __future__ import annotations

import json
import traceback
from collections.abc import Mapping
from typing import Any

from podium_workers.runtime.arguments import BadInput
from podium_workers.runtime.context import InProgress, Reject, Retry, TaskContext
from podium_workers.runtime.registry import Function
from podium_workers.runtime.results import BadResult, build_output
from podium_workers.runtime.task import Outcome

KINDS = (
    "bad_input",  # a field is missing, or does not fit the annotation
    "bad_result",  # what JSON cannot say
    "too_large",  # the result
    "rejected",  # the function raised Reject
    "retry",  # the function raised Retry, or a reference could not be read now
    "exception",  # any other exception
    "exit",  # the function, or the process it had for itself, ended with an exit code
    "killed",  # its process was ended by a signal: the kernel's, if memory is short
    "timeout",  # over its time; Conductor ends the attempt, and the result is dropped
    "refused",  # Conductor refuses the result
    "given_up",  # Conductor did not take the result for ten minutes
    "cut",  # the worker was stopped before the end
)
RESULT_BYTES = 10_240 * 1024
"""What Conductor takes by default (`conductor.app.maxTaskOutputPayloadSizeThreshold`)."""


class TooLarge(Reject):
    """The result is larger than Conductor takes."""


def attempt(function: Function, data: Mapping[str, Any], context: TaskContext) -> Outcome:
    """Calls a function that is not async. Never raises, whatever the function does."""
    try:
        args, kwargs = function.signature.bind(data, context)
        return judge(function.call(*args, **kwargs))
    except BaseException as error:  # noqa: BLE001 — a function may raise anything; even SystemExit is its own
        return failure(error)


def judge(result: object) -> Outcome:
    """The outcome of what was returned. Raises BadResult, TooLarge."""
    if isinstance(result, InProgress):
        return Outcome("IN_PROGRESS", _measured(result.output), after=result.after)
    return Outcome("COMPLETED", _measured(result))


def failure(error: BaseException) -> Outcome:
    """The outcome of what was raised."""
    match error:
        case BadInput():
            return _failure("FAILED_WITH_TERMINAL_ERROR", "bad_input", str(error))
        case TooLarge():
            return _failure("FAILED_WITH_TERMINAL_ERROR", "too_large", str(error))
        case BadResult():
            return _failure("FAILED_WITH_TERMINAL_ERROR", "bad_result", str(error))
        case Reject():
            return _failure("FAILED_WITH_TERMINAL_ERROR", "rejected", str(error), error.output)
        case Retry():
            return _failure("FAILED", "retry", str(error), error.output)
        case _:
            kind = "exit" if isinstance(error, SystemExit) else "exception"
            trace = "".join(traceback.format_exception(error))
            return _failure("FAILED", kind, f"{type(error).__name__}: {error}", trace=trace)


def _failure(status: str, kind: str, reason: str, output: object = None, trace: str = "") -> Outcome:
    try:
        kept = _measured(output)
    except Reject as error:
        kept, reason = {}, f"{reason} (its output is left out: {error})"
    return Outcome(status, kept, reason, kind=kind, trace=trace)


def _measured(result: object) -> dict[str, Any]:
    output = build_output(result)
    # Measured here, in the function's thread or process: megabytes would hold up the event loop.
    size = len(json.dumps(output, ensure_ascii=False).encode("utf-8", "replace"))
    if size > RESULT_BYTES:
        raise TooLarge(
            f"the result has {size / 1e6:.1f} MB, and Conductor takes at most {RESULT_BYTES / 1e6:.1f}: "
            "keep it in a file or a store, and return where it is"
        )
    return output
