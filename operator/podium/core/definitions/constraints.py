"""What must hold among the tasks of a native definition, much of which Conductor never checks."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from podium.core.definitions.draft import Json
from podium.core.definitions.expressions import Use, translate
from podium.core.definitions.findings import Report, did_you_mean, nearest
from podium.core.definitions.graph import find_cycle
from podium.core.definitions.names import RESERVED_REFS, check_task_type
from podium.core.definitions.tree import branches_of, walk
from podium.core.definitions.vocabulary import JOINED_BY_JOIN, REQUIRED, TASK_TYPES

_DEFAULT_RESPONSE_TIMEOUT = 3600
_DEFAULT_RETRIES = 3


def check_tasks(definition: Json, path: str, retries: Mapping[str, int], report: Report) -> None:
    """Reports on one definition; references in its values become expressions, in place.

    `retries`: task type → the retries that its settings give it, "" = every other type.
    """
    tasks: list[Json] = definition["tasks"]
    places = _place(tasks, f"{path}.tasks")
    by_ref: dict[str, _Place] = {}
    for place in places:
        _check_task(place.task, place.path, report)
        _note_ref(place, by_ref, report)
    _check_lists(tasks, f"{path}.tasks", report)
    for place in places:
        if place.task["type"] == "JOIN":
            _check_join(place, by_ref, retries, report)
    _check_waits(places, by_ref, report)
    _check_uses(definition, path, places, by_ref, report)


@dataclass(frozen=True)
class _Place:
    """A task, and how one gets to it: (list of tasks, index) from the outermost list inwards."""

    task: Json
    path: str
    steps: tuple[tuple[str, int], ...]
    in_loop: frozenset[str]
    """The lists on the way that are bodies of a DO_WHILE."""


def _place(
    tasks: Sequence[Json],
    path: str,
    steps: tuple[tuple[str, int], ...] = (),
    in_loop: frozenset[str] = frozenset(),
) -> list[_Place]:
    places: list[_Place] = []
    for index, task in enumerate(tasks):
        where = f"{path}[{index}]"
        here = (*steps, (path, index))
        places.append(_Place(task, where, here, in_loop))
        for inner, items in branches_of(task, where):
            loops = in_loop | {inner} if inner.endswith(".loopOver") else in_loop
            places += _place(items, inner, here, loops)
    return places


def _check_task(task: Json, path: str, report: Report) -> None:
    kind = task["type"]
    for key in ("name", "taskReferenceName"):
        if not task.get(key):
            report.error(f"{path}.{key}", f"the task has no {key}", f"give {key}")
    if kind not in TASK_TYPES:
        guess = nearest(kind, TASK_TYPES)
        report.error(
            f"{path}.type",
            f"Conductor has no task type {kind!r}",
            (f"did you mean {guess!r}? " if guess else "")
            + f"for a task that your workers do, write type: SIMPLE and name: {kind}",
        )
    elif kind == "SIMPLE" and task.get("name"):
        check_task_type(task["name"], f"{path}.name", report)
    inputs = task.get("inputParameters") or {}
    for keys in REQUIRED.get(kind, ()):
        if not any(_has(task, key) for key in keys):
            report.error(f"{path}.{keys[0]}", f"{kind} needs {' or '.join(keys)}", f"give {keys[0]}")
    if kind == "WAIT" and inputs.get("duration") and inputs.get("until"):
        report.error(f"{path}.inputParameters", "WAIT takes duration or until, not both", "take one out")
    if kind == "TERMINATE" and task.get("optional"):
        report.error(f"{path}.optional", "TERMINATE cannot be optional", "take it out")
    if task.get("taskDefinition"):
        _check_task_definition(task, f"{path}.taskDefinition", report)


def _has(task: Json, key: str) -> bool:
    holder, _, inner = key.partition(".")
    value = task.get(holder)
    return bool(isinstance(value, dict) and inner in value) if inner else bool(value)


def _check_task_definition(task: Json, path: str, report: Report) -> None:
    """Conductor's law: 0 < responseTimeoutSeconds ≤ timeoutSeconds ≤ totalTimeoutSeconds."""
    settings = task["taskDefinition"]
    response = settings.get("responseTimeoutSeconds", _DEFAULT_RESPONSE_TIMEOUT)
    timeout, total = settings.get("timeoutSeconds", 0), settings.get("totalTimeoutSeconds", 0)
    if response == 0:
        report.error(f"{path}.responseTimeoutSeconds", "must be longer than 0", "give 1 or more")
    if timeout and response > timeout:
        told = "" if "responseTimeoutSeconds" in settings else " (which it is if nothing is given)"
        report.error(
            f"{path}.responseTimeoutSeconds",
            f"responseTimeoutSeconds {response}{told} is longer than timeoutSeconds {timeout}",
            f"give {timeout} or less",
        )
    if total and timeout > total:
        report.error(
            f"{path}.timeoutSeconds",
            f"timeoutSeconds {timeout} is longer than totalTimeoutSeconds {total}",
            f"give {total} or less",
        )


def _note_ref(place: _Place, by_ref: dict[str, _Place], report: Report) -> None:
    ref = place.task.get("taskReferenceName")
    if not ref:
        return
    path = f"{place.path}.taskReferenceName"
    if ref in RESERVED_REFS:
        report.error(path, f"{ref!r} is a word of Conductor's own", "give another taskReferenceName")
    elif ref in by_ref:
        report.error(
            path, f"{ref!r} is the taskReferenceName of {by_ref[ref].path} too", "give each task its own"
        )
    elif not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_-]*", ref):
        report.warning(path, f"no expression can name {ref!r}", "use letters, digits and '_'")
    by_ref.setdefault(ref, place)


def _check_lists(tasks: Sequence[Json], path: str, report: Report) -> None:
    """Forks must be followed by their JOIN and have something in every branch."""
    lists: list[tuple[str, Sequence[Json]]] = [(path, tasks)]
    lists += [inner for where, task in walk(tasks, path) for inner in branches_of(task, where)]
    for where, items in lists:
        if not items and re.search(r"\.forkTasks\[\d+\]$", where):
            report.error(where, "the branch is empty", "give it a task (NOOP does nothing), or take it out")
        for index, task in enumerate(items):
            following = items[index + 1] if index + 1 < len(items) else {}
            if task["type"] in JOINED_BY_JOIN and following.get("type") != "JOIN":
                report.error(
                    f"{where}[{index}]",
                    f"{task['type']} {task.get('taskReferenceName', '')!r} is not followed by a JOIN",
                    "put a JOIN right behind it",
                )
            if (
                task["type"] == "FORK_JOIN"
                and following.get("type") == "JOIN"
                and not following.get("joinOn")
            ):
                report.warning(
                    f"{where}[{index + 1}].joinOn",
                    "the JOIN waits for nothing, what follows starts at once",
                    "name the last task of each branch",
                )


def _check_join(
    place: _Place, by_ref: Mapping[str, _Place], retries: Mapping[str, int], report: Report
) -> None:
    for index, ref in enumerate(place.task.get("joinOn") or ()):
        path = f"{place.path}.joinOn[{index}]"
        joined = by_ref.get(ref)
        if joined is None:
            report.error(
                path, f"there is no task {ref!r}, the JOIN would wait for ever", did_you_mean(ref, by_ref)
            )
        elif ref == place.task.get("taskReferenceName"):
            report.error(path, f"{ref!r} cannot wait for itself", "take it out")
        elif _stands_behind(joined, place):
            report.error(
                path,
                f"{ref!r} runs after this JOIN, which would wait for ever",
                "name tasks of the branches before it",
            )
        elif _may_retry(joined.task, retries):
            report.warning(
                path,
                f"if {ref!r} fails, Conductor may fail the run at this JOIN before the retry is made",
                f"put a NOOP task behind {ref!r} and wait for that",
            )


def _stands_behind(place: _Place, join: _Place) -> bool:
    """Does it only run once the JOIN is done, because of the list that both are in, however deep?"""
    for (at, index), (other, at_join) in zip(place.steps, join.steps, strict=False):
        if (at, index) != (other, at_join):
            # What follows a fork does not wait for all its branches.
            return at == other and index > at_join and ".forkTasks[" not in join.path[len(at) :]
    return False


def _check_waits(places: Sequence[_Place], by_ref: Mapping[str, _Place], report: Report) -> None:
    """JOINs in branches must not wait for each other. Which case of a SWITCH is taken is not known here."""
    waits: dict[str, list[str]] = {}
    joins: dict[str, str] = {}
    for place in places:
        before = next((f"{at}[{index - 1}]" for at, index in reversed(place.steps) if index), None)
        waits[place.path] = [] if before is None else [before]
        if place.task["type"] == "DO_WHILE":
            waits[place.path] += [
                f"{at}[{len(body) - 1}]" for at, body in branches_of(place.task, place.path)
            ]
        if place.task["type"] == "JOIN":
            joins[place.path] = place.task.get("taskReferenceName", "")
            joined = [by_ref[ref] for ref in place.task.get("joinOn") or () if ref in by_ref]
            waits[place.path] += [
                other.path for other in joined if other is not place and not _stands_behind(other, place)
            ]
    if cycle := find_cycle(waits):
        first, *others = [path for path in joins if path in cycle]
        told = " and ".join(repr(joins[path]) for path in (first, *others))
        report.error(
            f"{first}.joinOn",
            f"{told} wait for each other, for ever" if others else f"{told} waits for itself, for ever",
            "take one of the tasks out",
        )


def _may_retry(task: Json, retries: Mapping[str, int]) -> bool:
    if task.get("optional"):
        return False
    if "retryCount" in task:
        return bool(task["retryCount"])
    if task.get("taskDefinition"):
        return bool(task["taskDefinition"].get("retryCount", _DEFAULT_RETRIES))
    return task["type"] == "SIMPLE" and bool(
        retries.get(task.get("name", ""), retries.get("", _DEFAULT_RETRIES))
    )


def _check_uses(
    definition: Json, path: str, places: Sequence[_Place], by_ref: Mapping[str, _Place], report: Report
) -> None:
    names = {ref: ref for ref in by_ref}
    # What a dynamic fork starts has reference names that only its input knows.
    unknown = any(place.task["type"] == "FORK_JOIN_DYNAMIC" for place in places)
    for place in places:
        for key in ("inputParameters", "subWorkflowParam"):
            holder = place.task.get(key)
            if not holder:
                continue
            inner = holder.get("workflowDefinition") if key == "subWorkflowParam" else None
            shown = {name: value for name, value in holder.items() if value is not inner}
            made, uses = translate(shown, f"{place.path}.{key}", names, report, open_ended=unknown)
            place.task[key] = made if inner is None else {**made, "workflowDefinition": inner}
            for use in uses:
                _check_order(place, by_ref.get(use.ref), use, report)
    if output := definition.get("outputParameters"):
        definition["outputParameters"], _ = translate(
            output, f"{path}.outputParameters", names, report, open_ended=unknown
        )


def _check_order(place: _Place, used: _Place | None, use: Use, report: Report) -> None:
    """A task may use what ran before it, what runs beside it, and in a loop what the last round left."""
    if used is None:
        return
    user = place.task.get("taskReferenceName", "")
    for (at, mine), (other, theirs) in zip(place.steps, used.steps, strict=False):
        if at != other:
            return  # in another branch
        if mine != theirs:
            if mine < theirs and at not in place.in_loop:
                report.error(
                    use.path,
                    f"{use.ref!r} runs after {user!r}, its output is not there yet",
                    "use an earlier task",
                )
            return
    if place.task["type"] == "DO_WHILE" or len(used.steps) < len(place.steps) or place.in_loop:
        return
    if used is place:
        report.error(use.path, f"{user!r} cannot use its own output", "use an earlier task")
    else:
        report.error(
            use.path, f"{use.ref!r} runs inside {user!r}, its output is not there yet", "use an earlier task"
        )
