"""Task: compile, once for each commit and settings."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from podium_workers.firmware import workspace as workspaces
from podium_workers.firmware.inputs import GitLogin, parse_bytes, parse_seconds
from podium_workers.firmware.narration import Narration
from podium_workers.firmware.overlay import OverlayFile, describe, lay, name_build
from podium_workers.firmware.source import check_out, settings
from podium_workers.runtime.context import Reject, TaskContext
from podium_workers.runtime.registry import task
from podium_workers.services import platformio
from podium_workers.services.artifacts import ArtifactStore, open_store
from podium_workers.services.platformio import Settings
from podium_workers.services.programs import Limits

LONGEST_SECONDS = 6 * 3600.0
ROOM_BYTES = 256 * 2**20
MOST_PROCESSES = 1000
FAILURE_LINES = 20
RECIPE = 1
"""Counted up where the same commit would be built differently: older builds are then not taken."""
_NOT_THE_PROGRAM = frozenset({"bootloader.bin", "partitions.bin", "boot_app0.bin", "ota_data_initial.bin"})


@task("platformio_compile")
async def platformio_compile(
    context: TaskContext,
    repository: str,
    commit: str,
    path: str = "",
    environments: list[str] | None = None,
    credentials: GitLogin | None = None,
    submodules: bool = False,
    workspace: str = "main",
    timeout: str = "20m",
    memoryLimit: str = "2Gi",  # noqa: N803
    diskLimit: str = "4Gi",  # noqa: N803
    rebuild: bool = False,
    overlay: list[OverlayFile] | None = None,
) -> dict[str, Any]:
    """Builds environments of a PlatformIO project into the artifact store, from its log on.

    `overlay`: files of the artifact store that are laid over the commit; such a build has a name of its own.
    """
    limits = Limits(
        seconds=parse_seconds("timeout", timeout, LONGEST_SECONDS),
        memory_bytes=parse_bytes("memoryLimit", memoryLimit),
        disk_bytes=parse_bytes("diskLimit", diskLimit),
        room_bytes=ROOM_BYTES,
        processes=MOST_PROCESSES,
    )
    store = open_store(context.data_dir)
    async with workspaces.opened(context, workspace) as place:
        found = await check_out(context, place, repository, commit, credentials, submodules)
        build = name_build(found.id, overlay or [])
        named = dataclasses.replace(found, id=build)
        given = settings(context, place, named, _within(limits, place.folder))
        project = place.project(path)
        await asyncio.to_thread(lay, store, project, overlay or [])
        builds = []
        for environment in environments or await platformio.list_environments(project, given, []):
            key = build_key(repository, found.id, path, environment, submodules, overlay or [])
            known = None if rebuild else await asyncio.to_thread(store.build, key)
            if known is not None:
                context.log(
                    f"[{environment}] was built before, at {known.get('builtAt', 'some time')}: taken from "
                    "there"
                )
                builds.append({**known, "cached": True})
                continue
            builds.append(await _build(context, store, project, environment, key, given))
    return {
        "commit": found.id,
        "build": build,
        "environments": [built["environment"] for built in builds],
        "builds": builds,
    }


def build_key(
    repository: str,
    commit: str,
    path: str,
    environment: str,
    submodules: bool,
    overlay: Sequence[OverlayFile] = (),
) -> str:
    """What decides what comes out: the same key, the same build."""
    recipe: dict[str, Any] = {
        "recipe": RECIPE,
        "repository": repository,
        "commit": commit,
        "path": path.strip("/"),
        "environment": environment,
        "submodules": submodules,
        "platformio": platformio.find_platformio().version,
    }
    if overlay:
        recipe["overlay"] = describe(overlay)
    if variables := platformio.own_variables():
        recipe["variables"] = variables
    return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:40]


async def _build(
    context: TaskContext, store: ArtifactStore, project: Path, environment: str, key: str, given: Settings
) -> dict[str, Any]:
    narration = Narration(environment, context.log)
    ended = await platformio.build(project, environment, given, narration.add)
    if not ended.ok:
        for line in narration.tail[-FAILURE_LINES:]:
            context.log(f"[{environment}] {line}")
        log = await asyncio.to_thread(store.put, narration.text())
        failure = platformio.explain(environment, ended, narration.lines, given.limits)
        failure.output = {"environment": environment, "log": log}
        raise failure
    folder = project / ".pio" / "build" / environment
    files = {"image": find_image(folder), "elf": next(iter(sorted(folder.glob("*.elf"))), None)}

    def keep() -> dict[str, Any]:
        kept = {"log": _kept(store, narration.text())}
        for name, file in files.items():
            if file is not None:
                kept[name] = _kept(store, file.read_bytes())
        record = {
            "environment": environment,
            "key": key,
            "seconds": round(ended.seconds, 2),
            "peakMemory": ended.peak_memory_bytes,
            "files": kept,
        }
        store.put_build(key, record | {"builtAt": _now()})
        return record

    return {**await asyncio.to_thread(keep), "cached": False}


def find_image(folder: Path) -> Path:
    """The program's image in a build folder. Raises Reject if there is none, or if several could be it."""
    usual = folder / "firmware.bin"
    if usual.is_file():
        return usual
    found = [path for path in sorted(folder.glob("*.bin")) if path.name not in _NOT_THE_PROGRAM]
    if len(found) == 1:
        return found[0]
    seen = ", ".join(path.name for path in found[:5]) or "no .bin file"
    raise Reject(
        f"{folder.name}: the build succeeded and left {seen} in .pio/build/{folder.name}, not firmware.bin: "
        "is its platform one for ESP32?"
    )


def _kept(store: ArtifactStore, data: bytes) -> dict[str, Any]:
    return {"sha256": store.put(data), "size": len(data)}


def _within(limits: Limits, folder: Path) -> Limits:
    return dataclasses.replace(limits, folder=folder)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
