"""Where the artifact store lies: named bytes, and the folder that keeps them. A bucket: `s3.py`."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from podium_workers.runtime.context import Retry

YOUNG_SECONDS = 86_400.0
_ROOM_BYTES = 32 * 2**20
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class StoreFull(Retry):
    """No room. Nothing of what was to be written is there."""


@dataclass(frozen=True)
class Item:
    """A name on a shelf. `written_at`: seconds since 1970."""

    name: str
    written_at: float
    size: int


class Shelf(Protocol):
    """Named bytes. Names are relative paths. A write is there whole or not at all."""

    def read(self, name: str) -> bytes | None:
        """None if there is nothing of that name. Raises Retry."""

    def write(self, name: str, data: bytes) -> None:
        """Also over what was there. Raises StoreFull, Retry."""

    def remove(self, name: str) -> None:
        """What is not there is removed already. Raises Retry."""

    def list(self, prefix: str) -> Iterator[Item]:
        """All below `prefix`, which ends in a slash. Raises Retry: a part of the list is never the answer."""


class FolderShelf:
    """A folder, on the worker's own disk or on a volume that several share."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def __str__(self) -> str:
        return str(self._root)

    def read(self, name: str) -> bytes | None:
        with self._errors(f"read {name}"):
            try:
                return (self._root / name).read_bytes()
            except (FileNotFoundError, NotADirectoryError):
                return None

    def write(self, name: str, data: bytes) -> None:
        path = self._root / name
        # Same folder, so that the rename is one step; a dot first, so that no list shows it.
        half = path.with_name(f".{path.name[:80]}.{secrets.token_hex(4)}")
        with self._errors(f"write {name}"):
            path.parent.mkdir(parents=True, exist_ok=True)
            if shutil.disk_usage(path.parent).free < len(data) + _ROOM_BYTES:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            try:
                with half.open("wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                half.replace(path)
            except BaseException:
                half.unlink(missing_ok=True)
                raise
            _sync_folder(path.parent)

    def remove(self, name: str) -> None:
        with self._errors(f"remove {name}"):
            (self._root / name).unlink(missing_ok=True)

    def list(self, prefix: str) -> Iterator[Item]:
        base = self._root / prefix
        with self._errors(f"list {prefix}"):
            if not base.is_dir():
                return
            for folder, _, names in os.walk(base, onerror=_raise):
                for name in sorted(names):
                    path = Path(folder) / name
                    if name.startswith("."):
                        self._sweep(path)
                        continue
                    about = path.stat()
                    yield Item(path.relative_to(self._root).as_posix(), about.st_mtime, about.st_size)

    def _sweep(self, half: Path) -> None:
        """What a writer that was killed left behind."""
        with contextlib.suppress(OSError):
            if time.time() - half.stat().st_mtime > YOUNG_SECONDS:
                half.unlink()

    @contextlib.contextmanager
    def _errors(self, doing: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            where = f"artifact store {self._root}: cannot {doing}"
            if error.errno in _FULL:
                raise StoreFull(
                    f"{where}: the disk is full. Make room, enlarge its volume, or prune old artifacts"
                ) from None
            raise Retry(f"{where}: {error.strerror or error}") from None


def _raise(error: OSError) -> None:
    raise error


def _sync_folder(folder: Path) -> None:
    """The rename itself must be on the disk too."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
