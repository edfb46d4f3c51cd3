"""Processes of this machine, by their ids."""

import contextlib
from pathlib import Path

from support.eventually import eventually


def is_alive(pid: int) -> bool:
    """Whether it runs: a zombie does not."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    return False


def children_of(pid: int) -> list[int]:
    """The ids of the processes that its first thread has started."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


async def until_gone(*pids: int) -> None:
    """Waits until none of them runs."""

    async def left() -> list[int]:
        return [pid for pid in pids if is_alive(pid)]

    await eventually(left, lambda seen: not seen, within=10)


def family_of(pid: int) -> list[int]:
    """A process and its descendants, also of its other threads."""
    family, pending = [], [pid]
    while pending:
        member = pending.pop()
        family.append(member)
        for path in Path(f"/proc/{member}/task").glob("*/children"):
            with contextlib.suppress(OSError):
                pending.extend(int(child) for child in path.read_text().split())
    return family
