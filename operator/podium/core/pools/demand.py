"""What of a queue's depth could be taken now, as far as the runs that are known tell.

Conductor counts tasks that nobody may have yet: retries in their delay, call-backs, tasks of paused
runs. And it does not count those that are worked on.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from podium.ports import RunSeen, TaskSeen

# Tasks that no pool's worker takes: a run in which only these go on needs none.
_WAITS_FOR_PEOPLE = frozenset({"HUMAN", "WAIT"})
# They go on as long as what they wait for does.
_WAITS_FOR_TASKS = frozenset({"JOIN", "EXCLUSIVE_JOIN", "DO_WHILE"})
_OVER = frozenset(
    {
        "COMPLETED",
        "COMPLETED_WITH_ERRORS",
        "FAILED",
        "FAILED_WITH_TERMINAL_ERROR",
        "CANCELED",
        "TIMED_OUT",
        "SKIPPED",
    }
)


@dataclass
class TypeFacts:
    """What the known runs say of one task type in one domain."""

    ready: int = 0
    """Scheduled, and may be taken."""
    delayed: int = 0
    """Scheduled, but not before some time, or not while their run is paused."""
    running: int = 0
    oldest_ms: int = 0
    """Since when the oldest of the ready ones waits; milliseconds since 1970, 0: none."""


@dataclass(frozen=True)
class Queue:
    """One task type of a pool, at one moment."""

    waiting: int
    """Could be taken now."""
    delayed: int
    foreign: int
    """Of the waiting ones: not of a run that Podium knows, so that their delay is not known either."""


@dataclass(frozen=True)
class TaskLimit:
    """How many tasks of a type may run at once, and how many may begin in ten seconds."""

    at_once: int | None = None
    begin: int | None = None


@dataclass(frozen=True)
class Backlog:
    """What waits for a pool."""

    queues: Mapping[str, Queue] = field(default_factory=dict)
    capped: int = 0
    """So many of them may not run now because of their type's own limit."""
    capped_types: tuple[str, ...] = ()

    @property
    def waiting(self) -> int:
        """Tasks that could be taken now."""
        return sum(queue.waiting for queue in self.queues.values()) - self.capped

    @property
    def delayed(self) -> int:
        """Tasks that wait for their time."""
        return sum(queue.delayed for queue in self.queues.values())

    @property
    def foreign(self) -> int:
        """Tasks of runs that Podium does not know."""
        return sum(queue.foreign for queue in self.queues.values())


def gather_facts(runs: Iterable[RunSeen], now: datetime) -> dict[tuple[str, str], TypeFacts]:
    """(task type, domain) → what the runs say of it."""
    now_ms = int(now.timestamp() * 1000)
    facts: defaultdict[tuple[str, str], TypeFacts] = defaultdict(TypeFacts)
    for run in runs:
        for task in run.tasks:
            if task.state == "SCHEDULED":
                fact = facts[task.task_type, task.domain]
                if run.state == "PAUSED" or _not_before_ms(task) > now_ms:
                    fact.delayed += 1
                    continue
                fact.ready += 1
                if task.scheduled_ms and (not fact.oldest_ms or task.scheduled_ms < fact.oldest_ms):
                    fact.oldest_ms = task.scheduled_ms
            elif task.state == "IN_PROGRESS":
                facts[task.task_type, task.domain].running += 1
    return dict(facts)


def split_depth(depth: int, facts: TypeFacts | None) -> Queue:
    """A queue's depth → what could be taken and what waits for its time.

    The views of runs may be older than the depth: neither part is ever more than the depth.
    """
    facts = facts or TypeFacts()
    delayed = min(depth, facts.delayed)
    waiting = depth - delayed
    return Queue(waiting, delayed, max(0, waiting - facts.ready))


def build_backlog(
    depths: Mapping[str, int],
    facts: Mapping[str, TypeFacts],
    running: Mapping[str, int],
    limits: Mapping[str, TaskLimit],
) -> Backlog:
    """What waits for a pool. All maps are by task type; `running`: what its pods work on."""
    queues = {name: split_depth(depth, facts.get(name)) for name, depth in depths.items()}
    capped, types = 0, []
    for name, queue in queues.items():
        over = queue.waiting - _may_begin(limits.get(name), running.get(name, 0), queue.waiting)
        if over > 0:
            capped += over
            types.append(name)
    return Backlog(queues, capped, tuple(types))


def _may_begin(limit: TaskLimit | None, running: int, waiting: int) -> int:
    if limit is None:
        return waiting
    may = waiting
    if limit.at_once is not None:
        may = min(may, max(0, limit.at_once - running))
    if limit.begin is not None:
        may = min(may, limit.begin)
    return may


def needs_workers(run: RunSeen) -> bool:
    """Whether an active run may have something for workers before somebody answers it."""
    if run.state != "RUNNING":
        return False
    going_on = [task for task in run.tasks if task.state not in _OVER]
    kinds = {task.system_type for task in going_on}
    # Where neither people nor workers are waited for it is between two tasks, or was just started.
    return not kinds & _WAITS_FOR_PEOPLE or bool(kinds - _WAITS_FOR_PEOPLE - _WAITS_FOR_TASKS)


def _not_before_ms(task: TaskSeen) -> int:
    if not task.callback_s:
        return 0
    return max(task.update_ms, task.start_ms, task.scheduled_ms) + task.callback_s * 1000
