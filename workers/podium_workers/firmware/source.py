"""Tasks: the commit is there and is a PlatformIO project; a clean folder to build it in."""

from __future__ import annotations

import asyncio
import os
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from podium_workers.firmware import workspace as workspaces
from podium_workers.firmware.inputs import GitLogin
from podium_workers.firmware.workspace import Workspace
from podium_workers.runtime.context import TaskContext
from podium_workers.runtime.registry import task
from podium_workers.services.git import Commit, checkout
from podium_workers.services.platformio import Settings, list_environments
from podium_workers.services.programs import Limits

CHECKOUT_BYTES = 4 * 2**30


@task("validate_commit")
async def validate_commit(
    context: TaskContext,
    repository: str,
    commit: str,
    path: str = "",
    environments: list[str] | None = None,
    credentials: GitLogin | None = None,
    submodules: bool = False,
    workspace: str = "main",
) -> dict[str, Any]:
    """Checks out a commit, branch or tag, and says which commit it is and which environments it has."""
    await asyncio.to_thread(workspaces.sweep, context)
    async with workspaces.opened(context, workspace) as place:
        found = await check_out(context, place, repository, commit, credentials, submodules)
        project = place.project(path)
        chosen = await list_environments(project, settings(context, place, found), environments or [])
    return {
        "repository": repository,
        "commit": found.id,
        "shortCommit": found.short,
        "subject": found.subject,
        "author": found.author,
        "committedAt": datetime.fromtimestamp(found.committed_at, UTC).isoformat().replace("+00:00", "Z"),
        "path": path,
        "environments": chosen,
    }


@task("clean_build_env")
async def clean_build_env(
    context: TaskContext,
    repository: str,
    commit: str,
    path: str = "",
    credentials: GitLogin | None = None,
    submodules: bool = False,
    workspace: str = "main",
) -> dict[str, Any]:
    """Drops `.pio` and whatever else the commit does not have, so that the build begins from it alone."""
    async with workspaces.opened(context, workspace) as place:
        before = await asyncio.to_thread(_entries, place.source)
        await asyncio.to_thread(_drop, place.own)
        found = await check_out(context, place, repository, commit, credentials, submodules)
        place.project(path)
        left = await asyncio.to_thread(_entries, place.source)
    removed = max(0, before - left)
    context.log(f"{found.short} is checked out; {removed} leftovers removed")
    return {"commit": found.id, "workspace": workspace, "removed": removed}


async def check_out(
    context: TaskContext,
    place: Workspace,
    repository: str,
    revision: str,
    credentials: GitLogin | None,
    submodules: bool,
) -> Commit:
    """The commit in the workspace, with nothing beside it."""
    found = await checkout(
        repository,
        revision,
        place.source,
        credentials.credentials() if credentials else None,
        submodules=submodules,
        disk_bytes=CHECKOUT_BYTES,
    )
    context.log(f"{found.short} {found.subject} ({found.author})")
    return found


def settings(
    context: TaskContext, place: Workspace, commit: Commit, limits: Limits | None = None
) -> Settings:
    """A build's settings, from this worker's."""
    core = os.environ.get("PODIUM_PLATFORMIO_CORE")
    return Settings(
        core=Path(core) if core else context.data_dir / "platformio",
        workspace=place.own,
        commit=commit.id,
        epoch=commit.committed_at,
        limits=limits or Limits(seconds=60.0),
    )


def _entries(folder: Path) -> int:
    return sum(1 for path in folder.rglob("*") if ".git" not in path.parts)


def _drop(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
