"""Dependencies → Conductor's forks and joins, with as little waiting as Conductor allows.

What the real server taught (and what each part of the form answers):

- A JOIN that looks at a task between its failure and its retry fails the whole run. So a JOIN here only
  looks at NOOP *markers* behind tasks: a marker has no entry before its task has succeeded.
- A waiting JOIN is evaluated several times a second and loads the whole run each time. So a node with one
  dependency simply stands behind it; a node with several stands behind the deepest of them, and its JOIN,
  which is scheduled only then, waits for the markers of the others alone. Nodes with the same dependencies
  share one JOIN.
- A FORK_JOIN must be followed by a JOIN, but that one may wait for nothing: with an empty `joinOn` it
  completes at once. A run completes when no task is open and none is left to schedule, forked or not.
- Definitions can nest only so deep (JSON, and recursion in the server): below `_DEEPEST` forks, the
  deepest branch goes on behind that free JOIN instead of inside the fork.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from podium.core.definitions.draft import Json

_DEEPEST = 24


def build_lanes(
    needs: Mapping[str, Iterable[str]], tasks: Mapping[str, Json]
) -> tuple[list[Json], list[str]]:
    """Reference name → those it needs (no cycle), and their tasks → the tasks of the definition.

    Also the reference names of all tasks that were added. The result depends on names only, never on
    the order of the mappings.
    """
    order = _sort(needs)
    reduced = _reduce(needs, order)
    forest = _plant(reduced, order)
    added: list[str] = []
    lanes: dict[str, _Lane] = {}
    for ref in reversed(forest.by_depth):
        lane = _Lane([tasks[ref]])
        if ref in forest.marked:
            lane.tasks.append(_marker(ref, added))
        lanes[ref] = _go_on(f"_{ref}", lane, _branches(forest.followers.get(ref, {}), lanes, added), added)
    roots = _branches({(): [ref for ref in order if not reduced[ref]]}, lanes, added)
    return _go_on("", _Lane([]), roots, added).tasks, added


@dataclass
class _Lane:
    """Tasks that stand one behind the other, and how many forks are nested in them."""

    tasks: list[Json]
    depth: int = 0

    def extend(self, other: "_Lane") -> None:
        self.tasks.extend(other.tasks)
        self.depth = max(self.depth, other.depth)


@dataclass
class _Forest:
    """Every node behind one of its dependencies."""

    followers: dict[str, dict[tuple[str, ...], list[str]]] = field(default_factory=dict)
    """Node → the other dependencies that must be met → the nodes that then follow."""
    marked: set[str] = field(default_factory=set)
    """Nodes that some JOIN waits for."""
    by_depth: list[str] = field(default_factory=list)
    """All nodes, each behind those that it needs."""


def _sort(needs: Mapping[str, Iterable[str]]) -> list[str]:
    """All names, each behind those that it needs; names that could stand anywhere by the alphabet."""
    depth: dict[str, int] = {}
    stack = sorted(needs, reverse=True)
    while stack:
        name = stack[-1]
        open_needs = [other for other in needs[name] if other not in depth]
        if name in depth or not open_needs:
            depth.setdefault(name, 1 + max((depth[other] for other in needs[name]), default=-1))
            stack.pop()
        else:
            stack.extend(open_needs)
    return sorted(needs, key=lambda name: (depth[name], name))


def _reduce(needs: Mapping[str, Iterable[str]], order: list[str]) -> dict[str, list[str]]:
    """Only the dependencies that no other dependency implies (the transitive reduction), sorted."""
    bit = {name: 1 << index for index, name in enumerate(order)}
    before: dict[str, int] = {}
    reduced: dict[str, list[str]] = {}
    for name in order:
        implied = 0
        for other in needs[name]:
            implied |= before[other]
        reduced[name] = sorted(other for other in set(needs[name]) if not implied & bit[other])
        before[name] = implied
        for other in reduced[name]:
            before[name] |= bit[other]
    return reduced


def _plant(reduced: Mapping[str, list[str]], order: list[str]) -> _Forest:
    place = {name: index for index, name in enumerate(order)}
    depth: dict[str, int] = {}
    forest = _Forest(by_depth=order)
    for name in order:
        wanted = reduced[name]
        depth[name] = 1 + max((depth[other] for other in wanted), default=-1)
        if not wanted:
            continue
        # The deepest is likely the last to be done: its JOIN then has little left to wait for.
        last = max(wanted, key=lambda other: (depth[other], place[other]))
        others = tuple(other for other in wanted if other != last)
        forest.marked.update(others)
        forest.followers.setdefault(last, {}).setdefault(others, []).append(name)
    return forest


def _branches(
    followers: Mapping[tuple[str, ...], list[str]], lanes: Mapping[str, _Lane], added: list[str]
) -> list[_Lane]:
    branches: list[_Lane] = []
    for others in sorted(followers):
        nodes = followers[others]
        if not others:
            branches.extend(lanes[node] for node in nodes)
            continue
        lane = _Lane([_join(f"_meet_{nodes[0]}", [f"_done_{other}" for other in others], added)])
        branches.append(_go_on(f"__meet_{nodes[0]}", lane, [lanes[node] for node in nodes], added))
    return branches


def _go_on(suffix: str, lane: _Lane, branches: list[_Lane], added: list[str]) -> _Lane:
    """The lane with its branches behind it: one simply follows, several are forked."""
    if not branches:
        return lane
    branches = sorted(branches, key=lambda branch: branch.depth)
    # Behind the free JOIN instead of inside the fork: costs a moment, saves a level.
    behind = branches.pop() if len(branches) == 1 or branches[-1].depth >= _DEEPEST else None
    if branches:
        fork = {
            "name": "fork",
            "taskReferenceName": f"_fork{suffix}",
            "type": "FORK_JOIN",
            "forkTasks": [branch.tasks for branch in branches],
        }
        added.append(f"_fork{suffix}")
        lane.tasks += [fork, _join(f"_join{suffix}", [], added)]
        lane.depth = max(lane.depth, 1 + branches[-1].depth)
    if behind is not None:
        lane.extend(behind)
    return lane


def _join(ref: str, markers: list[str], added: list[str]) -> Json:
    """SYNC: without it Conductor looks ever more seldom, and is seconds late after a minute of waiting."""
    added.append(ref)
    return {"name": "join", "taskReferenceName": ref, "type": "JOIN", "joinOn": markers, "joinMode": "SYNC"}


def _marker(ref: str, added: list[str]) -> Json:
    added.append(f"_done_{ref}")
    return {"name": "done", "taskReferenceName": f"_done_{ref}", "type": "NOOP"}
