"""The form `definition`: Conductor's own WorkflowDef, checked and passed on whole."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from podium.core.definitions.constraints import check_tasks
from podium.core.definitions.draft import Draft, Json
from podium.core.definitions.findings import Report, did_you_mean, nearest
from podium.core.definitions.names import Rules, translate_workflow_name
from podium.core.definitions.revision import prune
from podium.core.definitions.tree import inline_definition, walk
from podium.core.definitions.vocabulary import SUB_WORKFLOW, TASK_DEFINITION, WORKFLOW, Field

_PATH = "spec.definition"
_OURS = ("name", "version")
_SERVERS = ("createTime", "updateTime", "createdBy", "updatedBy", "ownerApp")
_WORDS = {
    "text": "a text",
    "whole": "a whole number",
    "count": "a whole number, 0 or more",
    "flag": "true or false",
    "object": "an object",
    "list": "a list",
    "names": "a list of texts",
    "tasks": "a list of tasks",
    "branches": "a list of lists of tasks",
    "cases": "an object of lists of tasks",
    "task definition": "an object",
    "sub workflow": "an object",
}


@dataclass(frozen=True)
class Surroundings:
    """What a definition is compiled for."""

    namespace: str
    name: str
    rules: Rules
    retries: Mapping[str, int]
    """Task type → the retries that its settings give it; "" = every other type."""


def build_native(given: Json, around: Surroundings, report: Report) -> Draft:
    """The definition without what is Podium's to set, with names of other workflows made Conductor's."""
    for keys, whose in ((_OURS, "Podium's"), (_SERVERS, "the server's")):
        for key in keys:
            if given.get(key) is not None:
                report.warning(
                    f"{_PATH}.{key}", f"{key} is {whose} to set, this one is ignored", "take it out"
                )
    kept = {key: value for key, value in given.items() if key not in (*_OURS, *_SERVERS)}
    definition = _read_workflow(kept, _PATH, around, report)
    tasks = definition.pop("tasks", [])
    refs = [task.get("taskReferenceName", "") for _, task in walk(tasks)]
    return Draft(
        tasks=tasks,
        nodes={ref: ref for ref in refs},
        names={ref: ref for ref in refs},
        rest=definition,
        dynamic=any(task["type"] in ("DYNAMIC", "FORK_JOIN_DYNAMIC") for _, task in walk(tasks, inline=True)),
    )


def _read_workflow(given: Json, path: str, around: Surroundings, report: Report) -> Json:
    """A definition (the whole, or one inside a SUB_WORKFLOW task) with only what Conductor keeps."""
    definition = _Reader(report).read_object(prune(given), WORKFLOW, path)
    if definition.get("schemaVersion", 2) != 2:
        report.error(f"{path}.schemaVersion", "Conductor only takes schemaVersion 2", "take it out")
    if definition.get("timeoutPolicy") == "TIME_OUT_WF" and not definition.get("timeoutSeconds"):
        report.warning(
            f"{path}.timeoutPolicy", "TIME_OUT_WF does nothing without a time", "give timeoutSeconds too"
        )
    if definition.get("inputSchema"):
        report.warning(
            f"{path}.inputSchema",
            "Conductor stores this schema and never looks at it",
            "use spec.inputSchema",
        )
    if not definition.get("tasks"):
        report.error(f"{path}.tasks", "there are no tasks", "give at least one")
    tasks = definition.setdefault("tasks", [])
    if name := definition.get("failureWorkflow"):
        definition["failureWorkflow"] = _translate(name, f"{path}.failureWorkflow", around, report)
    for where, task in walk(tasks, f"{path}.tasks"):
        task.setdefault("type", "SIMPLE")
        _translate_names(task, where, around, report)
        inline = inline_definition(task)
        if inline is not None:
            place = f"{where}.subWorkflowParam.workflowDefinition"
            task["subWorkflowParam"]["workflowDefinition"] = _read_workflow(inline, place, around, report)
    check_tasks(definition, path, around.retries, report)
    return definition


def _translate(name: str, path: str, around: Surroundings, report: Report) -> str:
    return translate_workflow_name(
        name, namespace=around.namespace, rules=around.rules, path=path, report=report
    )


def _translate_names(task: Json, path: str, around: Surroundings, report: Report) -> None:
    """Names of other workflows, and domains: where a definition could reach out of its namespace."""
    inputs = task.get("inputParameters") or {}
    places: list[tuple[Any, str, str]] = []
    if task["type"] == "SUB_WORKFLOW":
        places.append((task.get("subWorkflowParam"), "name", f"{path}.subWorkflowParam"))
    if task["type"] == "START_WORKFLOW":
        places.append((inputs.get("startWorkflow"), "name", f"{path}.inputParameters.startWorkflow"))
    if task["type"] == "FORK_JOIN_DYNAMIC":
        places.append((inputs, "forkTaskWorkflow", f"{path}.inputParameters"))
    for holder, key, where in places:
        if not isinstance(holder, dict):
            continue
        # A definition that stands inline needs no name in Conductor.
        if isinstance(holder.get(key), str) and not holder.get("workflowDefinition"):
            holder[key] = _translate(holder[key], f"{where}.{key}", around, report)
            if task["type"] == "START_WORKFLOW" and holder[key] == f"{around.namespace}.{around.name}":
                report.warning(f"{where}.{key}", "the workflow starts itself", "see to it that this ends")
        if domains := holder.get("taskToDomain"):
            _check_domains(domains, f"{where}.taskToDomain", around, report)


def _check_domains(domains: Any, path: str, around: Surroundings, report: Report) -> None:
    if around.rules.isolation == "Shared":
        return
    values = domains.values() if isinstance(domains, dict) else [domains]
    if any(value != around.namespace for value in values):
        report.error(
            path,
            f"with isolation by namespace, tasks go to workers of {around.namespace!r} only",
            "take taskToDomain out: the domain is set for every run",
        )


class _Reader:
    """Keeps of a JSON object what Conductor would keep, and says what it would drop or refuse."""

    def __init__(self, report: Report) -> None:
        self._report = report

    def read_object(self, given: Json, fields: Mapping[str, Field], path: str) -> Json:
        kept: Json = {}
        for key, value in given.items():
            field = fields.get(key)
            if field is None:
                guess = nearest(key, fields, cutoff=0.75)
                self._report.warning(
                    f"{path}.{key}",
                    f"Conductor has no {key!r} here and drops it",
                    f"did you mean {guess!r}?" if guess else "take it out",
                )
            elif not _fits(value, field):
                self._report.error(
                    f"{path}.{key}",
                    f"{_short(value)} is not {_WORDS[field.kind]}",
                    f"give {_WORDS[field.kind]}",
                )
            elif field.choices and value not in field.choices:
                self._report.error(
                    f"{path}.{key}", f"{value!r} is not a {key}", did_you_mean(value, field.choices)
                )
            else:
                kept[key] = self._read_value(value, field, f"{path}.{key}")
        return kept

    def _read_value(self, value: Any, field: Field, path: str) -> Any:
        match field.kind:
            case "tasks":
                return [
                    self.read_object(task, field.fields, f"{path}[{index}]")
                    for index, task in enumerate(value)
                ]
            case "branches":
                return [
                    self._read_value(tasks, Field("tasks", [], field.fields), f"{path}[{index}]")
                    for index, tasks in enumerate(value)
                ]
            case "cases":
                return {
                    case: self._read_value(tasks, Field("tasks", [], field.fields), f"{path}.{case}")
                    for case, tasks in value.items()
                }
            case "task definition":
                return self.read_object(value, TASK_DEFINITION, path)
            case "sub workflow":
                return self.read_object(value, SUB_WORKFLOW, path)
            case _:
                return value


def _fits(value: Any, field: Field) -> bool:
    number = isinstance(value, int) and not isinstance(value, bool)
    match field.kind:
        case "text":
            return isinstance(value, str)
        case "whole":
            return number
        case "count":
            return number and value >= 0
        case "flag":
            return isinstance(value, bool)
        case "list":
            return isinstance(value, list)
        case "names":
            return isinstance(value, list) and all(isinstance(item, str) for item in value)
        case "tasks":
            return _is_tasks(value)
        case "branches":
            return isinstance(value, list) and all(_is_tasks(item) for item in value)
        case "cases":
            return isinstance(value, dict) and all(_is_tasks(item) for item in value.values())
        case "any":
            return True
        case _:
            return isinstance(value, dict)


def _is_tasks(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, dict) for item in value)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:59] + "…"
