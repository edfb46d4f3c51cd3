"""Tasks: numbers out of a build, gates over them, and the artifact that has passed."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any

from podium_workers.firmware import workspace as workspaces
from podium_workers.firmware.buildlog import BuildLog, Usage, Warned, parse_log
from podium_workers.firmware.gates import Limits, Wanted, decide_gates, failed
from podium_workers.firmware.inputs import Build, GateLimits, Metrics, Used, parse_bytes
from podium_workers.runtime.context import Reject, TaskContext
from podium_workers.runtime.registry import task
from podium_workers.services.artifacts import ArtifactStore, open_store
from podium_workers.services.esp_image import Image, ImageError, parse_image

SHOWN_WARNINGS = 50


@task("extract_build_metrics")
async def extract_build_metrics(context: TaskContext, builds: list[Build]) -> dict[str, Any]:
    """Reads flash, RAM and warnings out of each build's log, and what its image says of itself."""
    store = open_store(context.data_dir)
    metrics = [await asyncio.to_thread(_metrics, store, build) for build in builds]
    for found in metrics:
        context.log(_summary(found))
    return {"metrics": metrics}


@task("validate_build")
async def validate_build(
    context: TaskContext,
    metrics: list[Metrics],
    commit: str = "",
    chip: str = "",
    slotSize: str | int | None = None,  # noqa: N803
    gates: GateLimits | None = None,
) -> dict[str, Any]:
    """Applies the gates: flash, RAM, warnings, and the image's sums, chip, commit and size."""
    if not metrics:
        raise Reject("metrics: there are none; nothing was built, so nothing can pass")
    given = gates or GateLimits()
    limits = Limits(given.flashPercentBelow, given.ramPercentBelow, given.maxWarnings)
    wanted = Wanted(chip, commit, parse_bytes("slotSize", slotSize))
    store = open_store(context.data_dir)
    found, reasons = [], []
    for item in metrics:
        image = await asyncio.to_thread(_image, store, item.image.sha256)
        verdicts = decide_gates(_log_of(item), image, limits, wanted)
        if reason := failed(verdicts):
            reasons.append(f"{item.environment}: {reason}")
        for gate in verdicts:
            context.log(
                f"[{item.environment}] {'passed' if gate.passed else 'FAILED'} {gate.name}: {gate.message}"
            )
            found.append(
                {
                    "environment": item.environment,
                    "name": gate.name,
                    "observed": gate.observed,
                    "limit": gate.limit,
                    "passed": gate.passed,
                    "message": gate.message,
                }
            )
    return {
        "passed": not reasons,
        "verdict": "fail" if reasons else "pass",
        "reason": "; ".join(reasons)[:1000],
        "gates": found,
    }


@task("store_artifact")
async def store_artifact(
    context: TaskContext,
    builds: list[Build],
    commit: str,
    repository: str = "",
    path: str = "",
    passed: bool = False,
    gates: list[dict[str, Any]] | None = None,
) -> dict[str, Any]:
    """Makes images that passed their gates artifacts, by SHA-256, with what is known of them."""
    if not passed:
        raise Reject(
            "the gates have not passed: nothing is stored (give `passed` what validate_build returned)"
        )
    store = open_store(context.data_dir)
    artifacts = []
    for build in builds:
        about = [gate for gate in gates or [] if gate.get("environment") == build.environment]
        metadata = {
            "environment": build.environment,
            "commit": commit,
            "repository": repository,
            "path": path,
            "buildKey": build.key,
            "files": {name: blob.model_dump() for name, blob in build.files.items()},
            "gates": about,
            "workflowId": context.workflow_id,
        }
        artifacts.append(await asyncio.to_thread(keep_artifact, store, build.files["image"].sha256, metadata))
        context.log(
            f"[{build.environment}] stored {artifacts[-1]['sha256']} ({artifacts[-1]['size']:,} bytes)"
        )
    await workspaces.remove(context)
    return {"artifacts": artifacts, "store": str(store)}


@task("prune_artifacts")
async def prune_artifacts(
    context: TaskContext, keep: list[str] | None = None, newest: int = 10
) -> dict[str, Any]:
    """Drops old artifacts: never one in `keep`, a pinned one, or one of the `newest` of its environment."""
    if newest < 1:
        raise Reject("newest: at least 1, so that there is always something to go back to")
    store = open_store(context.data_dir)
    gone = await asyncio.to_thread(store.prune, keep or [], newest)
    context.log(f"{len(gone)} artifacts dropped")
    return {"dropped": gone[:100], "count": len(gone)}


def _metrics(store: ArtifactStore, build: Build) -> dict[str, Any]:
    if "log" not in build.files or "image" not in build.files:
        raise Reject(f"builds: {build.environment} has no log or no image")
    log = parse_log(store.get(build.files["log"].sha256).decode("utf-8", "replace").splitlines())
    sha256 = build.files["image"].sha256
    image = _image(store, sha256)
    size = len(store.get(sha256)) if isinstance(image, str) else image.size
    return {
        "environment": build.environment,
        "flash": _usage(log.flash),
        "ram": _usage(log.ram),
        "warningCount": len(log.warnings),
        "warnings": [
            {"file": item.file, "line": item.line, "message": item.message, "flag": item.flag}
            for item in log.warnings[:SHOWN_WARNINGS]
        ],
        "image": {"sha256": sha256, "size": size, **_about(image)},
        "seconds": build.seconds,
        "cached": build.cached,
    }


def _about(image: Image | str) -> dict[str, Any]:
    if isinstance(image, str):
        return {"error": image}
    return {
        "chip": image.chip,
        "build": image.build,
        "version": image.app.version if image.app else None,
        "intact": image.intact,
    }


def keep_artifact(store: ArtifactStore, sha256: str, metadata: dict[str, Any]) -> dict[str, Any]:
    """Makes a stored file an artifact; what others need to know of it. Raises Reject for what is no image."""
    data = store.get(sha256)
    try:
        image = parse_image(data)
    except ImageError as error:
        raise Reject(f"{metadata['environment']}: not an image: {error}") from None
    if not image.intact:
        raise Reject(f"{metadata['environment']}: the image is damaged: its checksum or hash is wrong")
    # MD5 is what the device's own over-the-air protocol wants; nothing is trusted because of it.
    md5 = hashlib.md5(data, usedforsecurity=False).hexdigest()
    about = {**_about(image), "size": len(data), "md5": md5}
    record = store.put_artifact(sha256, {**metadata, **about})
    return {
        name: record.get(name)
        for name in ("environment", "sha256", "size", "md5", "chip", "build", "version", "commit", "storedAt")
    }


def _image(store: ArtifactStore, sha256: str) -> Image | str:
    try:
        return parse_image(store.get(sha256))
    except ImageError as error:
        return str(error)


def _log_of(item: Metrics) -> BuildLog:
    shown = tuple(Warned(found.file, found.line, found.message, found.flag) for found in item.warnings)
    # A count that is missing must not pass as none.
    count = len(shown) if item.warningCount is None and shown else item.warningCount
    if count is None:
        raise Reject(f"metrics: {item.environment} says nothing about warnings; extract_build_metrics does")
    more = tuple(
        Warned("", 0, f"(not shown: warning {number})") for number in range(len(shown) + 1, count + 1)
    )
    return BuildLog(_read_usage(item.flash), _read_usage(item.ram), shown + more)


def _read_usage(used: Used | None) -> Usage | None:
    return Usage(used.used, used.total) if used else None


def _usage(usage: Usage | None) -> dict[str, Any] | None:
    if usage is None:
        return None
    return {"used": usage.used, "total": usage.total, "percent": round(usage.percent, 2)}


def _summary(found: dict[str, Any]) -> str:
    def percent(name: str) -> str:
        return f"{name} {found[name]['percent']} %" if found[name] else f"{name} unknown"

    return (
        f"[{found['environment']}] {percent('flash')}, {percent('ram')}, {found['warningCount']} warnings, "
        f"image {found['image']['size']:,} bytes"
    )
