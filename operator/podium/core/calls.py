"""Which Workflows call which, and which versions of one their runs need.

Conductor writes the version of a sub-workflow into a run when that starts, also where the task leaves it
open: the run fails at that task when the version is gone by then.
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from podium.api.v1alpha1.workflow import WorkflowSpec
from podium.core.definitions.names import conductor_name
from podium.core.objects import Workflow
from podium.core.values import every_object
from podium.ports import Json


@dataclass(frozen=True)
class Call:
    """A workflow that is named, as it is written; an expression is known at run time only."""

    name: str
    version: int | None = None

    def means(self, names: frozenset[str]) -> bool:
        """Whether it may mean a workflow that has these names."""
        return self.name in names or "${" in self.name


@dataclass(frozen=True)
class Called:
    """What is needed of a Workflow by the runs of those that call it."""

    versions: frozenset[int] = frozenset()
    """That are named."""
    since: datetime | None = None
    """When the oldest of their active runs was made: it needs what was the newest version then."""


def calls_in(spec: WorkflowSpec | None) -> frozenset[Call]:
    """The workflows that its runs start: sub-workflows at any depth, and the failure workflow."""
    if spec is None:
        return frozenset()
    found = set(_calls_in(spec.definition))
    if spec.failure_workflow:
        found.add(Call(spec.failure_workflow))
    return frozenset(found)


def find_callers(
    called: Workflow, calls: Sequence[tuple[Workflow, frozenset[Call]]]
) -> tuple[frozenset[int], frozenset[str]]:
    """(versions of it that are named, the names of all that call it, by others too) in a namespace."""
    names = _names(called)
    versions = {call.version for _, made in calls for call in made if call.version and call.means(names)}
    callers: set[str] = set()
    todo = [names]
    while todo:
        wanted = todo.pop()
        for workflow, made in calls:
            if workflow.key.name not in callers and any(call.means(wanted) for call in made):
                callers.add(workflow.key.name)
                todo.append(_names(workflow))
    return frozenset(versions), frozenset(callers)


def needed_versions(versions: Iterable[Json], called: Called) -> frozenset[int]:
    """Of all versions of a definition, those that callers need. One goes out of use with the next one."""
    ordered = sorted(versions, key=lambda item: item["version"])
    needed = {item["version"] for item in ordered} & called.versions
    if called.since is not None:
        since = called.since.timestamp() * 1000
        for old, new in itertools.pairwise(ordered):
            replaced = new.get("updateTime") or new.get("createTime") or since
            if replaced >= since:
                needed.add(old["version"])
    return frozenset(needed)


def _names(workflow: Workflow) -> frozenset[str]:
    namespace, name = workflow.key.namespace, workflow.key.name
    full = f"{namespace}.{name}"
    return frozenset({name, full, conductor_name(namespace, name, workflow.spec) if workflow.spec else full})


def _calls_in(value: Any) -> Iterator[Call]:
    for at in every_object(value):
        for holder in (at.get("subWorkflowParam"), at.get("startWorkflow")):
            if isinstance(holder, dict):
                yield from _call(holder.get("name"), holder.get("version"))
        yield from _call(at.get("forkTaskWorkflow"), at.get("forkTaskWorkflowVersion"))
        yield from _call(at.get("failureWorkflow"), at.get("failureWorkflowVersion"))


def _call(name: Any, version: Any) -> Iterator[Call]:
    if isinstance(name, str) and name:
        yield Call(name, version if isinstance(version, int) and version > 0 else None)
