"""What is built or downloaded once, outside any checkout, and shared by everything on this machine."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import math
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TextIO

from podium.local.errors import Interrupted
from podium.local.processes import wait_until
from podium.local.progress import Progress, Silence


class Cache:
    """Finished things by key. A key is a relative path; who builds one holds its lock."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @classmethod
    def of(cls, environment: Mapping[str, str] = os.environ) -> Cache:
        """`$PODIUM_CACHE`, else `$XDG_CACHE_HOME/podium`, else ~/.cache/podium."""
        if own := environment.get("PODIUM_CACHE"):
            return cls(Path(own).expanduser().resolve())
        shared = (
            environment.get("XDG_CACHE_HOME") or Path(environment.get("HOME", "~")).expanduser() / ".cache"
        )
        return cls(Path(shared) / "podium")

    def path(self, key: str) -> Path:
        """Where the thing with this key is, once it is there."""
        return self.root / key

    def once(
        self,
        key: str,
        what: str,
        build: Callable[[Path], None],
        progress: Progress | None = None,
        given_up: Callable[[], bool] = lambda: False,
    ) -> Path:
        """The thing with this key, built now if need be; only one process at a time builds it.

        `build` is given a path that does not exist, and makes a file or a folder there. Only what was built
        to its end is kept: an interrupted build leaves nothing that the next one could mistake for a result.
        `what` names it for those who have to wait ("the Kubernetes components"); they stop waiting, with
        Interrupted, when `given_up` says so.
        """
        there = self.path(key)
        if there.exists():
            return there
        with hold(
            self.root / "locks" / f"{key.replace('/', '_')}.lock", what, progress or Silence(), given_up
        ):
            if there.exists():
                return there
            half = there.with_name(f".half-{there.name}")
            _remove(half)
            there.parent.mkdir(parents=True, exist_ok=True)
            try:
                build(half)
                half.replace(there)
            finally:
                _remove(half)
        return there


@contextlib.contextmanager
def hold(
    lock: Path, what: str, progress: Progress, given_up: Callable[[], bool] = lambda: False
) -> Iterator[None]:
    """Holds a lock file; says who is waited for. The kernel lets go of it when its holder dies, however.

    Raises Interrupted if it still waits when `given_up` says so.
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("a+") as file:
        if not _locked(file):
            holder = lock.read_text().strip() or "unknown"
            progress.say(f"waiting for another podium (pid {holder}) that is at work on {what}")
            wait_until(lambda: given_up() or _locked(file), math.inf, every=0.2)
            if given_up():
                raise Interrupted(f"no longer waiting for {what}.")
        # The file stays: removing it would let two holders each lock a file of the same name.
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        try:
            yield
        finally:
            file.truncate(0)


def _locked(file: TextIO) -> bool:
    """Takes the lock if it is free."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def fingerprint(parts: Iterable[bytes | str]) -> str:
    """Twelve hexadecimal digits that change when any part, or the order of the parts, does."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "big") + data)
    return digest.hexdigest()[:12]


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        # Go makes what it caches read-only, and a folder must be writable for its entries to go.
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
