"""Everything a spec says, one value after the other; and is it nested too deep?

Walking is done without recursion, so that it holds for any depth. What comes after `check_depth` may
recurse as it likes: it sees nothing deeper than `DEEPEST`.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Any

from pydantic import BaseModel

from podium.api.v1alpha1.workflow import WorkflowSpec
from podium.core.definitions.findings import Report

DEEPEST = 128
"""Levels of JSON that a spec may have. More is a mistake, and would exhaust stacks here and there."""
_LONGEST_PATH = 60


def every_value(spec: WorkflowSpec) -> Iterator[tuple[str, Any, int]]:
    """(path, value, level) of the spec and all that is in it, in the order of the manifest."""
    todo: list[tuple[str, Any, int]] = [("spec", spec, 0)]
    while todo:
        path, value, level = todo.pop()
        yield path, value, level
        todo += [(f"{path}{part}", item, level + 1) for part, item in _inside(value)][::-1]


def check_depth(spec: WorkflowSpec, report: Report) -> None:
    """Reports the first place that is too deep; expressions inside of each other count as levels."""
    for path, value, level in every_value(spec):
        nested = _nested_expressions(value) if isinstance(value, str) else 0
        if level + nested > DEEPEST:
            shown = path if len(path) <= _LONGEST_PATH else path[: _LONGEST_PATH - 1] + "…"
            report.error(shown, f"nested deeper than {DEEPEST} levels", "make it flatter")
            return


def _inside(value: Any) -> Iterable[tuple[str, Any]]:
    if isinstance(value, BaseModel):
        fields = type(value).model_fields
        return [
            (f".{(fields[name].alias if name in fields else None) or name}", item) for name, item in value
        ]
    if isinstance(value, dict):
        return [(f".{key}", item) for key, item in value.items()]
    if isinstance(value, list):
        return [(f"[{index}]", item) for index, item in enumerate(value)]
    return ()


def _nested_expressions(text: str) -> int:
    """How many `${` are open at once, at most."""
    deepest = open_now = 0
    for found in re.finditer(r"\$\{|\}", text):
        open_now = open_now + 1 if found[0] == "${" else max(0, open_now - 1)
        deepest = max(deepest, open_now)
    return deepest
