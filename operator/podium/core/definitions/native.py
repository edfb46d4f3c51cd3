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


def names_of_others(definition: Json) -> list[str]:
    """The names of workflows in a definition and those inside of it, as they are in Conductor."""
    names = [definition.get("failureWorkflow")]
    for _, task in walk(definition["tasks"], inline=True):
        holder, key, _ = _place_of_name(task)
        names.append(holder.get(key) if isinstance(holder, dict) else None)
        names.append((inline_definition(task) or {}).get("failureWorkflow"))
    return [name for name in names if isinstance(name, str)]


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
    holder, key, place = _place_of_name(task)
    where = f"{path}.{place}"
    if not isinstance(holder, dict) or _is_late(holder):
        if holder is not None:
            _check_late(holder, where, "an object", around, report)
        return
    if not _is_inline(task["type"], holder, where, around, report) and (name := holder.get(key)) is not None:
        if isinstance(name, str):
            holder[key] = _translate(name, f"{where}.{key}", around, report)
        else:
            # Conductor would take 5 as the name "5".
            _check_late(name, f"{where}.{key}", "a text", around, report)
        if task["type"] == "START_WORKFLOW" and holder[key] == f"{around.namespace}.{around.name}":
            report.warning(f"{where}.{key}", "the workflow starts itself", "see to it that this ends")
    if domains := holder.get("taskToDomain"):
        _check_domains(domains, f"{where}.taskToDomain", around, report)


def _place_of_name(task: Json) -> tuple[Any, str, str]:
    """(what holds the name of the workflow that a task starts, its key there, the path of the holder)."""
    inputs = task.get("inputParameters") or {}
    match task["type"]:
        case "SUB_WORKFLOW":
            return task.get("subWorkflowParam"), "name", "subWorkflowParam"
        case "START_WORKFLOW":
            return inputs.get("startWorkflow"), "name", "inputParameters.startWorkflow"
        case "FORK_JOIN_DYNAMIC":
            return inputs, "forkTaskWorkflow", "inputParameters"
        case _:
            return None, "", ""


def _is_inline(kind: str, holder: Json, where: str, around: Surroundings, report: Report) -> bool:
    """Does the definition to start stand right here? Then Conductor looks at no name."""
    if kind == "SUB_WORKFLOW" and (given := holder.get("workflowDefinition")) is not None:
        if isinstance(given, dict) and not _is_late(given):
            return True
        _check_late(given, f"{where}.workflowDefinition", "a definition", around, report)
    if kind == "START_WORKFLOW" and (given := holder.get("workflowDef")) is not None:
        if isinstance(given, dict) and not _is_late(given):
            report.error(
                f"{where}.workflowDef",
                "the expressions of a definition in START_WORKFLOW would be those of this workflow",
                "make it a Workflow of its own and give its name",
            )
        else:
            _check_late(given, f"{where}.workflowDef", "a definition", around, report)
    return False


def _check_late(given: Any, path: str, wanted: str, around: Surroundings, report: Report) -> None:
    """What stands in the place of what says which workflow is meant: it may be an expression."""
    if not _is_late(given):
        report.error(path, f"{_short(given)} is not {wanted}", f"give {wanted}")
    elif around.rules.isolation == "Namespace":
        report.warning(
            path,
            f"which workflow {_short(given)} is can only be known when it runs",
            f"see to it that it only names Workflows of {around.namespace}",
        )


def _is_late(given: Any) -> bool:
    if isinstance(given, dict):
        return given.get("_type") == "reference"
    return isinstance(given, str) and "${" in given


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
