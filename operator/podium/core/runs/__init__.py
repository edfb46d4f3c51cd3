"""WorkflowRun: `decide_run(seen, now)` and what it decides from."""

from podium.core.runs.act import new_action
from podium.core.runs.decide import decide_run
from podium.core.runs.release import is_purged
from podium.core.runs.seen import (
    TOLD_AFTER,
    ActionOutcome,
    DefinitionFacts,
    Policy,
    Seen,
    StartOutcome,
    WorkflowFacts,
)
from podium.core.runs.shape import shape_of
from podium.core.runs.words import report_conditions

__all__ = [
    "TOLD_AFTER",
    "ActionOutcome",
    "DefinitionFacts",
    "Policy",
    "Seen",
    "StartOutcome",
    "WorkflowFacts",
    "decide_run",
    "is_purged",
    "new_action",
    "report_conditions",
    "shape_of",
]
