"""Task: whether a device runs the build and shows the pattern, and how quickly."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict

from podium_workers.firmware.deployment import DeviceInput, device_health_check
from podium_workers.firmware.inputs import Build, parse_seconds
from podium_workers.firmware.verdict import keep_artifact
from podium_workers.runtime.context import Reject, TaskContext
from podium_workers.runtime.registry import task
from podium_workers.services.artifacts import open_store
from podium_workers.services.build_signature import names_commit
from podium_workers.services.device_api import Answer, DeviceApi, Health

MOST_SAMPLES = 100


class PatternRef(BaseModel):
    """A generated pattern: what generate_pattern returns as `pattern`."""

    model_config = ConfigDict(extra="ignore")

    name: str
    checksum: str
    parameters: dict[str, Any]


@task("validate_pattern")
async def validate_pattern(
    context: TaskContext,
    device: DeviceInput,
    build: str,
    commit: str,
    pattern: PatternRef,
    builds: list[Build],
    deployment: dict[str, Any] | None = None,
    repository: str = "",
    path: str = "",
    samples: int = 5,
    minFreeHeap: str | int = "50Ki",  # noqa: N803
    consecutive: int = 3,
    within: str = "3m",
    interval: str = "5s",
) -> dict[str, Any]:
    """Waits until the device runs the build well, then asks it for its pattern, frame time and free heap.

    What a device does never fails the task: it is in `verdict`, `reason` and `measured`, as in
    device_health_check.
    """
    if not 1 <= samples <= MOST_SAMPLES:
        raise Reject(f"samples: {samples} is not between 1 and {MOST_SAMPLES}")
    if len(builds) != 1:
        raise Reject(f"builds: {len(builds)} of them; a pattern is tried with one")
    decided = await device_health_check(
        context, device, build, deployment,
        minFreeHeap=minFreeHeap, consecutive=consecutive, within=within, interval=interval,
    )  # fmt: skip
    if not decided["healthy"]:
        return {**decided, "measured": measure([])}
    answers: list[Answer] = []
    async with DeviceApi() as api:
        for number in range(samples):
            if number:
                await asyncio.sleep(parse_seconds("interval", interval, 300.0))
            answers.append(await api.probe(device.page()))
    measured = measure(answers)
    if complaint := find_complaint(answers, build, pattern):
        reason, message = complaint
        context.log(f"Unhealthy ({reason}): {message}")
        return {
            **decided, "verdict": "Unhealthy", "healthy": False, "reason": reason, "message": message,
            "measured": measured,
        }  # fmt: skip
    context.log(f"{pattern.name}: {measured['frameMicros']} µs a frame, {measured['freeHeap']} bytes free")
    # What a device runs well is something that it can be brought back to.
    metadata = {
        "environment": builds[0].environment,
        "kind": "pattern",
        "commit": build,
        "baseCommit": commit,
        "repository": repository,
        "path": path,
        "pattern": pattern.model_dump(),
        "workflowId": context.workflow_id,
    }
    store = open_store(context.data_dir)
    await asyncio.to_thread(keep_artifact, store, builds[0].files["image"].sha256, metadata)
    return {**decided, "measured": measured}


def measure(answers: Sequence[Answer]) -> dict[str, Any]:
    """The middle frame time in microseconds, and the least free heap in bytes; null where nothing said it."""
    said = [answer for answer in answers if isinstance(answer, Health)]
    times = [answer.frame_micros for answer in said if answer.frame_micros is not None]
    heaps = [answer.free_heap for answer in said if answer.free_heap is not None]
    return {
        "frameMicros": round(statistics.median(times), 3) if times else None,
        "freeHeap": min(heaps) if heaps else None,
        "samples": len(said),
    }


def find_complaint(answers: Sequence[Answer], build: str, pattern: PatternRef) -> tuple[str, str] | None:
    """Reason and message, if any answer says something else than this build with this pattern."""
    for answer in answers:
        if not isinstance(answer, Health):
            return answer.kind, answer.message
        if not names_commit(answer.build, build):
            return "OtherBuild", f"while it was measured the device ran {answer.build}, not {build[:12]}"
        if answer.pattern is None or answer.pattern_checksum is None:
            return "NoPattern", "the device's health page tells of no pattern"
        if (answer.pattern, answer.pattern_checksum) != (pattern.name, pattern.checksum):
            shown = f"{answer.pattern} {answer.pattern_checksum[:12]}"
            wanted = f"{pattern.name} {pattern.checksum[:12]}"
            return "OtherPattern", f"the device shows {shown}, not {wanted}"
    return None
