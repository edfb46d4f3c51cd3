"""Task: an image that was built elsewhere becomes an artifact, if it is what it is said to be."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any

import aiohttp

from podium_workers.firmware.verdict import keep_artifact
from podium_workers.runtime.context import Reject, Retry, TaskContext
from podium_workers.runtime.registry import task
from podium_workers.services.artifacts import SHA256, open_store

LARGEST_IMAGE = 32 * 2**20
_SECONDS = 300.0
_TRY_AGAIN = frozenset({408, 425, 429})


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
    """Fetches an image, checks its SHA-256, and stores it; `build` is the commit that it was built of."""
    if not SHA256.fullmatch(sha256):
        raise Reject("sha256: 64 hexadecimal digits are wanted: an image without a known sum is not taken")
    store = open_store(context.data_dir)
    if not await asyncio.to_thread(store.has, sha256):
        data = await _fetch(url, token)
        found = hashlib.sha256(data).hexdigest()
        if found != sha256:
            raise Reject(
                f"what is at {_host(url)} has SHA-256 {found[:12]}…, not {sha256[:12]}…: it was replaced, "
                "or the release names another file"
            )
        await asyncio.to_thread(store.put, data)
        context.log(f"fetched {len(data):,} bytes from {_host(url)}")
    metadata = {"environment": environment, "commit": build, "repository": repository, "path": ""}
    artifact = await asyncio.to_thread(keep_artifact, store, sha256, metadata)
    return {"artifacts": [artifact]}


async def _fetch(url: str, token: str) -> bytes:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_SECONDS)) as session,
            # A token must not follow a redirection; without one it may lead anywhere, the sum decides.
            session.get(url, headers=headers, allow_redirects=not token) as response,
        ):
            if response.status >= 500 or response.status in _TRY_AGAIN:
                raise Retry(f"{_host(url)} answered {response.status}")
            if response.status != 200:
                raise Reject(f"{_host(url)} answered {response.status}: is the artifact's url right?")
            data = await response.content.read(LARGEST_IMAGE + 1)
            while len(data) <= LARGEST_IMAGE and not response.content.at_eof():
                data += await response.content.read(LARGEST_IMAGE + 1)
    except (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError, ValueError):
        raise Reject("url: not an address like https://host/firmware.bin") from None
    except TimeoutError:
        raise Retry(f"{_host(url)} has not given all of it within {_SECONDS:g} s") from None
    except aiohttp.ClientError as error:
        raise Retry(f"{_host(url)} cannot be reached: {type(error).__name__}") from None
    if len(data) > LARGEST_IMAGE:
        raise Reject(f"what is at {_host(url)} is larger than {LARGEST_IMAGE >> 20} MiB: no image is")
    return data


def _host(url: str) -> str:
    """Without what may be secret in it."""
    return url.partition("://")[2].partition("/")[0].rpartition("@")[2][:100] or "the url"
