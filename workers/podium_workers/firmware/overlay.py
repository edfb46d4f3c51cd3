"""Files that are laid over a commit before it is built, and what such a build is called."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from pydantic import BaseModel

from podium_workers.runtime.context import Reject
from podium_workers.services.artifacts import ArtifactStore


class OverlayFile(BaseModel):
    """A file of the artifact store, and its place in the project's folder."""

    path: str
    sha256: str


def name_build(commit: str, overlay: Sequence[OverlayFile]) -> str:
    """What a build of the commit with these files calls itself: the commit, or 40 digits of its own.

    Never the commit with something behind it: whoever looks for that commit on a device must not find it.
    """
    if not overlay:
        return commit
    return hashlib.sha256(json.dumps([commit, describe(overlay)]).encode()).hexdigest()[:40]


def describe(overlay: Sequence[OverlayFile]) -> list[list[str]]:
    """The same for the same files, in whatever order."""
    return sorted([file.path, file.sha256] for file in overlay)


def lay(store: ArtifactStore, project: Path, overlay: Sequence[OverlayFile]) -> None:
    """Writes the files into the project's folder. Raises Reject for a path that leads out of it."""
    for file in overlay:
        data = store.get(file.sha256)
        place = find_place(project, file.path)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)


def find_place(project: Path, path: str) -> Path:
    """Where a file of the project lies, or would. Raises Reject for a path that leads out of it."""
    root = project.resolve()
    place = (root / path).resolve()
    if not path or place == root or not place.is_relative_to(root) or ".git" in PurePosixPath(path).parts:
        raise Reject(f"path: {path[:100]!r} is no file in the project's folder")
    if place.is_dir():
        raise Reject(f"path: {path[:100]!r} is a folder in the project")
    return place
