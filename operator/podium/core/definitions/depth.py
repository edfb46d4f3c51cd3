"""Is a spec nested too deep? What comes after this check may recurse as it likes."""

import re

from podium.api.v1alpha1.workflow import WorkflowSpec
from podium.core.definitions.findings import Report
from podium.core.values import every_value

DEEPEST = 128
"""Levels of JSON that a spec may have. More is a mistake, and would exhaust stacks here and there."""
_LONGEST_PATH = 60


def check_depth(spec: WorkflowSpec, report: Report) -> None:
    """Reports the first place that is too deep; expressions inside of each other count as levels."""
    for path, value, level in every_value(spec, "spec"):
        nested = _nested_expressions(value) if isinstance(value, str) else 0
        if level + nested > DEEPEST:
            shown = path if len(path) <= _LONGEST_PATH else path[: _LONGEST_PATH - 1] + "…"
            report.error(shown, f"nested deeper than {DEEPEST} levels", "make it flatter")
            return


def _nested_expressions(text: str) -> int:
    """How many `${` are open at once, at most."""
    deepest = open_now = 0
    for found in re.finditer(r"\$\{|\}", text):
        open_now = open_now + 1 if found[0] == "${" else max(0, open_now - 1)
        deepest = max(deepest, open_now)
    return deepest
