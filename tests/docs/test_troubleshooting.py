"""docs/troubleshooting.md explains every reason that the code knows, and no other."""

import ast
import re
from pathlib import Path
from typing import get_args

import pytest

from podium.api.v1alpha1.reasons import EventOnly, Reason
from podium.core.run_status import PHASES

CHECKOUT = Path(__file__).parents[2]
PAGE = (CHECKOUT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
CONDITIONS, EVENTS = get_args(Reason), get_args(EventOnly)


def sections() -> dict[str, str]:
    """Heading → its text, of all the reasons on the page."""
    parts = re.split(r"^### (.+)$", PAGE.split("\n## Reasons\n")[1], flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_the_page_has_every_reason_once_in_alphabetical_order() -> None:
    headings = re.findall(r"^### (.+)$", PAGE, flags=re.MULTILINE)
    assert headings == sorted({*CONDITIONS, *EVENTS})


@pytest.mark.parametrize("reason", CONDITIONS)
def test_a_reason_says_which_condition_shows_it_and_what_to_do(reason: str) -> None:
    where, _, rest = sections()[reason].strip().partition("\n\n")
    assert re.match(
        r"(Workflow|WorkflowRun|WorkerPool|ConductorConnection|Device|DeviceModel)(, \w+)*"
        r": \w+=(True|False|Unknown)",
        where,
    )
    assert "\n\n**Remedy.** " in rest


@pytest.mark.parametrize("reason", EVENTS)
def test_a_reason_of_events_only_says_whose_and_what_to_do(reason: str) -> None:
    where, _, rest = sections()[reason].strip().partition("\n\n")
    assert where.startswith("Event of a ")
    assert "\n\n**Remedy.** " in rest


def test_no_reason_is_both_of_conditions_and_of_events_only() -> None:
    assert not set(CONDITIONS) & set(EVENTS)


def test_every_phase_that_a_run_is_followed_to_is_a_reason_too() -> None:
    # Their conditions are worded from the phase itself, which no type checker sees.
    assert set(PHASES.values()) <= set(CONDITIONS)


def test_every_reason_is_said_somewhere_in_the_code() -> None:
    said: set[str] = set()
    for module in (CHECKOUT / "operator" / "podium").rglob("*.py"):
        if "api" not in module.parts:
            tree = ast.parse(module.read_text(encoding="utf-8"))
            said |= {item.value for item in ast.walk(tree) if isinstance(item, ast.Constant)}
    assert {*CONDITIONS, *EVENTS} <= said
