"""What the Workflows of a namespace say about the task types of a pool."""

from collections.abc import Iterable, Iterator
from datetime import timedelta

from podium.api.v1alpha1.workflow import RateLimit, TaskSettings
from podium.core.durations import parse_duration
from podium.core.objects import Workflow
from podium.core.pools.demand import TaskLimit

_DEFAULT_TIMEOUT = timedelta(minutes=10)
_BEGIN_WITHIN = timedelta(seconds=10)


def longest_task_in(
    workflows: Iterable[Workflow], task_types: Iterable[str], connection: str | None
) -> timedelta:
    """The longest that one attempt of any of these types may take."""
    longest = timedelta()
    types = set(task_types)
    for workflow, settings in _settings(workflows, types, connection):
        assert workflow.spec is not None
        text = settings.timeout or workflow.spec.task_defaults.timeout
        longest = max(longest, parse_duration(text) if text else _DEFAULT_TIMEOUT)
    return longest


def limits_in(
    workflows: Iterable[Workflow], task_types: Iterable[str], connection: str | None
) -> dict[str, TaskLimit]:
    """Task type → its limits; where Workflows differ, the widest."""
    limits: dict[str, TaskLimit] = {}
    for name in task_types:
        at_once: list[int | None] = []
        begin: list[int | None] = []
        for _, settings in _settings(workflows, {name}, connection):
            at_once.append(settings.concurrency_limit)
            begin.append(_begin(settings.rate_limit))
        if at_once and (any(at_once) or any(begin)):
            limits[name] = TaskLimit(_widest(at_once), _widest(begin))
    return limits


def _settings(
    workflows: Iterable[Workflow], task_types: set[str], connection: str | None
) -> Iterator[tuple[Workflow, TaskSettings]]:
    for workflow in workflows:
        if workflow.spec is None or workflow.spec.connection != connection:
            continue
        for name in workflow.status.get("taskTypes") or ():
            if name in task_types:
                yield workflow, workflow.spec.task_types.get(name) or TaskSettings()


def _begin(limit: RateLimit | None) -> int | None:
    """How many may begin within ten seconds: as many as one look should make pods for."""
    if limit is None:
        return None
    per = parse_duration(limit.per)
    return max(limit.calls, int(limit.calls * (_BEGIN_WITHIN / per))) if per else None


def _widest(values: list[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return max(known) if len(known) == len(values) else None
