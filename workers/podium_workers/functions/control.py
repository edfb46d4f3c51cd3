"""Functions that wait, fail and fan out: for trying workflows, and for dynamic ones."""

from __future__ import annotations

import asyncio
import re
from typing import Any

from podium_workers.functions.shelf import task
from podium_workers.runtime.context import Reject, Retry, TaskContext

LONGEST_WAIT = 86_400.0
MOST_BRANCHES = 1_000


@task("wait")
async def wait(context: TaskContext, seconds: float = 1.0) -> dict[str, Any]:
    """Waits `seconds` (at most a day), holding a slot; returns how long and at which attempt."""
    if not 0 <= seconds <= LONGEST_WAIT:
        raise Reject(f"seconds must be between 0 and {LONGEST_WAIT:.0f}")
    await asyncio.sleep(seconds)
    return {"waited": seconds, "attempt": context.attempt}


@task("fail")
def fail(
    context: TaskContext, times: int | None = None, terminal: bool = False, message: str = "failed on purpose"
) -> dict[str, Any]:
    """Fails on purpose: the first `times` attempts (always, without), for good if `terminal`."""
    if times is not None and context.attempt > times:
        return {"attempt": context.attempt}
    context.log(f"attempt {context.attempt}: {message}")
    raise Reject(message) if terminal else Retry(message)


@task("fan_out")
def fan_out(items: list[Any], type: str, key: str = "item", ref: str | None = None) -> dict[str, Any]:  # noqa: A002
    """Makes `dynamicTasks` and `dynamicTasksInput` for a FORK_JOIN_DYNAMIC: one task of `type` per item.

    Each gets `{key: item, "index": n}`, or the item itself where that is an object. The tasks' reference
    names are `<ref or type>_<n>`.
    """
    if len(items) > MOST_BRANCHES:
        raise Reject(f"{len(items)} items are too many for one fork, at most {MOST_BRANCHES}")
    prefix = re.sub(r"\W", "_", ref or type)
    tasks = [
        {"name": type, "taskReferenceName": f"{prefix}_{index}", "type": "SIMPLE"}
        for index in range(len(items))
    ]
    inputs = {
        f"{prefix}_{index}": {**(item if isinstance(item, dict) else {key: item}), "index": index}
        for index, item in enumerate(items)
    }
    return {"dynamicTasks": tasks, "dynamicTasksInput": inputs, "count": len(items)}
