"""The form `stateMachine`: steps over one growing document."""

from collections.abc import Mapping

from podium.api.v1alpha1.workflow import StateMachine
from podium.core.definitions.depth import DEEPEST
from podium.core.definitions.documents import (
    PUT_ALL,
    MissingPath,
    Path,
    Place,
    format_path,
    parse_document_path,
    read,
    write,
)
from podium.core.definitions.draft import Draft, Json, build_simple_task
from podium.core.definitions.findings import Report, did_you_mean, nearest
from podium.core.definitions.names import check_generated, check_task_type, name_nodes

_STEPS = "spec.stateMachine.steps"
# Some 300 kB of definition, which Conductor reads again and again.
_MOST_PLACES = 10_000
_STEP_KEYS = ("id", "name", "type", "functionName", "inputPath", "resultPath", "nextStepId")


def build_state_machine(machine: StateMachine, report: Report) -> Draft:
    """A chain of tasks. Each gets `{"input": <what its inputPath finds>}`.

    Without spec.output a run's output is the whole document at the end.
    """
    order = _follow(machine, report)
    names = name_nodes(((step_path(step), step) for step in machine.steps), report)
    for step, settings in machine.steps.items():
        check_task_type(settings.function_name, f"{step_path(step)}.functionName", report)
        for key in settings.model_extra or {}:
            if guess := nearest(key, _STEP_KEYS, cutoff=0.75):
                report.warning(
                    f"{step_path(step)}.{key}", f"{key!r} is not a key of a step", f"did you mean {guess!r}?"
                )
    results = {step: _result_path(machine, step, report) for step in machine.steps}
    writer = _Writer(machine, names, results, order, report)
    for step in order:
        writer.add_step(step)
    whole = sum(parse_document_path(machine.steps[step].input_path or "$") == () for step in order)
    if whole * len(order) > _MOST_PLACES:
        report.warning(
            _STEPS,
            f"{whole} of {len(order)} steps take the whole document, each input larger than the last",
            "give them an inputPath",
        )
    # Not `_merge_output`: a step may be called output_0.
    output = writer.read_whole("_result")
    check_generated(writer.added, names, _STEPS, report)
    ids = {names[step]: step for step in order}
    return Draft(tasks=writer.tasks, nodes=ids, names={step: names[step] for step in order}, output=output)


def step_path(step: str) -> str:
    """Where a step stands in the manifest."""
    return f"{_STEPS}.{step}"


class _Writer:
    """Goes along the steps: the document as it grows, and the tasks as they are made."""

    def __init__(
        self,
        machine: StateMachine,
        names: Mapping[str, str],
        results: Mapping[str, tuple[str, ...] | None],
        order: list[str],
        report: Report,
    ) -> None:
        self.tasks: list[Json] = []
        self.added: list[str] = []
        self._machine, self._names, self._results = machine, names, results
        self._order, self._report = order, report
        self._document = Place(children={"initialPayload": Place("workflow.input"), "steps": Place()})
        self._merged: dict[str, str] = {}

    def add_step(self, step: str) -> None:
        ref, settings = self._names[step], self._machine.steps[step]
        path = parse_document_path(settings.input_path or "$")
        where = f"{step_path(step)}.inputPath"
        value: object = None
        if path is None:
            self._report.error(
                where,
                f"{settings.input_path!r} is not a path",
                "write it like $.initialPayload.x or .userRecord",
            )
        else:
            value = self._read(path, step, where)
        self.tasks.append(build_simple_task(ref, settings.function_name, {"input": value}))
        output = f"{ref}.output"
        write(self._document, ("steps", step, "output"), output)
        if (result := self._results[step]) is not None:
            write(self._document, result, output)

    def read_whole(self, merge_as: str) -> Json:
        return {
            key: read(self._document, (key,), self._merger(f"{merge_as}_{index}"))
            for index, key in enumerate(self._document.children)
        }

    def _read(self, path: Path, step: str, where: str) -> object:
        try:
            return read(self._document, path, self._merger(f"_merge_{self._names[step]}"))
        except MissingPath as missing:
            self._report.error(where, *self._explain(missing, step))
            return None

    def _explain(self, missing: MissingPath, step: str) -> tuple[str, str]:
        told = format_path(missing.path)
        for later in self._order[self._order.index(step) :]:
            result = self._results[later]
            by_result = result is not None and missing.path[: len(result)] == result
            if by_result or missing.path[:2] == ("steps", later):
                return f"{told} is only written by step {later!r}", "take it from a step that runs before"
        wrong = next((part for part in missing.path if part not in missing.known), missing.path[-1])
        return f"nothing is at {told} when {step!r} runs", did_you_mean(str(wrong), missing.known)

    def _merger(self, prefix: str) -> "_Merge":
        return _Merge(prefix, self.tasks, self.added, self._merged)


class _Merge:
    """Makes the jq task that writes values into the output of a task."""

    def __init__(self, prefix: str, tasks: list[Json], added: list[str], merged: dict[str, str]) -> None:
        self._prefix, self._tasks, self._added, self._merged = prefix, tasks, added, merged
        self._count = 0

    def __call__(self, base: str, writes: list[Json]) -> str:
        key = f"{base} {writes}"
        if key not in self._merged:
            self._count += 1
            ref = f"{self._prefix}_{self._count}"
            self._added.append(ref)
            task = {"base": f"${{{base}}}", "writes": writes, "queryExpression": PUT_ALL}
            self._tasks.append(
                {
                    "name": "merge",
                    "taskReferenceName": ref,
                    "type": "JSON_JQ_TRANSFORM",
                    "inputParameters": task,
                }
            )
            self._merged[key] = f"{ref}.output.result"
        return self._merged[key]


def _follow(machine: StateMachine, report: Report) -> list[str]:
    """The ids of the steps in the order in which they run."""
    order: list[str] = []
    at, said_at = machine.start_at, "spec.stateMachine.startAt"
    while at is not None:
        if at not in machine.steps:
            report.error(said_at, f"there is no step {at!r}", did_you_mean(at, machine.steps))
            break
        if at in order:
            told = " → ".join([*order[order.index(at) :], at])
            report.error(said_at, f"the steps never end: {told}", "let the last one have nextStepId: null")
            break
        order.append(at)
        said_at, following = f"{step_path(at)}.nextStepId", machine.steps[at].next_step_id
        if following is None:
            break
        at = following
    for step in machine.steps:
        if step not in order:
            report.warning(
                step_path(step), f"no step leads to {step!r}, it never runs", "name it in a nextStepId"
            )
    return order


def _result_path(machine: StateMachine, step: str, report: Report) -> tuple[str, ...] | None:
    text = machine.steps[step].result_path
    if text is None:
        return None
    where = f"{step_path(step)}.resultPath"
    path = parse_document_path(text)
    if path is None or any(isinstance(part, int) for part in path):
        report.error(where, f"{text!r} is not a path of keys", "write it like .validationOutput")
    elif len(path) > DEEPEST:
        report.error(where, f"nested deeper than {DEEPEST} levels", "write the result at a shorter path")
    elif not path:
        report.error(
            where,
            "a result cannot take the place of the whole document",
            "name a place like .validationOutput",
        )
    elif path[0] == "steps":
        report.error(
            where, "steps is kept for the outputs of all steps", "name another place like .validationOutput"
        )
    else:
        return tuple(str(part) for part in path)
    return None
