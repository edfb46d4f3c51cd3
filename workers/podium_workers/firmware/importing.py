"""Task: an image that was built elsewhere becomes an artifact, if it is what it is said to be."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any

from podium_workers.firmware.verdict import keep_artifact
from podium_workers.runtime.context import Reject, TaskContext
from podium_workers.runtime.registry import task
from podium_workers.services.artifacts import SHA256, open_store
from podium_workers.services.download import download, host_of

LARGEST_IMAGE = 32 * 2**20


@task("import_artifact")
async def import_artifact(
    context: TaskContext,
    url: str,
    sha256: str,
    environment: str,
    build: str = "",
    repository: str = "",
    token: str = "",
) -> dict[str, Any]:
    """Fetches an image, checks its SHA-256, and stores it; `build` is the commit that it was built of.

    Imported again, it is what was said of it last.
    """
    if not SHA256.fullmatch(sha256):
        raise Reject("sha256: 64 hexadecimal digits are wanted: an image without a known sum is not taken")
    store = open_store(context.data_dir)
    if not await asyncio.to_thread(store.has, sha256):
        data = await download(url, LARGEST_IMAGE, token)
        found = hashlib.sha256(data).hexdigest()
        if found != sha256:
            raise Reject(
                f"what is at {host_of(url)} has SHA-256 {found[:12]}…, not {sha256[:12]}…: it was replaced, "
                "or the release names another file"
            )
        await asyncio.to_thread(store.put, data)
        context.log(f"fetched {len(data):,} bytes from {host_of(url)}")
    metadata = {"environment": environment, "commit": build, "repository": repository, "path": ""}
    artifact = await asyncio.to_thread(keep_artifact, store, sha256, metadata)
    return {"artifacts": [artifact]}
