"""What a build's log says in numbers: flash, RAM, and each warning once, by file and line. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

MOST_WARNINGS = 1000
MESSAGE_CHARACTERS = 300
_SIZES = re.compile(
    r"^(?P<what>RAM|Flash):\s+\[[= ]*\]\s*[\d.]+%\s+\(used (?P<used>\d+) bytes from (?P<total>\d+) "
    r"bytes\)\s*$"
)
_COLOURS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_AT_LINE = re.compile(
    r"^(?P<file>[^\s:].*?):(?P<line>\d+):(?:(?P<column>\d+):)?\s+warning:\s+(?P<message>.*?)(?:\s\[(?P<flag>-W[^\]]+)\])?$"
)
_ANYWHERE = re.compile(
    r"^(?:(?P<file>\S.*?):\s*)?warning:\s+(?P<message>.*?)(?:\s\[(?P<flag>-W[^\]]+)\])?$", re.IGNORECASE
)
_RAM_OVER = re.compile(r"^Warning! The data size \(\d+ bytes\) is greater")


@dataclass(frozen=True)
class Usage:
    """Bytes taken of the bytes there are."""

    used: int
    total: int

    @property
    def percent(self) -> float:
        """Not rounded; what has no room at all is full."""
        return 100.0 * self.used / self.total if self.total else 100.0


@dataclass(frozen=True, order=True)
class Warned:
    """One warning. `file` is relative to the project where it lies in it; line 0: the log names none."""

    file: str
    line: int
    message: str
    flag: str = ""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}: " if self.line else f"{self.file}: " if self.file else ""
        return f"{place}{self.message}{f' [{self.flag}]' if self.flag else ''}"


@dataclass(frozen=True)
class BuildLog:
    """`flash` and `ram` are None where the log does not say them: that is never zero."""

    flash: Usage | None
    ram: Usage | None
    warnings: tuple[Warned, ...]
    """In the order of the log, each once: a header's is printed for each file that includes it."""


def parse_log(lines: Iterable[str], project: str = "") -> BuildLog:
    """Of the log of one environment. `project`: the folder that paths are shown relative to.

    Where a size is said several times, the largest counts: whatever a project's own script prints cannot
    make it
    smaller.
    """
    sizes: dict[str, Usage] = {}
    warnings: dict[Warned, None] = {}
    for raw in lines:
        line = _COLOURS.sub("", raw).rstrip()
        if found := _SIZES.match(line):
            usage = Usage(int(found["used"]), int(found["total"]))
            known = sizes.get(found["what"])
            if known is None or usage.percent > known.percent:
                sizes[found["what"]] = usage
        elif (warned := _warning(line, project)) and len(warnings) < MOST_WARNINGS:
            warnings[warned] = None
    return BuildLog(sizes.get("Flash"), sizes.get("RAM"), tuple(warnings))


def _warning(line: str, project: str) -> Warned | None:
    if _RAM_OVER.match(line):
        return Warned("", 0, line.removeprefix("Warning! ")[:MESSAGE_CHARACTERS])
    if found := _AT_LINE.match(line):
        return Warned(
            _relative(found["file"], project),
            int(found["line"]),
            found["message"][:MESSAGE_CHARACTERS],
            found["flag"] or "",
        )
    if found := _ANYWHERE.match(line):
        # The linker's, with its own path in front: `/usr/bin/../ld: warning: …`.
        tool = found["file"] or ""
        return Warned(
            tool.rpartition("/")[2] if tool.startswith("/") else _relative(tool, project),
            0,
            found["message"][:MESSAGE_CHARACTERS],
            found["flag"] or "",
        )
    return None


def _relative(path: str, project: str) -> str:
    return path.removeprefix(f"{project}/") if project else path
