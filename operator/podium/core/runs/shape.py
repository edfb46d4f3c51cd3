"""Where each task of a definition stands: what Conductor can skip and run again without losing the run.

Tried on 3.32.3: a run hangs for ever after a skip of the first task of a branch or loop, and after a
rerun from inside a fork or loop, because what follows is never scheduled.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from podium.ports import Json

# What a person or a worker does. The others only steer: run again by themselves they do nothing, or harm.
_WORK = frozenset({"SIMPLE", "HUMAN", "WAIT", "HTTP", "INLINE", "EVENT", "JSON_JQ_TRANSFORM", "DYNAMIC"})


@dataclass(frozen=True, slots=True)
class Place:
    """One task of a definition, and what it is inside of."""

    type: str
    leads: bool = False
    """The first of a branch of a fork or switch, or of a loop's body."""
    in_fork: bool = False
    in_loop: bool = False

    @property
    def is_work(self) -> bool:
        """Whether it does something itself."""
        return self.type in _WORK


Shape = Mapping[str, Place]


def shape_of(definition: Json) -> Shape:
    """Reference name → place, of all tasks of a definition; not of those of its sub-workflows."""
    return dict(_walk(definition.get("tasks") or (), Place("")))


def _walk(tasks: Sequence[Json], around: Place) -> Iterator[tuple[str, Place]]:
    for number, task in enumerate(tasks):
        kind = str(task.get("type") or "SIMPLE")
        place = Place(kind, around.leads and number == 0, around.in_fork, around.in_loop)
        yield str(task.get("taskReferenceName", "")), place
        inside = Place("", True, around.in_fork or kind == "FORK_JOIN", around.in_loop or kind == "DO_WHILE")
        for branch in _branches(task):
            yield from _walk(branch, inside)


def _branches(task: Json) -> Iterator[Sequence[Json]]:
    yield from task.get("forkTasks") or ()
    yield from (task.get("decisionCases") or {}).values()
    for name in ("defaultCase", "loopOver"):
        if task.get(name):
            yield task[name]


def why_not_skip(shape: Shape, ref: str) -> str:
    """Why Conductor would lose the run, or do nothing; empty if the task may be skipped."""
    place = shape[ref]
    if place.type in ("JOIN", "EXCLUSIVE_JOIN", "FORK_JOIN", "FORK_JOIN_DYNAMIC"):
        return f"it is a {place.type}: without it Conductor loses the branches"
    if place.in_loop:
        return "it is inside a loop: Conductor would wait for ever for the loop's end"
    if place.leads:
        return "it is the first task of a branch: Conductor would lose the whole branch and never end"
    return ""


def why_not_rerun(shape: Shape, ref: str) -> str:
    """Why Conductor would lose the run, or do nothing; empty if the run may go again from this task."""
    place = shape[ref]
    if place.in_fork:
        return "it runs in parallel with others: Conductor would drop what comes after and never end"
    if place.in_loop:
        return "it is inside a loop: Conductor would wait for ever for the loop's end"
    if place.type == "SUB_WORKFLOW":
        return "it is a sub-workflow: Conductor would take its old result at once"
    if not place.is_work:
        return f"it is a {place.type}, which does nothing by itself"
    return ""
