"""The form `definition`: what passes, what Conductor would have swallowed in silence."""

from typing import Any

import pytest

from core.definitions.shapes import Json, compiled, lint, native, says, simple


def system(kind: str, ref: str = "s", /, **rest: Any) -> Json:
    return {"name": ref, "taskReferenceName": ref, "type": kind, **rest}


FORK = system("FORK_JOIN", "fork", forkTasks=[[simple("a")], [simple("b")]])
JOIN = system("JOIN", "join", joinOn=["a", "b"])
MARKED = [
    system(
        "FORK_JOIN",
        "fork",
        forkTasks=[[simple("a"), system("NOOP", "a_done")], [simple("b"), system("NOOP", "b_done")]],
    ),
    system("JOIN", "join", joinOn=["a_done", "b_done"]),
]
LOOP = system("DO_WHILE", "loop", loopCondition="$.loop['iteration'] < 3", loopOver=[simple("body")])

FINE: dict[str, Json] = {
    "a chain": native(simple("a"), simple("b", inputParameters={"x": "${a.output.x}"})),
    "a fork with markers": native(*MARKED, simple("c", inputParameters={"x": "${a.output.x}"})),
    "a loop and its own counter": native(
        system(
            "DO_WHILE",
            "loop",
            loopCondition="$.loop['iteration'] < 3",
            inputParameters={"last": "${body.output.x}"},
            loopOver=[
                simple(
                    "body", inputParameters={"n": "${loop.output.iteration}", "last": "${after.output.x}"}
                ),
                simple("after", inputParameters={"x": "${body.output.x}"}),
            ],
        )
    ),
    "a switch": native(
        system(
            "SWITCH",
            evaluatorType="value-param",
            expression="x",
            inputParameters={"x": "${workflow.input.x}"},
            decisionCases={"a": [simple("a")]},
            defaultCase=[simple("b")],
        )
    ),
    "dynamic forks": native(
        simple("plan"),
        system(
            "FORK_JOIN_DYNAMIC",
            "fan",
            dynamicForkTasksParam="tasks",
            dynamicForkTasksInputParamName="inputs",
            inputParameters={"tasks": "${plan.output.tasks}", "inputs": "${plan.output.inputs}"},
        ),
        system("JOIN", "join"),
    ),
    "system tasks": native(
        system("INLINE", "i", inputParameters={"evaluatorType": "javascript", "expression": "1 + 1"}),
        system("JSON_JQ_TRANSFORM", "j", inputParameters={"queryExpression": ".x", "x": 1}),
        system("SET_VARIABLE", "v", inputParameters={"x": 1}),
        system("WAIT", "w", inputParameters={"duration": "2 seconds"}),
        system("HUMAN", "h"),
        system("HTTP", "http", inputParameters={"http_request": {"uri": "http://x", "method": "GET"}}),
        system("EVENT", "e", sink="conductor"),
        system("KAFKA_PUBLISH", "k", inputParameters={"kafka_request": {"topic": "t", "value": "v"}}),
        system("NOOP", "n"),
        system("TERMINATE", "t", inputParameters={"terminationStatus": "COMPLETED"}),
    ),
    "retries that are none cannot race": native(
        FORK | {"forkTasks": [[simple("a", retryCount=0)], [simple("b", optional=True)]]}, JOIN
    ),
    "everything a workflow may say": native(
        simple("a"),
        inputParameters=["x"],
        outputParameters={"y": "${a.output.y}"},
        restartable=False,
        variables={"v": 1},
        ownerEmail="a@b.c",
        inputTemplate={"x": 1},
        metadata={"team": "video"},
        schemaVersion=2,
    ),
}


@pytest.mark.parametrize("definition", FINE.values(), ids=FINE)
def test_a_good_definition_passes_without_a_word_and_whole(definition: Json) -> None:
    assert lint(definition=definition) == []
    made = compiled(definition=definition)
    for key, value in definition.items():
        if key not in ("tasks", "metadata"):
            assert made.definition[key] == value
    assert made.definition["metadata"].items() >= definition.get("metadata", {}).items()


REFUSED: dict[str, tuple[Json, str]] = {
    "no tasks": (native(), "spec.definition.tasks: there are no tasks"),
    "an unknown type": (
        native(system("INLIN")),
        "spec.definition.tasks[0].type: Conductor has no task type 'INLIN'; did you mean 'INLINE'?",
    ),
    "a worker's type as type": (native(system("resize")), "write type: SIMPLE and name: resize"),
    "a fork without join": (
        native(FORK, simple("c")),
        "spec.definition.tasks[0]: FORK_JOIN 'fork' is not followed by a JOIN",
    ),
    "a dynamic fork without join": (
        native(system("FORK_JOIN_DYNAMIC", dynamicForkJoinTasksParam="x")),
        "is not followed by a JOIN",
    ),
    "an empty branch": (
        native(FORK | {"forkTasks": [[simple("a")], []]}, JOIN),
        "forkTasks[1]: the branch is empty",
    ),
    "a join on nothing known": (
        native(*MARKED[:1], system("JOIN", "join", joinOn=["a_don"])),
        "joinOn[0]: there is no task 'a_don', the JOIN would wait for ever; did you mean 'a_done'?",
    ),
    "double names": (
        native(simple("a"), simple("a")),
        "tasks[1].taskReferenceName: 'a' is the taskReferenceName of spec.definition.tasks[0] too",
    ),
    "no name": (native({"type": "SIMPLE", "name": "t"}), "tasks[0].taskReferenceName: the task has no"),
    "a later task": (
        native(simple("a", inputParameters={"x": "${b.output.x}"}), simple("b")),
        "spec.definition.tasks[0].inputParameters.x: 'b' runs after 'a', its output is not there yet",
    ),
    "a later one from inside": (
        native(
            FORK | {"forkTasks": [[simple("a", inputParameters={"x": "${c.output.x}"})]]}, JOIN, simple("c")
        ),
        "'c' runs after 'a'",
    ),
    "itself": (native(simple("a", inputParameters={"x": "${a.output.x}"})), "'a' cannot use its own output"),
    "unknown deep inside": (
        native(LOOP | {"loopOver": [simple("body", inputParameters={"x": "${ghost.output.y}"})]}),
        "loopOver[0].inputParameters.x: the expression ${ghost.output.y} names no node",
    ),
    "unknown in the output": (
        native(simple("a"), outputParameters={"x": "${b.output}"}),
        "spec.definition.outputParameters.x: the expression ${b.output} names no node",
    ),
    "never closed": (native(simple("a", inputParameters={"x": "${workflow.input"})), "is never closed"),
    "a negative time": (
        native(simple("a"), timeoutSeconds=-1),
        "timeoutSeconds: -1 is not a whole number, 0 or",
    ),
    "a number as text": (
        native(simple("a"), timeoutSeconds="60"),
        "timeoutSeconds: '60' is not a whole number",
    ),
    "another schema": (native(simple("a"), schemaVersion=1), "Conductor only takes schemaVersion 2"),
    "a wrong word": (
        native(simple("a"), timeoutPolicy="TIMEOUT_WF"),
        "timeoutPolicy: 'TIMEOUT_WF' is not a timeoutPolicy; did you mean 'TIME_OUT_WF'?",
    ),
    "a switch on nothing": (native(system("SWITCH", decisionCases={"a": []})), "SWITCH needs evaluatorType"),
    "a loop without end": (
        native(system("DO_WHILE", loopOver=[simple("a")])),
        "DO_WHILE needs loopCondition or",
    ),
    "settings against Conductor's law": (
        native(simple("a", taskDefinition={"timeoutSeconds": 60})),
        "responseTimeoutSeconds 3600 (which it is if nothing is given) is longer than timeoutSeconds 60",
    ),
    "wrong inside an inline sub-workflow": (
        native(system("SUB_WORKFLOW", subWorkflowParam={"name": "x", "workflowDefinition": native(FORK)})),
        "tasks[0].subWorkflowParam.workflowDefinition.tasks[0]: FORK_JOIN 'fork' is not followed",
    ),
    "tasks that are none": ({"tasks": ["a"]}, "spec.definition.tasks: ['a'] is not a list of tasks"),
}


@pytest.mark.parametrize(("definition", "wanted"), REFUSED.values(), ids=REFUSED)
def test_a_broken_definition_is_refused(definition: Json, wanted: str) -> None:
    found = says(lint(definition=definition))
    assert any(wanted in line for line in found), found


WARNED: dict[str, tuple[Json, str]] = {
    "name and version": (
        native(simple("a"), name="x", version=3),
        "version is Podium's to set, this one is ignored",
    ),
    "the race": (
        native(FORK, JOIN),
        "at this JOIN before the retry is made; put a NOOP task behind 'a' and wait for that",
    ),
    "a join that waits for nothing": (native(FORK, JOIN | {"joinOn": []}), "the JOIN waits for nothing"),
    "a key that Conductor drops": (
        native(simple("a", inputParams={})),
        "inputParams: Conductor has no 'inputParams' here and drops it; did you mean 'inputParameters'?",
    ),
    "a name no expression can say": (native(simple("a b")), "no expression can name 'a b'"),
    "time out without a time": (
        native(simple("a"), timeoutPolicy="TIME_OUT_WF"),
        "does nothing without a time",
    ),
    "a schema that nobody looks at": (native(simple("a"), inputSchema={"name": "x"}), "use spec.inputSchema"),
    "a name of a dynamic fork's task": (
        native(*FINE["dynamic forks"]["tasks"], outputParameters={"x": "${made_0.output}"}),
        "names no node of this workflow",
    ),
}


@pytest.mark.parametrize(("definition", "wanted"), WARNED.values(), ids=WARNED)
def test_a_doubtful_definition_is_pointed_out(definition: Json, wanted: str) -> None:
    found = lint(definition=definition)
    assert not says(found)
    assert any(wanted in line for line in says(found, "warning")), found
    compiled(definition=definition)
