"""What people write (flow, graph, state machine, native) → a Conductor definition; and lint."""

from podium.core.definitions.findings import Finding, InvalidWorkflow, nearest
from podium.core.definitions.names import Isolation, Rules, conductor_name
from podium.core.definitions.revision import (
    hash_definition,
    same_definition,
    same_meaning,
    used_settings,
)
from podium.core.definitions.workflow import (
    Checked,
    Compiled,
    check_workflow,
    compile_workflow,
    defaults_of,
    lint_workflow,
)

__all__ = [
    "Checked",
    "Compiled",
    "Finding",
    "InvalidWorkflow",
    "Isolation",
    "Rules",
    "check_workflow",
    "compile_workflow",
    "conductor_name",
    "defaults_of",
    "hash_definition",
    "lint_workflow",
    "nearest",
    "same_definition",
    "same_meaning",
    "used_settings",
]
