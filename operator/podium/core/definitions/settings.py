"""Retries, time-outs and limits of task types → Conductor's task definitions."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from podium.api.v1alpha1.workflow import TaskSettings, WorkflowSpec
from podium.core.definitions.findings import Report, did_you_mean
from podium.core.durations import parse_duration

_OURS = TaskSettings(
    retries=3, retry_delay="10s", backoff="Exponential", response_timeout="2m", timeout="10m"
)
_BACKOFF = {"Fixed": "FIXED", "Linear": "LINEAR_BACKOFF", "Exponential": "EXPONENTIAL_BACKOFF"}
_LONGEST = 2**31 - 1
_DURATIONS = (
    "retry_delay",
    "max_retry_delay",
    "response_timeout",
    "timeout",
    "poll_timeout",
    "total_timeout",
)


def build_task_definitions(
    spec: WorkflowSpec, task_types: Iterable[str], *, dynamic: bool, report: Report
) -> dict[str, dict[str, Any]]:
    """The TaskDef of every type: taskTypes over taskDefaults over ours.

    `task_types` are those that tasks name; with `dynamic` the entries of taskTypes count too, because
    a task whose type is only known at run time may need them.
    """
    used = sorted(set(task_types))
    for limit in ("concurrency_limit", "rate_limit"):
        if getattr(spec.task_defaults, limit) is not None:
            wire = TaskSettings.model_fields[limit].alias
            report.error(
                f"spec.taskDefaults.{wire}", "limits belong to one task type", "set them in taskTypes"
            )
    for given in spec.task_types:
        if given not in used and not dynamic:
            report.warning(
                f"spec.taskTypes.{given}", "no task of this workflow has this type", did_you_mean(given, used)
            )
    # Also settings that no task uses yet must make sense.
    wanted = sorted({*used, *spec.task_types}) or [""]
    built = {name: _build(name, spec, report) for name in wanted}
    return {name: built[name] for name in wanted if name in used or (dynamic and name in spec.task_types)}


def seconds(text: str, path: str, report: Report) -> int:
    """A duration in whole seconds, rounded up: Conductor knows no finer ones."""
    try:
        exact = parse_duration(text).total_seconds()
    except (ValueError, OverflowError):
        report.error(path, f"{text!r} is not a duration", "write it like 90s, 10m or 1h30m")
        return 1
    whole = math.ceil(exact)
    if whole != exact:
        report.warning(path, f"{text} is rounded up to {whole}s", "Conductor counts in whole seconds")
    if whole > _LONGEST:
        report.error(path, f"{text} is longer than Conductor can count", "leave it out for no limit")
        return _LONGEST
    return whole


@dataclass(frozen=True)
class _Given:
    """One setting, with where it comes from; path "" = a default of ours."""

    value: Any
    path: str
    text: str


def _build(name: str, spec: WorkflowSpec, report: Report) -> dict[str, Any]:
    given = {field: _look_up(name, spec, field) for field in TaskSettings.model_fields}
    whole = {
        field: seconds(found.text, found.path, report)
        for field, found in given.items()
        if field in _DURATIONS and found is not None
    }
    _check_order(name, given, whole, report)
    task: dict[str, Any] = {
        "name": name,
        "retryCount": _value(given, "retries"),
        "retryDelaySeconds": whole["retry_delay"],
        "retryLogic": _BACKOFF[_value(given, "backoff")],
        "responseTimeoutSeconds": whole["response_timeout"],
        "timeoutSeconds": whole["timeout"],
        "timeoutPolicy": "RETRY",
    }
    for field, key in (
        ("max_retry_delay", "maxRetryDelaySeconds"),
        ("poll_timeout", "pollTimeoutSeconds"),
        ("total_timeout", "totalTimeoutSeconds"),
    ):
        if whole.get(field):
            task[key] = whole[field]
    if (limit := given["concurrency_limit"]) is not None:
        task["concurrentExecLimit"] = limit.value
    if (rate := given["rate_limit"]) is not None:
        task["rateLimitPerFrequency"] = rate.value.calls
        task["rateLimitFrequencyInSeconds"] = max(1, seconds(rate.value.per, f"{rate.path}.per", report))
        report.warning(
            rate.path,
            "Conductor ignores rate limits on SQLite, PostgreSQL and MySQL",
            "use concurrencyLimit, which works there",
        )
    return task


def _check_order(name: str, given: dict[str, _Given | None], whole: dict[str, int], report: Report) -> None:
    """Conductor's law: responseTimeout ≤ timeout ≤ totalTimeout. What is only a default gives way."""
    response, timeout, total = given["response_timeout"], given["timeout"], given["total_timeout"]
    assert response is not None
    assert timeout is not None
    if total is not None and whole["total_timeout"] and whole["total_timeout"] < whole["timeout"]:
        if timeout.path:
            _say_shorter(name, "totalTimeout", total, "timeout", timeout, report)
        else:
            whole["timeout"] = whole["total_timeout"]
    if whole["response_timeout"] == 0:
        report.error(
            response.path, "responseTimeout must be longer than 0s", "a worker silent for so long has lost it"
        )
    if whole["timeout"] and whole["timeout"] < whole["response_timeout"]:
        if not response.path:
            whole["response_timeout"] = whole["timeout"]
        elif timeout.path.startswith("spec.taskTypes") and not response.path.startswith("spec.taskTypes"):
            _say_shorter(name, "timeout", timeout, "responseTimeout", response, report)
        else:
            report.error(
                response.path,
                f"responseTimeout {response.text} is longer than timeout {_told(timeout, whole['timeout'])}",
                f"give timeout: {response.text} or more, or a shorter responseTimeout",
            )


def _say_shorter(name: str, short: str, shorter: _Given, long: str, longer: _Given, report: Report) -> None:
    where = "" if longer.path.startswith(f"spec.taskTypes.{name}") else " of taskDefaults"
    report.error(
        shorter.path,
        f"{short} {shorter.text} is shorter than {long} {longer.text}{where}",
        f"give a longer {short}, or spec.taskTypes.{name or '<type>'}.{long}: {shorter.text} or less",
    )


def _told(found: _Given, whole: int) -> str:
    return found.text if found.path else f"{whole}s (which it is if nothing is given)"


def _look_up(name: str, spec: WorkflowSpec, field: str) -> _Given | None:
    wire = TaskSettings.model_fields[field].alias or field
    for layer, path in (
        (spec.task_types.get(name), f"spec.taskTypes.{name}.{wire}"),
        (spec.task_defaults, f"spec.taskDefaults.{wire}"),
        (_OURS, ""),
    ):
        value = getattr(layer, field, None)
        if value is not None:
            return _Given(value, path, str(value))
    return None


def _value(given: dict[str, _Given | None], field: str) -> Any:
    found = given[field]
    assert found is not None
    return found.value


def count_retries(spec: WorkflowSpec) -> dict[str, int]:
    """Task type → its retries, for every type with settings of its own; "" = all others."""
    return {
        name: _value({"retries": _look_up(name, spec, "retries")}, "retries")
        for name in ("", *spec.task_types)
    }
