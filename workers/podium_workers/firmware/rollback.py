"""Task: the artifact that a device can go back to."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from podium_workers.firmware.deployment import DeviceInput
from podium_workers.runtime.context import Reject, TaskContext
from podium_workers.runtime.registry import task
from podium_workers.services.artifacts import ArtifactStore, NotStored, open_store
from podium_workers.services.build_signature import names_commit

_Record = dict[str, Any]


@task("find_rollback_artifact")
async def find_rollback_artifact(
    context: TaskContext,
    device: DeviceInput | None = None,
    failed: str | None = None,
    build: str | None = None,
    sha256: str | None = None,
    environment: str | None = None,
) -> dict[str, Any]:
    """Finds what a device can go back to: what it ran before, a certain build, or an artifact by its SHA-256.

    `failed`: the artifact that it goes back from, which is never what is found.
    """
    store = open_store(context.data_dir)
    holder = device.holder(context) if device else None
    found = await asyncio.to_thread(
        _find, store, holder, failed or "", build or "", sha256 or "", environment or ""
    )
    # Whole, or not at all: better to know that now than when the device waits for it.
    await asyncio.to_thread(store.get, str(found["sha256"]))
    commit = str(found.get("commit", ""))
    context.log(f"{found['environment']} of {commit[:12]}, stored {found.get('storedAt')}")
    return {
        "sha256": found["sha256"],
        "commit": commit,
        "shortCommit": commit[:7],
        "environment": found["environment"],
        "chip": found.get("chip"),
    }


def _find(
    store: ArtifactStore, holder: str | None, failed: str, build: str, sha256: str, environment: str
) -> _Record:
    held = store.held(holder) if holder else {}
    # What it has now, or should have. Whoever names no artifact and no build wants to get away from that.
    last = _known(store, failed or str(held.get("sent") or ""))
    bad = last if failed or not (build or sha256) else None
    if sha256:
        found = store.artifact(sha256)
    else:
        # Here it is known exactly which image it was, not only of which commit.
        ran = [record for item in held.get("ran", ()) if (record := _known(store, str(item)))]
        ran = [record for record in ran if not _is_same(record, bad)]
        before = _build_before(held, last)
        if build or (before and not ran):
            found = _find_build(store, build or before, ran, last, environment)
        else:
            found = _newest(ran)
    if _is_same(found, bad) or found["sha256"] == failed:
        raise Reject(
            f"{found['environment']} of {str(found.get('commit'))[:12]} is what the device is to go back "
            "from: name another artifact by `sha256`"
        )
    return found


def _build_before(held: _Record, last: _Record | None) -> str:
    """What it said it ran before it was sent the last one, also if Podium has not brought it that."""
    if last is None or held.get("sent") != last["sha256"]:
        return ""
    return str((held.get("before") or {}).get("build", ""))


def _newest(ran: Sequence[_Record]) -> _Record:
    if not ran:
        raise Reject("nothing is known that the device ran before: name the artifact by `sha256`")
    return ran[0]


def _find_build(
    store: ArtifactStore, build: str, ran: Sequence[_Record], last: _Record | None, environment: str
) -> _Record:
    for record in ran:
        if _is_of(record, build) and environment in ("", record.get("environment")):
            return record
    stored = [record for record in store.artifacts() if _is_of(record, build)]
    if not stored:
        raise NotStored(
            f"the artifact store ({store}) has nothing of build {build[:60]}: build that commit again "
            "(firmware-ci), or name another artifact by `sha256`"
        )
    found = [record for record in stored if _fits(record, last, environment)]
    if not found:
        raise NotStored(
            f"build {build[:60]} was stored for {_names(stored)}, and not for "
            f"{environment or _names([last or {}])}: build it for that (firmware-ci), or name an artifact by "
            "`sha256`"
        )
    if len({_project(record) for record in found}) > 1:
        raise Reject(
            f"build {build[:60]} was stored for {_names(found)}: say which `environment`, or name the "
            "artifact by `sha256`"
        )
    return found[0]


def _known(store: ArtifactStore, sha256: str) -> _Record | None:
    """The artifact. None: there is none, or it was never stored as one."""
    try:
        return store.artifact(sha256) if sha256 else None
    except NotStored:
        return None


def _is_of(record: _Record, build: str) -> bool:
    return names_commit(build, str(record.get("commit") or ""))


def _is_same(record: _Record, other: _Record | None) -> bool:
    """The same image, or another one of the same commit: a device that runs the one is not sent the other."""
    if other is None:
        return False
    return record["sha256"] == other["sha256"] or _is_of(record, str(other.get("commit") or ""))


def _fits(record: _Record, last: _Record | None, environment: str) -> bool:
    """Whether it is for the same board, and of the same project, as far as both are known."""
    last = last or {}
    wanted = environment or last.get("environment")
    if wanted and record.get("environment") != wanted:
        return False
    known = bool(last.get("repository") and record.get("repository"))
    return not known or _project(record)[1:] == _project(last)[1:]


def _project(record: _Record) -> tuple[str, str, str]:
    environment, repository, path = (
        str(record.get(name) or "") for name in ("environment", "repository", "path")
    )
    return environment, repository, path.strip("/")


def _names(records: Sequence[_Record]) -> str:
    projects = sorted({_project(record) for record in records})
    return ", ".join(
        " ".join(filter(None, (environment, path and f"of {path}", repository and f"in {repository}")))
        for environment, repository, path in projects[:5]
    )
