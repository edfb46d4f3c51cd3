"""What each form becomes before it is a definition."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]


@dataclass(frozen=True)
class Draft:
    """The part of a definition that depends on the form it was written in."""

    tasks: list[Json]
    nodes: Mapping[str, str]
    """Reference name → the id that the user wrote; tasks that Podium adds are not in it."""
    names: Mapping[str, str] = field(default_factory=dict)
    """What an expression in `output` may call a node → its reference name."""
    output: Json | None = None
    """The output of a run when spec.output says nothing; None leaves it to Conductor (the last task's)."""
    rest: Json = field(default_factory=dict)
    """Further keys of the definition (of a native one)."""
    dynamic: bool = False
    """Some task's type is only known when it runs."""


def build_simple_task(ref: str, task_type: str, config: Json) -> Json:
    """A task that a worker does."""
    return {"name": task_type, "taskReferenceName": ref, "type": "SIMPLE", "inputParameters": config}
