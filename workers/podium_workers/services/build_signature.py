"""What a build calls itself, `BUILD_SIG:<commit>[-dirty]`, in its image and in a device's answers."""

from __future__ import annotations

import re

MARKER = "BUILD_SIG:"
DIRTY = "-dirty"
_FOUND = re.compile(rb"BUILD_SIG:([0-9A-Za-z][0-9A-Za-z._+/-]{0,95})")
_COMMIT = re.compile(r"(?<![0-9a-f])[0-9a-f]{7,64}(?![0-9a-f])")


def find_builds(image: bytes) -> tuple[str, ...]:
    """Each signature in an image, in order, without repetition.

    A format (`BUILD_SIG:%s`) is none. More than one means that nobody can say what the image is.
    """
    return tuple(dict.fromkeys(found.decode("ascii") for found in _FOUND.findall(image)))


def names_commit(build: str | None, commit: str) -> bool:
    """Whether `build` contains `commit`: `k1-9f1c2ab` contains 9f1c2ab and 9f1c2ab0c3….

    Both may be shortened, to not less than seven digits. A build of a changed checkout (`-dirty`) contains
    no commit.
    """
    wanted = commit.strip().lower()
    if not build or is_dirty(build) or not re.fullmatch(r"[0-9a-f]{7,64}", wanted):
        return False
    return any(
        found.startswith(wanted) or wanted.startswith(found) for found in _COMMIT.findall(build.lower())
    )


def is_dirty(build: str) -> bool:
    """Whether it was made of files that no commit has."""
    return DIRTY in build.lower()
