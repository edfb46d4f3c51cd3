"""The growing document of a state machine, as it can be known before anything runs.

Every place holds either an expression (the whole output of some task, whatever it turns out to be) or
an object of further places. Writing inside the output of a task needs a task of its own at run time
(a jq program that puts the values in); all else is an object literal of expressions.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from podium.core.definitions.expressions import read_path, write_path

Path = tuple[str | int, ...]

PUT_ALL = (
    'def put($p; $v): if ($p | length) == 0 then $v else (if type == "object" then . else {} end)'
    " | .[$p[0]] = (.[$p[0]] | put($p[1:]; $v)) end;"
    " reduce .writes[] as $w (.base; put($w.path; $w.value))"
)
"""jq: put every `{path, value}` of `writes` into `base`; what is in the way and no object is replaced."""


class MissingPath(LookupError):
    """Nothing has been written there. `known` are the keys that exist at the place where it went wrong."""

    def __init__(self, path: Path, known: list[str]) -> None:
        self.path, self.known = path, known
        super().__init__(f"{format_path(path)} has not been written")


@dataclass
class Place:
    """One place of the document."""

    expression: str | None = None
    """What stands here, without `${` and `}`; None = an object that only has the children."""
    children: dict[str, "Place"] = field(default_factory=dict)
    """Written later, into what stands here."""


Merge = Callable[[str, list[dict[str, Any]]], str]
"""(base expression, writes of {path, value}) → the expression of the merged value."""


def parse_document_path(text: str) -> Path | None:
    """`$.steps.a.output`, `.userRecord`, `$`, `.`, `['a b'][0]` → the path; None if it is none."""
    bare = text.removeprefix("$") if text.startswith("$") else text
    if bare in ("", "."):
        return ()
    return read_path(bare)


def format_path(path: Path) -> str:
    """The path as a person would write it."""
    return "$" + write_path(path)


def write(document: Place, path: tuple[str, ...], expression: str) -> None:
    """Put a value at a path; what was there, or in the way and no object, is replaced."""
    at = document
    for part in path[:-1]:
        at = at.children.setdefault(part, Place())
    at.children[path[-1]] = Place(expression)


def read(document: Place, path: Path, merge: Merge) -> Any:
    """The value at a path: an expression `${…}` or an object of them. Raises MissingPath."""
    at, base = document, document.expression
    for index, part in enumerate(path):
        if isinstance(part, int) and at.children:
            raise MissingPath(path, sorted(at.children))  # it is an object, whatever it was before
        child = at.children.get(part) if isinstance(part, str) else None
        if child is None and base is None:
            raise MissingPath(path, sorted(at.children))
        if child is None:
            return "${" + str(base) + write_path(path[index:]) + "}"
        at, base = child, _base_of(child, base, part)
    return _compose(at, base, merge)


def _base_of(child: Place, above: str | None, part: str | int) -> str | None:
    """The expression of what stood at a place before its children were written."""
    if child.expression is not None or above is None:
        return child.expression
    return above + write_path((part,))


def _compose(place: Place, base: str | None, merge: Merge) -> Any:
    if base is None:
        return {key: _compose(child, child.expression, merge) for key, child in place.children.items()}
    if not place.children:
        return "${" + base + "}"
    writes: list[dict[str, Any]] = []
    todo: list[tuple[tuple[str, ...], Place]] = [((), place)]
    while todo:
        path, at = todo.pop()
        if at.expression is not None and path:
            writes.append({"path": list(path), "value": "${" + at.expression + "}"})
        todo.extend(((*path, key), child) for key, child in reversed(at.children.items()))
    return "${" + merge(base, writes) + "}"
