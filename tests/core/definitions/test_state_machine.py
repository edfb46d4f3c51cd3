"""The form `stateMachine`: paths, writes, and that it equals an interpreter over a document."""

import copy
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.definitions.shapes import LAW, Json, compiled, lint, says
from podium.core.definitions.documents import PUT_ALL, parse_document_path


def machine(*steps: tuple[str, str | None, str | None]) -> Json:
    """Steps (id, inputPath, resultPath), one behind the other."""
    made: Json = {}
    for index, (step, input_path, result_path) in enumerate(steps):
        made[step] = {
            "functionName": f"do_{step}",
            "inputPath": input_path,
            "resultPath": result_path,
            "nextStepId": steps[index + 1][0] if index + 1 < len(steps) else None,
        }
    return {"startAt": steps[0][0], "steps": made}


PATHS: dict[str, tuple[str | None, Any]] = {
    "the payload": ("$.initialPayload", "${workflow.input}"),
    "part of it, short form": (".initialPayload.user.name", "${workflow.input.user.name}"),
    "a result": (".made", "${first_step.output}"),
    "part of a result": ("$.made.list[0]['a b']", "${first_step.output.list[0]['a b']}"),
    "a step's output": ("$.steps['first-step'].output.x", "${first_step.output.x}"),
    "a step": ("$.steps['first-step']", {"output": "${first_step.output}"}),
    "a result deep down": (".deep", {"down": "${second.output}"}),
    "nothing given is the whole": (
        None,
        {
            "initialPayload": "${workflow.input}",
            "steps": {
                "first-step": {"output": "${first_step.output}"},
                "second": {"output": "${second.output}"},
            },
            "made": "${first_step.output}",
            "deep": {"down": "${second.output}"},
        },
    ),
}


@pytest.mark.parametrize(("path", "wanted"), PATHS.values(), ids=PATHS)
def test_an_input_path_is_resolved(path: str | None, wanted: Any) -> None:
    steps = machine(("first-step", "$", ".made"), ("second", "$", ".deep.down"), ("third", path, None))
    task = compiled(stateMachine=steps).definition["tasks"][2]
    assert (task["name"], task["type"], task["inputParameters"]) == ("do_third", "SIMPLE", {"input": wanted})


@pytest.mark.parametrize("path", ["$", ".", "", None])
def test_the_whole_document(path: str | None) -> None:
    steps = machine(("a", path, None))
    whole = compiled(stateMachine=steps).definition["tasks"][0]["inputParameters"]["input"]
    assert whole == {"initialPayload": "${workflow.input}", "steps": {}}


def test_a_run_answers_the_whole_document_unless_output_says_otherwise() -> None:
    steps = machine(("a-1", "$.initialPayload", ".x"))
    assert compiled(stateMachine=steps).definition["outputParameters"] == {
        "initialPayload": "${workflow.input}",
        "steps": {"a-1": {"output": "${a_1.output}"}},
        "x": "${a_1.output}",
    }
    chosen = compiled(stateMachine=steps, output={"y": "${a-1.output.y}"}).definition
    assert chosen["outputParameters"] == {"y": "${a_1.output.y}"}


def test_writing_into_a_result_is_merged_when_it_runs() -> None:
    steps = machine(("a", "$", ".user"), ("b", "$.initialPayload", ".user.mail"), ("c", ".user", None))
    tasks = compiled(stateMachine=steps).definition["tasks"]
    assert [task["type"] for task in tasks] == ["SIMPLE", "SIMPLE", "JSON_JQ_TRANSFORM", "SIMPLE"]
    assert tasks[2]["inputParameters"] == {
        "base": "${a.output}",
        "writes": [{"path": ["mail"], "value": "${b.output}"}],
        "queryExpression": PUT_ALL,
    }
    assert tasks[3]["inputParameters"] == {"input": "${_merge_c_1.output.result}"}


@pytest.mark.parametrize("step", ["output_0", "output-0", "output", "result_0"])
def test_merges_of_steps_and_of_the_result_have_names_of_their_own(step: str) -> None:
    steps = machine(("a", "$", ".initialPayload.x"), (step, "$.initialPayload", ".initialPayload.y"))
    tasks = compiled(stateMachine=steps).definition["tasks"]
    assert [task["type"] for task in tasks].count("JSON_JQ_TRANSFORM") == 2
    refs = [task["taskReferenceName"] for task in tasks]
    assert len(set(refs)) == len(refs)


def test_a_step_may_not_have_the_name_of_a_merge() -> None:
    steps = machine(("a", "$", ".initialPayload.x"), ("_result_0_1", "$.initialPayload.y", None))
    (said,) = says(lint(stateMachine=steps))
    assert "the id '_result_0_1' is the name of a task that Podium adds" in said


REFUSED: dict[str, tuple[Json, str]] = {
    "no first step": (
        machine(("a", "$", None)) | {"startAt": "b"},
        "spec.stateMachine.startAt: there is no step 'b'; there is 'a'",
    ),
    "no next step": (
        {
            "startAt": "validate",
            "steps": {
                "validate": {"functionName": "f", "nextStepId": "stor"},
                "store": {"functionName": "g"},
            },
        },
        "spec.stateMachine.steps.validate.nextStepId: there is no step 'stor'; did you mean 'store'?",
    ),
    "a circle": (
        {
            "startAt": "a",
            "steps": {
                "a": {"functionName": "f", "nextStepId": "b"},
                "b": {"functionName": "g", "nextStepId": "a"},
            },
        },
        "spec.stateMachine.steps.b.nextStepId: the steps never end: a → b → a",
    ),
    "nothing there": (
        machine(("a", "$", ".validationOutput"), ("b", ".validatonOutput", None)),
        "inputPath: nothing is at $.validatonOutput when 'b' runs; did you mean 'validationOutput'?",
    ),
    "written later": (
        machine(("a", ".later.x", None), ("b", "$", ".later")),
        "inputPath: $.later.x is only written by step 'b'; take it from a step that runs before",
    ),
    "its own output": (machine(("a", "$.steps.a.output", None)), "is only written by step 'a'"),
    "no path": (machine(("a", "$..x", None)), "inputPath: '$..x' is not a path"),
    "a brace in an input": (
        machine(("a", "$.initialPayload['a}b']", None)),
        "steps.a.inputPath: \"$.initialPayload['a}b']\" is not a path",
    ),
    "a brace in a result": (machine(("a", "$", ".a{b")), "steps.a.resultPath: '.a{b' is not a path of keys"),
    "the root": (machine(("a", "$", "$")), "a result cannot take the place of the whole document"),
    "the outputs": (machine(("a", "$", ".steps.b")), "steps is kept for the outputs of all steps"),
    "a list": (machine(("a", "$", ".x[0]")), "resultPath: '.x[0]' is not a path of keys"),
    "a system task": (
        {"startAt": "a", "steps": {"a": {"functionName": "HTTP"}}},
        "spec.stateMachine.steps.a.functionName: HTTP is a task that Conductor runs itself",
    ),
}


@pytest.mark.parametrize(("steps", "wanted"), REFUSED.values(), ids=REFUSED)
def test_a_wrong_state_machine_is_refused(steps: Json, wanted: str) -> None:
    found = says(lint(stateMachine=steps))
    assert any(wanted in line for line in found), found


def test_a_step_that_nothing_leads_to_is_pointed_out() -> None:
    steps = {
        "startAt": "a",
        "steps": {"a": {"functionName": "f"}, "b": {"functionName": "g", "resultpath": ".x"}},
    }
    unreachable, misspelt = says(lint(stateMachine=steps), "warning")
    assert unreachable.endswith("no step leads to 'b', it never runs; name it in a nextStepId")
    assert misspelt.endswith("'resultpath' is not a key of a step; did you mean 'resultPath'?")


def test_many_steps_that_take_everything_are_pointed_out() -> None:
    def said(path: str | None) -> list[str]:
        return says(lint(stateMachine=machine(*((f"s{i}", path, None) for i in range(120)))), "warning")

    assert "120 of 120 steps take the whole document" in said(None)[0]
    assert said("$.initialPayload") == []


# --- the law: compiled and run, it equals an interpreter over one document ---------------------------


def interpret(steps: Json, payload: Any, outputs: dict[str, Any]) -> tuple[dict[str, Any], Any]:
    """Each step's input, and the document at the end, by writing into one JSON document."""
    document: Any = {"initialPayload": payload, "steps": {}}
    inputs: dict[str, Any] = {}
    at = steps["startAt"]
    while at is not None:
        step = steps["steps"][at]
        inputs[at] = pick(document, parse_document_path(step["inputPath"] or "$") or ())
        put(document, ("steps", at, "output"), outputs[at])
        if step["resultPath"]:
            put(document, parse_document_path(step["resultPath"]) or (), outputs[at])
        at = step["nextStepId"]
    return inputs, document


def pick(value: Any, path: tuple[str | int, ...]) -> Any:
    for part in path:
        if isinstance(value, dict) and isinstance(part, str):
            value = value.get(part)
        elif isinstance(value, list) and isinstance(part, int) and part < len(value):
            value = value[part]
        else:
            return None
    return copy.deepcopy(value)


def put(document: Any, path: tuple[str | int, ...], value: Any) -> None:
    for part in path[:-1]:
        if not isinstance(document.get(part), dict):
            document[part] = {}
        document = document[part]
    document[path[-1]] = copy.deepcopy(value)


def run(definition: Json, payload: Any, outputs: dict[str, Any]) -> tuple[dict[str, Any], Any]:
    """What Conductor would do with the compiled tasks."""
    known: Json = {"workflow": {"input": payload}}

    def resolve(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: resolve(item) for key, item in value.items()}
        if isinstance(value, list):
            return [resolve(item) for item in value]
        found = re.fullmatch(r"\$\{(.*)\}", value, re.DOTALL) if isinstance(value, str) else None
        return pick(known, parse_document_path(found[1]) or ()) if found else value

    inputs: dict[str, Any] = {}
    for task in definition["tasks"]:
        ref, given_input = task["taskReferenceName"], resolve(task["inputParameters"])
        if task["type"] == "SIMPLE":
            inputs[ref] = given_input["input"]
            known[ref] = {"output": outputs[ref]}
        else:
            merged = {"value": given_input["base"]}
            for write in given_input["writes"]:
                put(merged, ("value", *write["path"]), write["value"])
            known[ref] = {"output": {"result": merged["value"]}}
    return inputs, resolve(definition["outputParameters"])


KEYS = st.sampled_from("abc")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(0, 9) | st.sampled_from(["x", "y"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=6,
)
OBJECTS = st.dictionaries(KEYS, JSON, max_size=3)


@st.composite
def machines(draw: st.DrawFn) -> Json:
    """Steps whose paths lie over and in each other; only places that are written before are read."""
    count = draw(st.integers(1, 5))
    written = [("initialPayload",)]
    steps: list[tuple[str, str | None, str | None]] = []
    for index in range(count):
        base = draw(st.sampled_from(written))
        tail = draw(st.lists(KEYS, max_size=2)) if draw(st.booleans()) else []
        cut = draw(st.integers(1, len(base)))
        path = (*base, *tail) if tail else base[:cut]
        given_path = draw(st.sampled_from([None, "$", "$." + ".".join(path), "." + ".".join(path)]))
        result = tuple(draw(st.lists(KEYS, min_size=1, max_size=3)))
        if draw(st.integers(0, 4)) == 0:
            result = ("initialPayload", *result)
        steps.append((f"s{index}", given_path, "." + ".".join(result)))
        written += [result, ("steps", f"s{index}", "output")]
    return machine(*steps)


@LAW
@given(machines(), OBJECTS, st.data())
def test_it_equals_an_interpreter_over_one_document(steps: Json, payload: Json, data: st.DataObject) -> None:
    outputs = {step: data.draw(OBJECTS) for step in steps["steps"]}
    errors = says(lint(stateMachine=steps))
    if errors:
        # A later write replaced what lay there: then the path is refused, and must really be empty.
        assert all("nothing is at" in line or "only written" in line for line in errors), errors
        return
    made = compiled(stateMachine=steps)
    assert run(made.definition, payload, outputs) == interpret(steps, payload, outputs)
