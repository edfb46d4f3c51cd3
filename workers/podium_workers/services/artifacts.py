"""The artifact store: files by their SHA-256, what is known of them, and what must not be dropped.

    blobs/<sha256>             a file; its name is its content, and it is checked at each read
    builds/<key>.json          what one build made, so that the same commit and settings are not built twice
    artifacts/<sha256>.json    an image that passed its gates, with its metadata
    pins/<sha256>/<holder>     who needs that image: a device runs it, or may go back to it
    holders/<holder>.json      what the holder ran well, newest first, what it was sent, what it ran before
    records/<kind>/<key>/<name>.json   what else is remembered, with the files that belong to it (`files`)

In a folder (`shelves.py`), or in a bucket that speaks S3 (`s3.py`).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from podium_workers.runtime.context import Reject
from podium_workers.services.shelves import YOUNG_SECONDS, FolderShelf, Shelf

SHA256 = re.compile(r"[0-9a-f]{64}")
KEY = re.compile(r"[0-9a-f]{16,64}")
_HOLDER = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?(/[a-z0-9]([-a-z0-9.]*[a-z0-9])?)*")


class NotStored(Reject):
    """The store has no such thing, or had it and lost it. The message says what can be done."""


class Damaged(Reject):
    """What lies there is not what was stored."""


class ArtifactStore:
    """Blobs, builds, artifacts and pins on a shelf. `now`: the clock, in seconds since 1970."""

    def __init__(self, shelf: Shelf, now: Callable[[], float] = time.time) -> None:
        self._shelf = shelf
        self._now = now

    def __str__(self) -> str:
        return str(self._shelf)

    # --- blobs ---------------------------------------------------------------------------------------

    def put(self, data: bytes) -> str:
        """Stores a file; its SHA-256."""
        sha256 = hashlib.sha256(data).hexdigest()
        name = f"blobs/{sha256}"
        # Written again even where there is one: it may be damaged, and a prune must see that it is young.
        self._shelf.write(name, data)
        return sha256

    def get(self, sha256: str) -> bytes:
        """The file, checked. Raises NotStored, Damaged, Retry."""
        _check_sha256(sha256)
        data = self._shelf.read(f"blobs/{sha256}")
        if data is None:
            raise NotStored(
                f"the artifact store has no {sha256[:12]}…: it was pruned or lost; build its commit again, "
                f"or restore the store ({self._shelf}) from its backup"
            )
        if hashlib.sha256(data).hexdigest() != sha256:
            raise Damaged(
                f"artifact {sha256[:12]}… in the store ({self._shelf}) is damaged ({len(data)} bytes that "
                "have another SHA-256): it is not used; build its commit again, or restore it from a backup"
            )
        return data

    def has(self, sha256: str) -> bool:
        """Whether it is there and whole."""
        try:
            self.get(sha256)
        except (NotStored, Damaged):
            return False
        return True

    # --- builds and artifacts ------------------------------------------------------------------------

    def build(self, key: str) -> dict[str, Any] | None:
        """What the build of this key made. None if it is not known, or a file of it is not there whole.

        Whoever asks is about to use it: a prune then takes it for a young one.
        """
        found = self._record(f"builds/{key}.json")
        if found is None or not all(self.has(blob["sha256"]) for blob in found.get("files", {}).values()):
            return None
        self.put_build(key, found)
        return found

    def put_build(self, key: str, record: Mapping[str, Any]) -> None:
        """After its files: a record never names what is not there."""
        if not KEY.fullmatch(key):
            raise ValueError(f"not the key of a build: {key!r}")
        self._shelf.write(f"builds/{key}.json", _json(record))

    def artifact(self, sha256: str) -> dict[str, Any]:
        """The metadata. Raises NotStored, Damaged, Retry."""
        _check_sha256(sha256)
        found = self._record(f"artifacts/{sha256}.json")
        if found is None:
            raise NotStored(
                f"the artifact store ({self._shelf}) knows no artifact {sha256[:12]}…: build it again"
            )
        return found

    def put_artifact(self, sha256: str, metadata: Mapping[str, Any]) -> dict[str, Any]:
        """Makes a stored file an artifact, or one that is there a young one.

        What is said of it goes over what was said before; what is left empty stays as it was. `storedAt`:
        when that was done last.
        """
        # Written again: a prune must see that it is young.
        self.put(self.get(sha256))
        name = f"artifacts/{sha256}.json"
        known: Mapping[str, Any] = {}
        with contextlib.suppress(Damaged):
            known = self._record(name) or {}
        said = {key: value for key, value in metadata.items() if value not in ("", None)}
        record = {**metadata, **known, **said, "sha256": sha256, "storedAt": _iso(self._now())}
        self._shelf.write(name, _json(record))
        return record

    def artifacts(self) -> list[dict[str, Any]]:
        """All of them, what was stored last first. Raises Damaged, Retry."""
        names = [item.name for item in self._shelf.list("artifacts/")]
        found = [record for name in names if (record := self._record(name)) is not None]
        return sorted(found, key=lambda record: str(record.get("storedAt")), reverse=True)

    # --- records -------------------------------------------------------------------------------------

    def record(self, kind: str, key: str, name: str) -> dict[str, Any] | None:
        """What is remembered under this name. Raises Damaged, Retry."""
        return self._record(f"records/{kind}/{key}/{name}.json")

    def put_record(self, kind: str, key: str, name: str, record: Mapping[str, Any]) -> None:
        """After its files (`files`: `{name: {"sha256": …}}`), over what was there. Raises Retry."""
        stored = {**record, "storedAt": _iso(self._now())}
        self._shelf.write(f"records/{kind}/{key}/{name}.json", _json(stored))

    # --- retention -----------------------------------------------------------------------------------

    def pin(self, sha256: str, holder: str) -> None:
        """Keeps an artifact for `holder` (`device/lights/k1-07`). Raises NotStored, Damaged, Retry."""
        self.get(sha256)
        self._shelf.write(f"pins/{sha256}/{_checked_holder(holder)}", b"")

    def unpin(self, sha256: str, holder: str) -> None:
        """`holder` does not need it any longer."""
        _check_sha256(sha256)
        self._shelf.remove(f"pins/{sha256}/{_checked_holder(holder)}")

    def pins(self) -> dict[str, set[str]]:
        """Holders by SHA-256. Raises Retry."""
        found: dict[str, set[str]] = defaultdict(set)
        for item in self._shelf.list("pins/"):
            _, sha256, holder = item.name.split("/", 2)
            found[sha256].add(holder)
        return dict(found)

    def held(self, holder: str) -> dict[str, Any]:
        """`ran`: what it ran well, newest first; `sent`: what it was sent last; `before`: as `hold` was told.

        Empty: nothing is known. Raises Damaged, Retry.
        """
        return self._record(f"holders/{_checked_holder(holder)}.json") or {}

    def hold(
        self, sha256: str, holder: str, *, runs: bool, before: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Keeps what a device is about to get, or (`runs`) is known to run, and what it ran well before that.

        What it was sent in vain meanwhile is let go. `before`: what it said of itself before it got that;
        None: what was noted when it was about to get the same. Returns what is `held` then. Raises NotStored,
        Damaged, Retry.
        """
        try:
            known = self.held(holder)
        except Damaged:
            # Its pins stay: too much is kept then, never too little.
            known = {}
        ran = [str(item) for item in known.get("ran", [])]
        now_ran = [sha256, *(item for item in ran if item != sha256)][:2] if runs else ran
        keeps = {*now_ran, sha256}
        # First the new pin, last the old ones: there is no moment without.
        self.pin(sha256, holder)
        if before is None and known.get("sent") == sha256:
            before = known.get("before")
        record = {"ran": now_ran, "sent": sha256, "before": before}
        self._shelf.write(f"holders/{holder}.json", _json(record))
        for old in {*ran, str(known.get("sent") or sha256)} - keeps:
            self.unpin(old, holder)
        return record

    def prune(self, keep: Iterable[str], newest: int, young_seconds: float = YOUNG_SECONDS) -> list[str]:
        """Drops what nobody needs; the SHA-256 of the artifacts that went.

        Kept are `keep`, what is pinned, the `newest` of each project, environment and repository, the
        `newest` records of each kind and key with their files, and what is younger than `young_seconds`.
        Everything is read before anything is dropped: if one list or record cannot be read, nothing goes.
        Raises Damaged, Retry.
        """
        for sha256 in (keep := list(keep)):
            _check_sha256(sha256)
        oldest = self._now() - young_seconds
        # Reading a bucket takes its time, and others go on: files first, and last what keeps them.
        blobs = list(self._shelf.list("blobs/"))
        builds = [(item, self._record(item.name) or {}) for item in list(self._shelf.list("builds/"))]
        old_records, needed = self._sort_records(newest, oldest)
        ages = {item.name: item.written_at for item in self._shelf.list("artifacts/")}
        records = self.artifacts()
        kept = {*keep, *self.pins()}
        counts: dict[tuple[str, ...], int] = defaultdict(int)
        going: list[str] = []
        for record in records:
            sha256 = str(record["sha256"])
            family = tuple(str(record.get(name)) for name in ("repository", "path", "environment", "kind"))
            counts[family] += 1
            young = ages.get(f"artifacts/{sha256}.json", self._now()) > oldest
            if not (sha256 in kept or counts[family] <= newest or young):
                going.append(sha256)
        staying = kept | {str(record["sha256"]) for record in records} - set(going)
        needed |= staying
        for item, build in builds:
            files = {name: str(blob["sha256"]) for name, blob in build.get("files", {}).items()}
            if files.get("image") in staying or item.written_at > oldest:
                needed |= set(files.values())
            else:
                self._shelf.remove(item.name)
        for name in [*old_records, *(f"artifacts/{sha256}.json" for sha256 in going)]:
            self._shelf.remove(name)
        for item in blobs:
            if item.name.removeprefix("blobs/") not in needed and item.written_at <= oldest:
                self._shelf.remove(item.name)
        return going

    def _sort_records(self, newest: int, oldest: float) -> tuple[list[str], set[str]]:
        """The names of the records that may go, and the SHA-256 of the files of those that stay."""
        going: list[str] = []
        needed: set[str] = set()
        counts: dict[str, int] = defaultdict(int)
        items = sorted(self._shelf.list("records/"), key=lambda item: item.written_at, reverse=True)
        for item in items:
            folder = item.name.rpartition("/")[0]
            counts[folder] += 1
            if counts[folder] <= newest or item.written_at > oldest:
                files = (self._record(item.name) or {}).get("files", {})
                needed |= {str(blob["sha256"]) for blob in files.values()}
            else:
                going.append(item.name)
        return going, needed

    def _record(self, name: str) -> dict[str, Any] | None:
        data = self._shelf.read(name)
        if data is None:
            return None
        try:
            found = json.loads(data)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise Damaged(
                f"artifact store ({self._shelf}): {name} is damaged: remove it, or restore it from a backup"
            )
        return found


def open_store(data_dir: Path, where: str | None = None) -> ArtifactStore:
    """The store at `where` (PODIUM_ARTIFACTS): `s3://bucket/prefix`, or a folder; else in the data folder."""
    where = where if where is not None else os.environ.get("PODIUM_ARTIFACTS", "")
    if where.startswith("s3://"):
        from podium_workers.services.s3 import S3Shelf

        return ArtifactStore(S3Shelf.at(where))
    return ArtifactStore(FolderShelf(Path(where) if where else data_dir / "artifacts"))


def _check_sha256(sha256: str) -> None:
    if not SHA256.fullmatch(sha256):
        raise Reject(f"{sha256[:80]!r} is no SHA-256: 64 hexadecimal digits")


def _checked_holder(holder: str) -> str:
    if not _HOLDER.fullmatch(holder) or ".." in holder or len(holder) > 300:
        raise Reject(f"holder: {holder[:80]!r} is no name like device/lights/k1-07")
    return holder


def _json(record: Mapping[str, Any]) -> bytes:
    return json.dumps(record, indent=1, sort_keys=True).encode() + b"\n"


def _iso(at: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at)) + f".{int(at % 1 * 1000):03d}Z"
