"""Task: numbers of a device held against those of the first run, which lie in the artifact store."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import json
import math
from typing import Any

from pydantic import ValidationError

from podium_workers.patterns.comparison import Baseline, Compared, compare
from podium_workers.patterns.validation import PatternRef
from podium_workers.runtime.context import Reject, TaskContext
from podium_workers.runtime.registry import task
from podium_workers.services.artifacts import ArtifactStore, Damaged, open_store

KIND, NAME = "pattern-baseline", "baseline"


@task("compare_pattern")
async def compare_pattern(
    context: TaskContext,
    pattern: PatternRef,
    environment: str,
    health: dict[str, Any],
    build: str = "",
    commit: str = "",
    repository: str = "",
    path: str = "",
    allowedRegression: float = 10.0,  # noqa: N803
    newBaseline: bool = False,  # noqa: N803
) -> dict[str, Any]:
    """Holds frame time and free heap against the baseline; `health` is what validate_pattern returned.

    The first healthy run of a pattern, its parameters and environment makes the baseline, and so does
    `newBaseline`. Missing numbers and a damaged baseline fail the comparison, never the task.
    """
    if not math.isfinite(allowedRegression) or allowedRegression < 0:
        raise Reject(f"allowedRegression: {allowedRegression:g} is no percentage from 0 on")
    store = open_store(context.data_dir)
    key = baseline_key(pattern, environment, repository, path)
    known, damage = (None, "") if newBaseline else await asyncio.to_thread(_read, store, key)
    if known and known.workflowId == context.workflow_id:
        known = None  # made by an earlier delivery of this very task
    measured = dict(health.get("measured") or {})
    found = compare(measured, known, allowedRegression)
    reasons = [item.message for item in found if not item.passed]
    if health.get("healthy") is not True:
        why = f"({health.get('reason')}): {health.get('message')}"
        reasons.insert(0, f"the device is not healthy with it {why}")
    if damage:
        reasons.insert(0, damage)
    made = known is None and not reasons
    if made:
        record = {
            "frameMicros": measured["frameMicros"],
            "freeHeap": measured["freeHeap"],
            "build": build,
            "commit": commit,
            "environment": environment,
            "pattern": pattern.model_dump(),
            "workflowId": context.workflow_id,
        }
        await asyncio.to_thread(store.put_record, KIND, key, NAME, record)
    for item in found:
        context.log(f"{'passed' if item.passed else 'FAILED'} {item.message}")
    return {
        "passed": not reasons,
        "verdict": "fail" if reasons else "pass",
        "reason": "; ".join(reasons)[:1000],
        "baselineMade": made,
        "baselineKey": key,
        "baseline": known.model_dump() if known else None,
        "comparisons": [_plain(item) for item in found],
    }


def baseline_key(pattern: PatternRef, environment: str, repository: str, path: str) -> str:
    """What must be the same for numbers to be comparable; not the commit, whose effect is to be seen."""
    parts = [pattern.parameters, environment, repository, path.strip("/")]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:40]


def _read(store: ArtifactStore, key: str) -> tuple[Baseline | None, str]:
    """The baseline, or what is wrong with it."""
    try:
        found = store.record(KIND, key, NAME)
        return (None if found is None else Baseline.model_validate(found)), ""
    except Damaged as error:
        why = str(error)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        why = f"{first['loc'][0]}: {first['msg'].lower()}"
    return None, f"the baseline cannot be used, run it again with `newBaseline: true` ({key[:12]}…: {why})"


def _plain(item: Compared) -> dict[str, Any]:
    worse = item.worse_percent
    return dataclasses.asdict(item) | {"worse_percent": None if worse is None else round(worse, 2)}
