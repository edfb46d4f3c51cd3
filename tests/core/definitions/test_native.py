"""The form `definition`: what passes, what Conductor would have swallowed in silence."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.definitions.shapes import LAW, Json, all_tasks, compiled, lint, native, says, simple, simulate


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


def forked(*branches: list[Json]) -> Json:
    return FORK | {"forkTasks": list(branches)}


def join(ref: str, *others: str) -> Json:
    return system("JOIN", ref, joinOn=list(others))


def switch(*tasks: Json) -> Json:
    case = {"evaluatorType": "value-param", "expression": "x", "decisionCases": {"x": list(tasks)}}
    return system("SWITCH", "switch", inputParameters={"x": "${workflow.input.x}"}, **case)


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
    "a branch that waits for another one, and one that nobody waits for": native(
        forked(
            [simple("a"), system("NOOP", "a_done")],
            [join("j1", "a_done"), system("NOOP", "b_done")],
            [join("j2", "later_done"), system("NOOP", "late")],
        ),
        join("join", "a_done", "b_done"),
        simple("later"),
        system("NOOP", "later_done"),
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
    "a join on a later task": (
        native(FORK, JOIN | {"joinOn": ["a", "later"]}, simple("later")),
        "joinOn[1]: 'later' runs after this JOIN, which would wait for ever; name tasks of the branches",
    ),
    "a join on a task inside a later one": (
        native(FORK, JOIN | {"joinOn": ["body"]}, LOOP),
        "joinOn[0]: 'body' runs after this JOIN",
    ),
    "a join in a case on a task behind the switch": (
        native(switch(FORK, JOIN | {"joinOn": ["later"]}), simple("later")),
        "decisionCases.x[1].joinOn[0]: 'later' runs after this JOIN",
    ),
    "a join on a later task of the same round": (
        native(LOOP | {"loopOver": [FORK, JOIN | {"joinOn": ["body"]}, simple("body")]}),
        "loopOver[1].joinOn[0]: 'body' runs after this JOIN",
    ),
    "joins in branches on each other's later tasks": (
        native(forked([join("j1", "d"), simple("c")], [join("j2", "c"), simple("d")]), join("j", "c")),
        "forkTasks[0][0].joinOn: 'j1' and 'j2' wait for each other, for ever; take one of the tasks out",
    ),
    "joins in branches on each other, through a loop": (
        native(
            forked([LOOP | {"loopOver": [join("j1", "d")]}, simple("c")], [join("j2", "c"), simple("d")]),
            join("j", "c"),
        ),
        "'j1' and 'j2' wait for each other",
    ),
    "a join on the loop around it": (
        native(LOOP | {"loopOver": [forked([simple("a")]), join("j", "loop")]}),
        "loopOver[1].joinOn: 'j' waits for itself, for ever",
    ),
    "a join on what waits for it": (
        native(forked([join("j1", "join"), simple("a")], [simple("b")]), JOIN),
        "'j1' and 'join' wait for each other",
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


@st.composite
def branches_with_joins(draw: st.DrawFn) -> list[Json]:
    """Forks in forks, and JOINs anywhere that wait for anything."""
    refs: list[str] = []

    def named(kind: str) -> Json:
        refs.append(f"{kind.lower()}{len(refs)}")
        return system(kind, refs[-1]) if kind != "SIMPLE" else simple(refs[-1])

    def fill(levels: int, least: int) -> list[Json]:
        tasks: list[Json] = []
        for kind in draw(
            st.lists(st.sampled_from(["SIMPLE", "JOIN", "FORK_JOIN"]), min_size=least, max_size=3)
        ):
            tasks.append(named(kind if levels else "SIMPLE"))
            if levels and kind == "FORK_JOIN":
                tasks[-1]["forkTasks"] = [fill(levels - 1, 1) for _ in range(draw(st.integers(1, 2)))]
                tasks.append(named("JOIN"))
        return tasks

    tasks = fill(2, 1)
    known = [ref for ref in refs if not ref.startswith("fork")]
    for task in all_tasks(tasks):
        if task["type"] == "JOIN":
            others = [ref for ref in known if ref != task["taskReferenceName"]]
            task["joinOn"] = (
                draw(st.lists(st.sampled_from(others), max_size=2, unique=True)) if others else []
            )
    return tasks


@LAW
@given(branches_with_joins())
def test_joins_are_refused_exactly_if_the_run_would_hang(tasks: list[Json]) -> None:
    try:
        simulate(tasks, min)
        hangs = False
    except AssertionError:
        hangs = True
    assert bool(says(lint(definition=native(*tasks)))) == hangs


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
