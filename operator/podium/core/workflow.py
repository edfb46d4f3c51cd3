"""What to do next about a Workflow: keep its definition in Conductor as the manifest says.

A changed compiled definition is a new version; the same one is no write at all; a version that
Podium registered and someone altered or removed is restored; versions that nothing refers to go.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from podium.api.v1alpha1 import FINALIZER
from podium.core import effects as do
from podium.core.calls import Called, needed_versions
from podium.core.conditions import Word, json_bytes, ready, reconciling, shorten, stalled, write_conditions
from podium.core.definitions import (
    Checked,
    Compiled,
    Finding,
    Rules,
    hash_definition,
    same_definition,
    same_meaning,
)
from podium.core.effects import Note, Report, Unknown, WorkflowEffect
from podium.core.objects import Workflow, conditions_of
from podium.core.ownership import OWNER, is_owned, owner_key, podium_metadata, with_owner
from podium.core.schedules import room_beside_schedules, without_schedules
from podium.ports import Json, Polled

_WAIT_FOR_CONDUCTOR = timedelta(seconds=5)
_LOOK_AGAIN = timedelta(seconds=2)
_POLLED_WITHIN = timedelta(minutes=1)
_MOST_TASK_TYPES = 64
_MOST_WARNINGS = 8
_SHORT_MESSAGE = 60


@dataclass(frozen=True)
class RunTally:
    """The runs of one Workflow that are in the cluster, and the versions they need."""

    active: int = 0
    succeeded: int = 0
    failed: int = 0
    versions: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Policy:
    """The operator's settings that decide."""

    cluster_id: str
    rules: Rules = field(default_factory=Rules)
    deletion_timeout: timedelta = timedelta(seconds=60)


@dataclass(frozen=True)
class Seen:
    """Everything known about one Workflow at one moment."""

    workflow: Workflow
    policy: Policy
    definitions: tuple[Json, ...] | Unknown
    """All versions under its name in Conductor, oldest first."""
    registered_types: frozenset[str] | Unknown
    pollers: tuple[Polled, ...] | Unknown
    runs: RunTally
    checked: Checked | None = None
    """What its spec becomes; None only if that cannot be read."""
    pools: Mapping[str, str] = field(default_factory=dict)
    """Task type → what is the matter with the WorkerPool that serves it; "": nothing."""
    called: Called = field(default_factory=Called)
    """What runs of other Workflows need of it."""
    done: frozenset[str] = frozenset()
    failure: str = ""
    """Why the last effect could not be carried out (it may work later)."""
    refusal: str = ""
    """Conductor's own words, if it refuses for good."""


def decide_workflow(seen: Seen, now: datetime) -> WorkflowEffect:
    """The next effect, or the Report that ends this pass."""
    workflow = seen.workflow
    if workflow.deleting_since is not None:
        return _release(seen, now) if FINALIZER in workflow.finalizers else Report(None)
    spec = workflow.spec
    if spec is None:
        return _report(seen, stalled("InvalidSpec", workflow.spec_error))
    assert seen.checked is not None
    if (compiled := seen.checked.compiled) is None:
        return _report(seen, stalled("InvalidDefinition", _tell(seen.checked.findings)))
    if seen.refusal:
        return _report(seen, stalled("RefusedByConductor", seen.refusal))
    if seen.failure:
        return _report(seen, reconciling("ConductorUnavailable", seen.failure), again=_WAIT_FOR_CONDUCTOR)
    if FINALIZER not in workflow.finalizers:
        return do.SetFinalizers((*workflow.finalizers, FINALIZER))
    for look in (seen.definitions, seen.registered_types):
        if isinstance(look, Unknown):
            words = stalled if look.stalled else reconciling
            return _report(seen, words(look.reason, look.error), again=_WAIT_FOR_CONDUCTOR)
    assert not isinstance(seen.definitions, Unknown)
    return _register(seen, now, compiled, seen.definitions)


def report_conditions(seen: Seen, report: Report, now: datetime) -> Json:
    """The status of a report, with its conditions and generation: what is written."""
    status = dict(report.status or {})
    status["observedGeneration"] = seen.workflow.generation
    status["conditions"] = write_conditions(
        report.words, conditions_of(seen.workflow), generation=seen.workflow.generation, now=now
    )
    spec = seen.workflow.spec
    return _fit(status, room_beside_schedules(len(spec.schedules) if spec else 0))


def _fit(status: Json, room: int) -> Json:
    """At most so many bytes: what lint says goes first, then what workers serve, then words."""
    for part in ("warnings", "taskTypes"):
        while json_bytes(status) > room and status.get(part):
            rest = status[part][:-1]
            status = {**status, part: rest} if rest else {k: v for k, v in status.items() if k != part}
    if json_bytes(status) > room:
        short = [
            {**item, "message": shorten(item["message"], _SHORT_MESSAGE)} for item in status["conditions"]
        ]
        status = {**status, "conditions": short}
    return status


# --- registration -----------------------------------------------------------------------------------


def _register(seen: Seen, now: datetime, compiled: Compiled, definitions: tuple[Json, ...]) -> WorkflowEffect:
    owner = _owner(seen)
    assert seen.workflow.spec is not None
    ours = [item for item in definitions if is_owned(item, owner) or _lost_its_mark(seen, item)]
    foreign = [item for item in definitions if item not in ours]
    if foreign and not ours and seen.workflow.spec.conductor_name is None:
        return _report(seen, stalled("NameTaken", _name_taken(compiled.definition["name"], foreign)))
    assert not isinstance(seen.registered_types, Unknown)
    for task in compiled.task_definitions:
        if task["name"] not in seen.registered_types and f"task {task['name']}" not in seen.done:
            return do.PutTaskDefinition(task)
    version, wanted = _wanted_version(seen, compiled, ours, definitions)
    stored = next((item for item in definitions if item["version"] == version), None)
    target = with_owner(wanted, owner, version)
    if (stored is None or not same_definition(target, stored)) and f"definition {version}" not in seen.done:
        return do.PutDefinition(target, restores=_is_restored(seen, target, stored))
    for old in _unneeded(seen, ours, version):
        if f"delete {old}" not in seen.done:
            return do.DeleteDefinition(compiled.definition["name"], old)
    return _registered(seen, now, compiled, version, foreign)


def _is_restored(seen: Seen, target: Json, stored: Json | None) -> bool:
    """Is it written because someone altered or removed it, and not because of what the manifest says?"""
    if stored is not None:
        return not same_meaning(target, stored)
    return bool((seen.workflow.status.get("conductor") or {}).get("version") == target["version"])


def _wanted_version(
    seen: Seen, compiled: Compiled, ours: list[Json], definitions: tuple[Json, ...]
) -> tuple[int, Json]:
    """Which version has to stand, with which content.

    The current version stays if the manifest means the same as when it was made: by what it compiles
    to, or, when a newer compiler writes it otherwise, by the manifest itself.
    """
    known = seen.workflow.status.get("conductor") or {}
    current = max(ours, key=lambda item: item["version"], default=None)
    if known.get("hash") == compiled.hash and known.get("version"):
        taken = {item["version"] for item in definitions if not _lost_its_mark(seen, item)}
        if known["version"] not in taken and known["version"] >= (current["version"] if current else 0):
            # Someone removed it, or wrote over it: runs may be pinned to this number.
            return known["version"], compiled.definition
    if current is not None:
        mark = podium_metadata(current)
        # The newest of ours is the current one, whatever the status says: a lost status changes nothing.
        version: int = current["version"]
        if mark.get("hash") == compiled.hash:
            return version, compiled.definition
        if mark.get("specHash") == compiled.spec_hash and mark.get("hash") == hash_definition(current):
            return version, current
    highest = max([item["version"] for item in definitions] + [known.get("version") or 0])
    return highest + 1, compiled.definition


def _lost_its_mark(seen: Seen, definition: Json) -> bool:
    """Whether it is the version that was registered last, and someone wrote over it, with nobody's mark."""
    known = seen.workflow.status.get("conductor") or {}
    ours = (known.get("name"), known.get("version")) == (definition["name"], definition["version"])
    return ours and not podium_metadata(definition).get(OWNER)


def _unneeded(seen: Seen, ours: list[Json], current: int) -> Iterable[int]:
    """Old versions of ours that no run needs, beyond the history limit, oldest first."""
    assert seen.workflow.spec is not None
    old = sorted(item["version"] for item in ours if item["version"] < current)
    needed = seen.runs.versions | needed_versions(ours, seen.called)
    free = [version for version in old if version not in needed]
    return free[: max(0, len(free) - seen.workflow.spec.revision_history_limit)]


def _registered(seen: Seen, now: datetime, compiled: Compiled, version: int, foreign: list[Json]) -> Report:
    name = compiled.definition["name"]
    before = seen.workflow.status.get("conductor") or {}
    message = f"{name} version {version}"
    newer = [item["version"] for item in foreign if item["version"] > version]
    if newer:
        message += f"; version {max(newer)} was registered by someone else, runs here keep using {version}"
    conductor = {"name": name, "version": version, "hash": compiled.hash}
    notes: tuple[Note, ...] = ()
    if f"restored {version}" in seen.done:
        told = f"{message} was altered or removed in Conductor and is restored"
        notes = (Note("Warning", "Restored", told),)
    elif f"definition {version}" in seen.done and before.get("version") != version:
        notes = (Note("Normal", "Registered", message),)
    workers = _workers_word(seen, now, compiled.task_types)
    notes += _starving(seen, workers)
    words = (*ready("Registered", message), *workers)
    return _report(seen, words, notes=notes, conductor=conductor, compiled=compiled)


def _workers_word(seen: Seen, now: datetime, task_types: tuple[str, ...]) -> tuple[Word, ...]:
    """WorkersAvailable, from who polled within the last minute, and from the pools."""
    if isinstance(seen.pollers, Unknown):
        return ()
    domain = seen.workflow.key.namespace if seen.policy.rules.isolation == "Namespace" else ""
    return (workers_word(seen.pollers, seen.pools, domain, now, task_types),)


def workers_word(
    pollers: Iterable[Polled],
    pools: Mapping[str, str],
    domain: str,
    now: datetime,
    task_types: Iterable[str],
) -> Word:
    """Whether somebody serves each of these types in a domain ("" = none).

    `pools`: task type → what is the matter with its WorkerPool, "" if nothing.
    """
    polled = {
        poller.task_type
        for poller in pollers
        if poller.domain == domain and now - poller.at <= _POLLED_WITHIN
    }
    silent = [name for name in task_types if name not in polled]
    missing = [name for name in silent if pools.get(name) != ""]
    if not silent:
        return Word("WorkersAvailable", "True", "Polled", "every task type is polled")
    if not missing:
        return Word("WorkersAvailable", "True", "Pooled", "every task type is polled or has its WorkerPool")
    for name in missing:
        if problem := pools.get(name):
            return Word("WorkersAvailable", "False", "PoolNotReady", f"no worker polls {name}: {problem}")
    shown = ", ".join(missing[:5]) + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
    if pools:
        return Word("WorkersAvailable", "False", "NoPool", f"no WorkerPool serves {shown}")
    where = f" in domain {domain}" if domain else ""
    return Word("WorkersAvailable", "False", "NoWorker", shorten(f"no worker polls {shown}{where}"))


def may_have_other_workers(
    workflow: Workflow, pollers: Iterable[Polled], pools: Mapping[str, str], domain: str, now: datetime
) -> bool:
    """Whether its condition WorkersAvailable may say something else than it would now."""
    task_types = workflow.status.get("taskTypes") or ()
    if len(task_types) >= _MOST_TASK_TYPES:
        return True  # the status has not all of them
    word = workers_word(pollers, pools, domain, now, task_types)
    told = next((item for item in conditions_of(workflow) if item["type"] == word.type), None)
    return told is not None and not _says(told, word)


def _starving(seen: Seen, words: tuple[Word, ...]) -> tuple[Note, ...]:
    """Told once: runs go on, and nobody serves their tasks."""
    word = words[0] if words else None
    if word is None or word.status != "False" or not seen.runs.active:
        return ()
    had_runs = (seen.workflow.status.get("runs") or {}).get("active")
    told = any(
        item["type"] == word.type and (item["status"], item["reason"]) == (word.status, word.reason)
        for item in conditions_of(seen.workflow)
    )
    if had_runs and told:
        return ()
    return (Note("Warning", word.reason, f"{word.message}; {seen.runs.active} runs wait or will"),)


# --- deletion ---------------------------------------------------------------------------------------


def _release(seen: Seen, now: datetime) -> WorkflowEffect:
    """Remove our definitions (runs embed theirs and go on), then let the object go."""
    workflow = seen.workflow
    let_go = do.SetFinalizers(tuple(name for name in workflow.finalizers if name != FINALIZER))
    if workflow.spec is not None and workflow.spec.deletion_policy == "Orphan":
        return let_go
    assert workflow.deleting_since is not None
    problem = seen.failure or seen.refusal
    if isinstance(seen.definitions, Unknown):
        problem = seen.definitions.error
    if problem or isinstance(seen.definitions, Unknown):
        if now - workflow.deleting_since >= seen.policy.deletion_timeout:
            return let_go
        return Report(
            without_schedules(workflow.status),
            reconciling("Deleting", problem),
            notes=(Note("Warning", "DeletionWaits", f"its definitions are still in Conductor: {problem}"),),
            requeue_after=_LOOK_AGAIN,
        )
    owner = _owner(seen)
    for item in seen.definitions:
        mine = is_owned(item, owner)
        if mine and f"delete {item['version']}" not in seen.done:
            return do.DeleteDefinition(item["name"], item["version"])
    return let_go


# --- words ------------------------------------------------------------------------------------------


def _report(
    seen: Seen,
    words: tuple[Word, ...],
    *,
    again: timedelta | None = None,
    notes: tuple[Note, ...] = (),
    conductor: Json | None = None,
    compiled: Compiled | None = None,
) -> Report:
    before = seen.workflow.status
    status: Json = {}
    if conductor := conductor or before.get("conductor"):
        status["conductor"] = conductor
    if compiled is not None:
        status["taskTypes"] = list(compiled.task_types[:_MOST_TASK_TYPES])
        warnings = _warnings(seen)
        if warnings:
            status["warnings"] = warnings
    elif before.get("taskTypes"):
        status["taskTypes"] = before["taskTypes"]
    status["runs"] = {
        "active": seen.runs.active,
        "succeeded": seen.runs.succeeded,
        "failed": seen.runs.failed,
    }
    if not notes and words[0].status == "False" and _is_news(seen, words[0]):
        notes = (Note("Warning", words[0].reason, words[0].message),)
    return Report(status, words, notes, again, urgent=bool(notes) or _moved(before, status))


def _moved(before: Json, after: Json) -> bool:
    return any(before.get(part) != after.get(part) for part in ("conductor", "taskTypes", "warnings"))


def _is_news(seen: Seen, word: Word) -> bool:
    return not any(_says(item, word) for item in conditions_of(seen.workflow))


def _says(condition: Json, word: Word) -> bool:
    """Does a status say this already? What is long stands there cut, and shorter still if room was short."""
    stored = (condition["type"], condition["status"], condition["reason"])
    cut = (shorten(word.message), shorten(word.message, _SHORT_MESSAGE))
    return stored == (word.type, word.status, word.reason) and condition["message"] in cut


def _warnings(seen: Seen) -> list[str]:
    assert seen.checked is not None
    found = [item for item in seen.checked.findings if item.level == "warning"]
    texts = [shorten(f"{item.path}: {item.message}") for item in found]
    if len(texts) > _MOST_WARNINGS:
        left = len(texts) - _MOST_WARNINGS + 1
        texts = [*texts[: _MOST_WARNINGS - 1], f"and {left} more: podium lint shows them"]
    return texts


def _tell(findings: Iterable[Finding]) -> str:
    errors = [item for item in findings if item.level == "error"]
    first = errors[0]
    more = f" (and {len(errors) - 1} more: podium lint shows them)" if len(errors) > 1 else ""
    remedy = f"; {first.remedy}" if first.remedy else ""
    return f"{first.path}: {first.message}{remedy}{more}"


def _name_taken(name: str, foreign: list[Json]) -> str:
    owner = podium_metadata(foreign[-1]).get(OWNER)
    whose = f"belongs to {owner}" if owner else "was not registered by Podium"
    return f"{name} exists in Conductor and {whose}: to take it over, set spec.conductorName: {name}"


def _owner(seen: Seen) -> str:
    key = seen.workflow.key
    return owner_key(seen.policy.cluster_id, key.namespace, key.name)
