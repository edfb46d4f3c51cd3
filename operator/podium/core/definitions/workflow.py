"""A Workflow's spec → a Conductor definition, or what is wrong with it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from podium.api.v1alpha1.workflow import WorkflowSpec
from podium.core.definitions.depth import check_depth
from podium.core.definitions.draft import Draft, Json
from podium.core.definitions.expressions import translate
from podium.core.definitions.findings import Finding, InvalidWorkflow, Report
from podium.core.definitions.flow import build_flow
from podium.core.definitions.graph import build_graph
from podium.core.definitions.names import (
    Rules,
    check_conductor_name,
    conductor_name,
    translate_workflow_name,
)
from podium.core.definitions.native import Surroundings, build_native, names_of_others
from podium.core.definitions.revision import hash_definition, hash_spec, prune
from podium.core.definitions.schedules import check_schedules
from podium.core.definitions.schema import check_input
from podium.core.definitions.settings import build_task_definitions, count_retries, seconds
from podium.core.definitions.steps import build_state_machine
from podium.core.definitions.tree import walk
from podium.core.values import every_value

_WHOLE_FAILURE = re.compile(r"\$\{workflow\.input\.failedWorkflow(\.(tasks|workflowDefinition))?\}")
_SAYING = ("spec.flow.", "spec.graph.", "spec.definition.", "spec.output.")
# Without a time-out Conductor looks at a run so seldom that a lost worker is noticed minutes late.
_NO_TIMEOUT_SECONDS = 365 * 24 * 3600


@dataclass(frozen=True)
class Compiled:
    """What a Workflow is in Conductor."""

    definition: Json
    """A WorkflowDef without `version`."""
    hash: str
    spec_hash: str
    nodes: Mapping[str, str]
    """Reference name → the id that the user wrote; tasks that Podium added are not in it."""
    task_types: tuple[str, ...]
    """Types that workers must serve, sorted."""
    task_definitions: tuple[Json, ...]
    """TaskDefs to register, each only if there is none of its name."""


@dataclass(frozen=True)
class Checked:
    """What a spec becomes (None if lint finds an error), and what lint says of it."""

    compiled: Compiled | None
    findings: tuple[Finding, ...]


def check_workflow(spec: WorkflowSpec, *, namespace: str, name: str, rules: Rules | None = None) -> Checked:
    """Compile and lint in one go. Half a second for 3,000 tasks: keep what comes of it."""
    report = Report()
    compiled = None
    check_depth(spec, report)
    if not report.failed:
        try:
            compiled = _build(spec, namespace, name, rules or Rules(), report)
        except RecursionError:
            report.error("spec", "nested too deep", "make it flatter")
    if report.failed:
        compiled = None
    # Not a part of the definition: a schedule that means nothing does not keep it from being registered.
    check_schedules(spec, report)
    return Checked(compiled, tuple(report.findings()))


def lint_workflow(
    spec: WorkflowSpec, *, namespace: str, name: str, rules: Rules | None = None
) -> list[Finding]:
    """What is wrong (errors first) or doubtful about a spec, in the order of the manifest."""
    return list(check_workflow(spec, namespace=namespace, name=name, rules=rules).findings)


def compile_workflow(
    spec: WorkflowSpec, *, namespace: str, name: str, rules: Rules | None = None
) -> Compiled:
    """The definition of a spec. Raises InvalidWorkflow if lint finds an error."""
    checked = check_workflow(spec, namespace=namespace, name=name, rules=rules)
    if checked.compiled is None:
        raise InvalidWorkflow(list(checked.findings))
    return checked.compiled


def defaults_of(spec: WorkflowSpec) -> Json:
    """What a run gets for keys that its input leaves out: inputDefaults, and before them a template."""
    template = (spec.definition or {}).get("inputTemplate")
    made: Json = prune(template) if isinstance(template, dict) else {}
    return {**made, **prune(spec.input_defaults or {})}


def _build(spec: WorkflowSpec, namespace: str, name: str, rules: Rules, report: Report) -> Compiled | None:
    check_conductor_name(spec, namespace, rules, report)
    around = Surroundings(namespace, name, rules, count_retries(spec))
    draft = _draft(spec, around, report)
    check_input(spec, report)
    definition = {**draft.rest, "name": conductor_name(namespace, name, spec), "tasks": draft.tasks}
    _set_output(definition, spec, draft, report)
    _set_timeout(definition, spec, report)
    _set_failure_workflow(definition, spec, around, report)
    if spec.description is not None:
        definition["description"] = spec.description
    task_types = {task["name"] for task in _simple_tasks(draft.tasks) if task.get("name")}
    settings = build_task_definitions(spec, task_types, dynamic=draft.dynamic, report=report)
    for task in _simple_tasks(draft.tasks):
        _embed(task, settings)
    _warn_about_whole_failures(spec, report)
    if report.failed:
        return None
    return _finish(definition, spec, draft, tuple(sorted(task_types)), tuple(settings.values()))


def _draft(spec: WorkflowSpec, around: Surroundings, report: Report) -> Draft:
    forms: list[tuple[str, Any]] = [
        ("flow", spec.flow),
        ("graph", spec.graph),
        ("stateMachine", spec.state_machine),
        ("definition", spec.definition),
    ]
    given = [form for form, value in forms if value is not None]
    if len(given) != 1:
        told = f"there are {', '.join(given)}" if given else "there is none"
        report.error("spec", f"{told}", "give exactly one of flow, graph, stateMachine, definition")
    if spec.flow is not None:
        return build_flow(spec.flow, report)
    if spec.graph is not None:
        return build_graph(spec.graph, report)
    if spec.state_machine is not None:
        return build_state_machine(spec.state_machine, report)
    if spec.definition is not None:
        return build_native(spec.definition, around, report)
    return Draft(tasks=[], nodes={})


def _set_output(definition: Json, spec: WorkflowSpec, draft: Draft, report: Report) -> None:
    if spec.output is None:
        if draft.output is not None:
            definition["outputParameters"] = draft.output
        return
    if spec.definition is not None:
        report.error(
            "spec.output", "output does not go with definition", "write definition.outputParameters instead"
        )
        return
    definition["outputParameters"], _ = translate(spec.output, "spec.output", draft.names, report)


def _set_timeout(definition: Json, spec: WorkflowSpec, report: Report) -> None:
    if spec.timeout is not None:
        whole = seconds(spec.timeout, "spec.timeout", report)
        if whole == 0:
            report.error("spec.timeout", "must be longer than 0s", "leave it out for no limit")
        definition |= {"timeoutSeconds": whole, "timeoutPolicy": "TIME_OUT_WF"}
    elif not definition.get("timeoutSeconds"):
        definition |= {"timeoutSeconds": _NO_TIMEOUT_SECONDS, "timeoutPolicy": "ALERT_ONLY"}


def _set_failure_workflow(definition: Json, spec: WorkflowSpec, around: Surroundings, report: Report) -> None:
    path = "spec.failureWorkflow"
    if spec.failure_workflow is None:
        return
    if definition.get("failureWorkflow"):
        report.warning("spec.definition.failureWorkflow", "spec.failureWorkflow wins", "take one of them out")
        definition.pop("failureWorkflowVersion", None)
    definition["failureWorkflow"] = translate_workflow_name(
        spec.failure_workflow, namespace=around.namespace, rules=around.rules, path=path, report=report
    )
    if spec.failure_workflow == around.name:
        report.warning(path, "the workflow is its own failure workflow", "see to it that this ends")


def _simple_tasks(tasks: list[Json]) -> list[Json]:
    return [task for _, task in walk(tasks, inline=True) if task["type"] == "SIMPLE"]


def _embed(task: Json, settings: Mapping[str, Json]) -> None:
    """Settings travel inside the definition, so that workflows never fight over global ones."""
    if task.get("taskDefinition"):
        task["taskDefinition"].setdefault("name", task["name"])
    elif task.get("name") in settings:
        task["taskDefinition"] = dict(settings[task["name"]])


def _warn_about_whole_failures(spec: WorkflowSpec, report: Report) -> None:
    """Conductor hands a failure workflow the whole failed run: megabytes, for each task that gets it."""
    for path, value, _ in every_value(spec, "spec"):
        if path.startswith(_SAYING) and isinstance(value, str) and _WHOLE_FAILURE.search(value):
            report.warning(
                path,
                "this passes the whole failed run on, with its definition and all its tasks",
                "take what is needed: ${workflow.input.reason}, ${workflow.input.workflowId}, one field of "
                "${workflow.input.failedWorkflow}",
            )


def _finish(
    definition: Json,
    spec: WorkflowSpec,
    draft: Draft,
    task_types: tuple[str, ...],
    task_definitions: tuple[Json, ...],
) -> Compiled:
    mark: Json = {"nodes": dict(draft.nodes)}
    if spec.input_schema is not None:
        mark["inputSchema"] = prune(spec.input_schema)
    if defaults := defaults_of(spec):
        # Podium fills them in before it checks a run's input; Conductor does where it starts runs itself.
        mark["inputDefaults"] = definition["inputTemplate"] = defaults
    definition["metadata"] = {**definition.get("metadata", {}), "podium": mark}
    digest, spec_digest = hash_definition(definition), hash_spec(spec, names_of_others(definition))
    definition["metadata"]["podium"] |= {"hash": digest, "specHash": spec_digest}
    return Compiled(definition, digest, spec_digest, dict(draft.nodes), task_types, task_definitions)
