"""Whether numbers are worse than they were, by more than is allowed. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class Baseline(BaseModel):
    """The numbers that others are held against, and where they came from."""

    model_config = ConfigDict(extra="ignore")

    frameMicros: float = Field(gt=0, allow_inf_nan=False)  # noqa: N815 - as in the task's output
    freeHeap: int = Field(gt=0)  # noqa: N815
    build: str = ""
    commit: str = ""
    workflowId: str = ""  # noqa: N815
    storedAt: str = ""  # noqa: N815


@dataclass(frozen=True)
class Compared:
    """One number. `worse_percent`: of the baseline's value, negative if it is better."""

    name: str
    words: str
    unit: str
    baseline: float | None
    observed: float | None
    worse_percent: float | None
    allowed_percent: float
    passed: bool
    message: str


def compare(measured: Mapping[str, Any], baseline: Baseline | None, allowed_percent: float) -> list[Compared]:
    """Each number of `measured`. A missing one never passes; without a baseline what is there passes."""
    return [
        _compare(
            "frameMicros", "frame time", "µs", _number(measured, "frameMicros"),
            baseline.frameMicros if baseline else None, allowed_percent, more_is_worse=True,
        ),
        _compare(
            "freeHeap", "free heap", "bytes", _number(measured, "freeHeap"),
            float(baseline.freeHeap) if baseline else None, allowed_percent, more_is_worse=False,
        ),
    ]  # fmt: skip


def _compare(
    name: str,
    words: str,
    unit: str,
    observed: float | None,
    baseline: float | None,
    allowed: float,
    *,
    more_is_worse: bool,
) -> Compared:
    def verdict(passed: bool, message: str, worse: float | None = None) -> Compared:
        return Compared(name, words, unit, baseline, observed, worse, allowed, passed, message)

    if observed is None:
        return verdict(False, f"{words} is missing: the device did not say it")
    if baseline is None:
        return verdict(True, f"{words} {observed:g} {unit}, nothing to compare it with")
    difference = observed - baseline if more_is_worse else baseline - observed
    worse = 100 * difference / baseline
    change = f"{abs(worse):.1f} % {'worse' if worse > 0 else 'better'} than {baseline:g}"
    # Not rounded: what is shown as 10.0 % may be over 10.
    return verdict(
        100 * difference <= allowed * baseline,
        f"{words} {observed:g} {unit}, {change}, at most {allowed:g} % worse",
        worse,
    )


def _number(measured: Mapping[str, Any], name: str) -> float | None:
    """None for what is no number, or cannot be one: zero microseconds, a negative heap."""
    value = measured.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) and value > 0 else None
