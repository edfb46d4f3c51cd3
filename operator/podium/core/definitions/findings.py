"""What lint says: findings with a place, a sentence and a remedy."""

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Finding:
    """One remark about a manifest. `path` as a person would write it: `spec.graph.nodes[2].dependsOn[0]`."""

    level: Literal["error", "warning"]
    path: str
    message: str
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" + (f"; {self.remedy}" if self.remedy else "")


class InvalidWorkflow(ValueError):
    """The spec cannot become a definition; `findings` has at least one error."""

    def __init__(self, findings: Iterable[Finding]) -> None:
        self.findings = tuple(findings)
        super().__init__("\n".join(str(item) for item in self.findings if item.level == "error"))


class Report:
    """Collects findings while a manifest is read. Nothing is said twice."""

    def __init__(self) -> None:
        self._found: dict[Finding, None] = {}

    def error(self, path: str, message: str, remedy: str = "") -> None:
        """Something that keeps the workflow from being registered."""
        self._found[Finding("error", path, message, remedy)] = None

    def warning(self, path: str, message: str, remedy: str = "") -> None:
        """Something that is likely not meant."""
        self._found[Finding("warning", path, message, remedy)] = None

    @property
    def failed(self) -> bool:
        """Is there an error?"""
        return any(item.level == "error" for item in self._found)

    def findings(self) -> list[Finding]:
        """Errors first, each level in the order of the manifest."""
        return sorted(self._found, key=lambda item: item.level != "error")


def nearest(word: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The known word that was probably meant, or None."""
    by_shape: dict[str, str] = {}
    for item in known:
        by_shape.setdefault(_shape(item), item)
    found = difflib.get_close_matches(_shape(word), by_shape, n=1, cutoff=cutoff)
    return by_shape[found[0]] if found else None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A remedy that names the nearest known word; if none is near, a few of those that exist."""
    known = list(known)
    if guess := nearest(word, known):
        return f"did you mean {guess!r}?"
    if not known:
        return ""
    shown = ", ".join(repr(item) for item in known[:5])
    return f"there is {shown}" + (f" and {len(known) - 5} more" if len(known) > 5 else "")


def _shape(word: str) -> str:
    return re.sub(r"[\s_.-]", "", word).lower()
