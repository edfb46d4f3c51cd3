"""WorkflowRun: `decide_run(seen, now)` and what it decides from."""

from podium.core.runs.decide import decide_run
from podium.core.runs.seen import DefinitionFacts, Policy, Seen, StartOutcome, WorkflowFacts
from podium.core.runs.words import report_conditions

__all__ = [
    "DefinitionFacts",
    "Policy",
    "Seen",
    "StartOutcome",
    "WorkflowFacts",
    "decide_run",
    "report_conditions",
]
