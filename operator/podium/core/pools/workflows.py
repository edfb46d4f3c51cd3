"""What the Workflows of a namespace say about the task types of a pool."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from podium.api.v1alpha1.workflow import RateLimit, TaskSettings
from podium.core.durations import parse_duration
from podium.core.objects import Workflow
from podium.core.pools.demand import TaskLimit
from podium.core.values import every_object
from podium.ports import Json

NO_LIMIT = timedelta(days=1)
"""What stands for the longest attempt of a task type that has none: a pod that waits has to end some day."""
_DEFAULT_TIMEOUT = timedelta(minutes=10)
_MOST_SECONDS = 10 * 365 * 24 * 3600
_BEGIN_WITHIN = timedelta(seconds=10)


@dataclass(frozen=True)
class TypeUse:
    """What one Workflow says of one task type."""

    longest: timedelta
    """The longest that one attempt may take."""
    limit: TaskLimit


@dataclass(frozen=True)
class Uses:
    """What one Workflow says of all its task types. `connection`: which Conductor its runs go through."""

    connection: str | None
    types: Mapping[str, TypeUse]


def uses_of(workflow: Workflow) -> Uses:
    """Of the types that its tasks name and of those in spec.taskTypes, which tasks made at run time may have.

    Where a task of spec.definition brings a taskDefinition, that is the one that holds for it.
    """
    spec = workflow.spec
    if spec is None:
        return Uses(None, {})
    given: dict[str, list[TypeUse]] = {}
    for name, own in _own_definitions(spec.definition):
        given.setdefault(name, []).append(_read_definition(own))
    for name in {*(workflow.status.get("taskTypes") or ()), *spec.task_types}:
        settings = spec.task_types.get(name) or TaskSettings()
        text = settings.timeout or spec.task_defaults.timeout
        longest = (parse_duration(text) or NO_LIMIT) if text else _DEFAULT_TIMEOUT
        limit = TaskLimit(settings.concurrency_limit, _begin(settings.rate_limit))
        if name in given and name not in spec.task_types:
            limit = _join(given[name]).limit  # it may be that all its tasks bring their own
        given.setdefault(name, []).append(TypeUse(longest, limit))
    return Uses(spec.connection, {name: _join(uses) for name, uses in given.items()})


def longest_task_in(uses: Iterable[Uses], task_types: Iterable[str], connection: str | None) -> timedelta:
    """The longest that one attempt of any of these types may take."""
    types = list(task_types)
    found = (use.longest for name in types for use in _of(uses, name, connection))
    return max(found, default=timedelta())


def limits_in(
    uses: Iterable[Uses], task_types: Iterable[str], connection: str | None
) -> dict[str, TaskLimit]:
    """Task type → its limits; where Workflows differ, the widest."""
    found = {name: list(_of(uses, name, connection)) for name in task_types}
    limits = {name: _join(of).limit for name, of in found.items() if of}
    return {name: limit for name, limit in limits.items() if limit != TaskLimit()}


def _of(uses: Iterable[Uses], name: str, connection: str | None) -> Iterator[TypeUse]:
    return (item.types[name] for item in uses if item.connection == connection and name in item.types)


def _join(uses: list[TypeUse]) -> TypeUse:
    limit = TaskLimit(
        _widest([use.limit.at_once for use in uses]),
        _widest([use.limit.begin for use in uses]),
    )
    return TypeUse(max(use.longest for use in uses), limit)


def _own_definitions(value: Any) -> Iterator[tuple[str, Json]]:
    """(task type, taskDefinition) of the tasks in a definition, at any depth."""
    for at in every_object(value):
        if isinstance(own := at.get("taskDefinition"), dict) and own:
            yield str(at.get("name") or ""), own


def _read_definition(own: Json) -> TypeUse:
    """Conductor's words, in seconds; 0: no limit."""
    seconds, at_once = _positive(own.get("timeoutSeconds")), _positive(own.get("concurrentExecLimit"))
    longest = NO_LIMIT if seconds is None else timedelta(seconds=min(seconds, _MOST_SECONDS))
    return TypeUse(longest, TaskLimit(at_once))


def _positive(value: Any) -> int | None:
    return value if isinstance(value, int) and value > 0 else None


def _begin(limit: RateLimit | None) -> int | None:
    """How many may begin within ten seconds: as many as one look should make pods for."""
    if limit is None:
        return None
    per = parse_duration(limit.per)
    return max(limit.calls, int(limit.calls * (_BEGIN_WITHIN / per))) if per else None


def _widest(values: list[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return max(known) if len(known) == len(values) else None
