"""Is it the same definition? Canonical form, hashes, drift."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from podium.api.v1alpha1.workflow import WorkflowSpec
from podium.core.definitions.draft import Json
from podium.core.definitions.vocabulary import TASK_DEFINITION, WORKFLOW, Field

_DEFINING = (
    "flow",
    "graph",
    "state_machine",
    "definition",
    "description",
    "input_schema",
    "input_defaults",
    "output",
    "timeout",
    "failure_workflow",
    "conductor_name",
    "task_defaults",
    "task_types",
)
# What the metadata says about the meaning of a version; the owner and the hashes themselves are not.
_MEANING = ("nodes", "inputSchema", "inputDefaults")
_HASHES = ("hash", "specHash")
_NODE = ("id", "type", "config", "dependsOn")
_STEP = ("functionName", "inputPath", "resultPath", "nextStepId")
_NOT_MEANING = ("version", "createTime", "updateTime", "createdBy", "updatedBy")


def hash_definition(definition: Json) -> str:
    """16 hexadecimal digits over everything that a definition means.

    Version, times, owner and the hashes in its metadata do not count, nor do values that Conductor
    fills in: the hash of what was stored is the hash of what Conductor gives back.
    """
    meaning = {key: value for key, value in definition.items() if key not in _NOT_MEANING}
    metadata = dict(meaning.get("metadata") or {})
    if isinstance(mark := metadata.get("podium"), Mapping):
        metadata["podium"] = {key: mark[key] for key in _MEANING if key in mark}
    meaning["metadata"] = metadata
    return _digest(_normalise(meaning, WORKFLOW))


def hash_spec(spec: WorkflowSpec, others: Sequence[str] = ()) -> str:
    """16 hexadecimal digits over the parts of a spec that make the definition, as they were written.

    Nulls, defaults and what is informational (an editor's x and y, names for people) do not count.
    `others`: what the names of other workflows came out as, which the operator's settings decide too.
    """
    written = spec.model_dump(by_alias=True, include=set(_DEFINING), exclude_defaults=True)
    if spec.flow is not None:
        written["flow"] = [_only(node, _NODE) for node in written["flow"]["nodes"]]
    if spec.graph is not None:
        nodes = [_only(node, _NODE) for node in written["graph"]["nodes"]]
        written["graph"] = sorted(nodes, key=lambda node: str(node["id"]))
    if spec.state_machine is not None:
        machine = written["stateMachine"]
        steps = {step: _only(settings, _STEP) for step, settings in machine["steps"].items()}
        written["stateMachine"] = [machine["startAt"], steps]
    if others:
        written["others"] = [*others]
    return _digest(prune(written))


def same_definition(ours: Json, theirs: Json) -> bool:
    """Does Conductor hold what we mean? Compares only what Conductor keeps.

    Times are ignored, values that it fills in, keys that it drops and hints too; the version and our
    owner mark only count if both sides have them.
    """
    return _same_place(ours, theirs) and _digest(_meant(ours)) == _digest(_meant(theirs))


def same_meaning(ours: Json, theirs: Json) -> bool:
    """As `same_definition`, whatever hashes the two are marked with: is it only worded otherwise?"""
    left, right = _meant(ours, hashes=False), _meant(theirs, hashes=False)
    return _same_place(ours, theirs) and _digest(left) == _digest(right)


def _same_place(ours: Json, theirs: Json) -> bool:
    for left, right in ((ours.get("version"), theirs.get("version")), (_owner(ours), _owner(theirs))):
        if left is not None and right is not None and left != right:
            return False
    return True


def used_settings(definition: Json) -> frozenset[str]:
    """Which settings but hints have a value that is not the default: `timeoutSeconds`, `tasks.permissive`, …

    Tasks at any depth count alike. What is used here and not in what Conductor gives back, it dropped.
    """
    return frozenset(_used(_meant(definition), WORKFLOW, ""))


def prune(value: Any) -> Any:
    """Without nulls in objects, at any depth: null means absent. (Nulls in lists have a place and stay.)"""
    if isinstance(value, dict):
        return {key: prune(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [prune(item) for item in value]
    return value


def _owner(definition: Json) -> Any:
    mark = (definition.get("metadata") or {}).get("podium")
    return mark.get("owner") if isinstance(mark, Mapping) else None


def _bare(definition: Json, *, hashes: bool) -> Json:
    bare = {key: value for key, value in definition.items() if key not in _NOT_MEANING}
    metadata = dict(bare.get("metadata") or {})
    if isinstance(mark := metadata.get("podium"), Mapping):
        left_out = ("owner",) if hashes else ("owner", *_HASHES)
        metadata["podium"] = {key: value for key, value in mark.items() if key not in left_out}
    bare["metadata"] = metadata
    return bare


def _meant(definition: Json, *, hashes: bool = True) -> Json:
    return _normalise(_bare(definition, hashes=hashes), WORKFLOW, hints=False)


def _normalise(value: Mapping[str, Any], fields: Mapping[str, Field], *, hints: bool = True) -> Json:
    """Only the keys that Conductor knows, without those that have the value it fills in anyway."""
    kept: Json = {}
    for key, item in value.items():
        field = fields.get(key)
        if field is None or item is None or (field.hint and not hints):
            continue
        normal = _normalise_field(item, field, hints)
        if normal != field.default or isinstance(normal, bool) != isinstance(field.default, bool):
            kept[key] = normal
    return kept


def _normalise_field(item: Any, field: Field, hints: bool) -> Any:
    match field.kind:
        case "tasks" if isinstance(item, list):
            return [_normalise(task, field.fields, hints=hints) for task in item if isinstance(task, Mapping)]
        case "branches" if isinstance(item, list):
            inner = Field("tasks", [], field.fields)
            return [_normalise_field(branch, inner, hints) for branch in item]
        case "cases" if isinstance(item, Mapping):
            inner = Field("tasks", [], field.fields)
            return {case: _normalise_field(tasks, inner, hints) for case, tasks in item.items()}
        case "task definition" if isinstance(item, Mapping):
            return _normalise(item, TASK_DEFINITION)
        case _:
            return item


def _used(value: Json, fields: Mapping[str, Field], prefix: str) -> Iterator[str]:
    for key, item in value.items():
        yield f"{prefix}{key}"
        field = fields[key]
        match field.kind:
            case "tasks":
                inner = [item]
            case "branches":
                inner = item
            case "cases":
                inner = list(item.values())
            case "task definition":
                yield from _used(item, TASK_DEFINITION, "taskDefinition.")
                continue
            case _:
                continue
        for task in (task for tasks in inner for task in tasks):
            yield from _used(task, field.fields, "tasks.")


def _only(given: Json, keys: tuple[str, ...]) -> Json:
    return {key: given[key] for key in keys if key in given}


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
