"""Retries, time-outs, limits, the input's schema."""

from typing import Any

import pytest

from core.definitions.shapes import Json, compiled, lint, native, says, simple

FLOW = {"nodes": [{"id": "a", "type": "t"}]}
OURS = {
    "name": "t",
    "retryCount": 3,
    "retryDelaySeconds": 10,
    "retryLogic": "EXPONENTIAL_BACKOFF",
    "responseTimeoutSeconds": 120,
    "timeoutSeconds": 600,
    "timeoutPolicy": "RETRY",
}

SETTINGS: dict[str, tuple[Json, Json]] = {
    "nothing given": ({}, {}),
    "defaults of the workflow": (
        {"taskDefaults": {"retries": 1, "retryDelay": "1m30s", "backoff": "Linear"}},
        {"retryCount": 1, "retryDelaySeconds": 90, "retryLogic": "LINEAR_BACKOFF"},
    ),
    "one type over the defaults": (
        {"taskDefaults": {"retries": 1}, "taskTypes": {"t": {"retries": 5, "backoff": "Fixed"}}},
        {"retryCount": 5, "retryLogic": "FIXED"},
    ),
    "retries can be none": ({"taskDefaults": {"retries": 0}}, {"retryCount": 0}),
    "a short time-out lowers our own silence": (
        {"taskDefaults": {"timeout": "30s"}},
        {"timeoutSeconds": 30, "responseTimeoutSeconds": 30},
    ),
    "a short total lowers both": (
        {"taskDefaults": {"totalTimeout": "1m"}},
        {"totalTimeoutSeconds": 60, "timeoutSeconds": 60, "responseTimeoutSeconds": 60},
    ),
    "no limit": ({"taskDefaults": {"timeout": "0s"}}, {"timeoutSeconds": 0}),
    "the rest": (
        {"taskTypes": {"t": {"maxRetryDelay": "1h", "pollTimeout": "2m", "concurrencyLimit": 4}}},
        {"maxRetryDelaySeconds": 3600, "pollTimeoutSeconds": 120, "concurrentExecLimit": 4},
    ),
}


@pytest.mark.parametrize(("parts", "wanted"), SETTINGS.values(), ids=SETTINGS)
def test_settings_travel_in_the_definition(parts: Json, wanted: Json) -> None:
    made = compiled(flow=FLOW, **parts)
    assert made.definition["tasks"][0]["taskDefinition"] == OURS | wanted
    assert made.task_definitions == (OURS | wanted,)
    assert made.task_types == ("t",)


REFUSED: dict[str, tuple[Json, str]] = {
    "silence longer than the task": (
        {"taskTypes": {"t": {"responseTimeout": "5m", "timeout": "1m"}}},
        "spec.taskTypes.t.responseTimeout: responseTimeout 5m is longer than timeout 1m; give timeout: 5m",
    ),
    "silence longer than our time-out": (
        {"taskDefaults": {"responseTimeout": "15m"}},
        "spec.taskDefaults.responseTimeout: responseTimeout 15m is longer than timeout 600s (which it is if",
    ),
    "a type's time-out below the defaults' silence": (
        {"taskDefaults": {"responseTimeout": "5m"}, "taskTypes": {"t": {"timeout": "1m"}}},
        "spec.taskTypes.t.timeout: timeout 1m is shorter than responseTimeout 5m of taskDefaults",
    ),
    "total below one attempt": (
        {"taskDefaults": {"timeout": "5m", "totalTimeout": "1m"}},
        "spec.taskDefaults.totalTimeout: totalTimeout 1m is shorter than timeout 5m",
    ),
    "no silence at all": (
        {"taskDefaults": {"responseTimeout": "0s"}},
        "responseTimeout must be longer than 0s",
    ),
    "longer than Conductor counts": (
        {"taskDefaults": {"retryDelay": "9999999h"}},
        "longer than Conductor can count",
    ),
    "limits for all types": ({"taskDefaults": {"concurrencyLimit": 1}}, "limits belong to one task type"),
    "a run of no time": ({"timeout": "0s"}, "spec.timeout: must be longer than 0s"),
    "output beside definition": (
        {"flow": None, "definition": native(simple("a")), "output": {"x": 1}},
        "spec.output: output does not go with definition; write definition.outputParameters instead",
    ),
}


@pytest.mark.parametrize(("parts", "wanted"), REFUSED.values(), ids=REFUSED)
def test_settings_that_cannot_be(parts: Json, wanted: str) -> None:
    found = says(lint(**{"flow": FLOW, **parts}))
    assert any(wanted in line for line in found), found


WARNED: dict[str, tuple[Json, str]] = {
    "rounded": ({"taskDefaults": {"retryDelay": "1500ms"}}, "1500ms is rounded up to 2s"),
    "a type that no task has": (
        {"taskTypes": {"tt": {}}},
        "spec.taskTypes.tt: no task of this workflow has this type; did you mean 't'?",
    ),
    "rate limits": (
        {"taskTypes": {"t": {"rateLimit": {"calls": 2, "per": "5s"}}}},
        "spec.taskTypes.t.rateLimit: Conductor ignores rate limits on SQLite, PostgreSQL and MySQL",
    ),
}


@pytest.mark.parametrize(("parts", "wanted"), WARNED.values(), ids=WARNED)
def test_settings_that_are_doubtful(parts: Json, wanted: str) -> None:
    found = lint(flow=FLOW, **parts)
    assert not says(found)
    assert any(wanted in line for line in says(found, "warning")), found


def test_a_type_only_known_at_run_time_can_be_prepared() -> None:
    dynamic = {
        "name": "d",
        "taskReferenceName": "d",
        "type": "DYNAMIC",
        "dynamicTaskNameParam": "task",
        "inputParameters": {"task": "${workflow.input.task}"},
    }
    parts: Json = {"definition": native(dynamic), "taskTypes": {"later": {"retries": 7}}}
    assert not lint(**parts)
    made = compiled(**parts)
    assert [(item["name"], item["retryCount"]) for item in made.task_definitions] == [("later", 7)]


def test_tasks_get_their_settings_wherever_they_stand() -> None:
    inner = native(simple("deep"), name="inner")
    definition = native(
        {
            "name": "loop",
            "taskReferenceName": "loop",
            "type": "DO_WHILE",
            "loopCondition": "$.loop['iteration'] < 2",
            "loopOver": [
                {
                    "name": "sw",
                    "taskReferenceName": "sw",
                    "type": "SWITCH",
                    "evaluatorType": "value-param",
                    "expression": "x",
                    "decisionCases": {"a": [simple("in_case")]},
                    "defaultCase": [simple("in_default", taskDefinition={"retryCount": 9})],
                }
            ],
        },
        {
            "name": "sub",
            "taskReferenceName": "sub",
            "type": "SUB_WORKFLOW",
            "subWorkflowParam": {"name": "inner", "workflowDefinition": inner},
        },
    )
    tasks = compiled(definition=definition).definition["tasks"]
    switch = tasks[0]["loopOver"][0]
    assert switch["decisionCases"]["a"][0]["taskDefinition"]["retryCount"] == 3
    assert switch["defaultCase"][0]["taskDefinition"] == {"name": "exp.task", "retryCount": 9}
    assert tasks[1]["subWorkflowParam"]["workflowDefinition"]["tasks"][0]["taskDefinition"]["retryCount"] == 3
    assert tasks[1]["subWorkflowParam"]["name"] == "inner"


def test_a_run_always_has_a_time_out() -> None:
    def timeout(**parts: Any) -> tuple[int, str]:
        definition = compiled(**parts).definition
        return definition["timeoutSeconds"], definition["timeoutPolicy"]

    native_one = native(simple("a"), timeoutSeconds=60, timeoutPolicy="TIME_OUT_WF")
    assert timeout(flow=FLOW) == (365 * 24 * 3600, "ALERT_ONLY")
    assert timeout(flow=FLOW, timeout="30m") == (1800, "TIME_OUT_WF")
    assert timeout(definition=native_one) == (60, "TIME_OUT_WF")
    assert timeout(definition=native_one, timeout="2m") == (120, "TIME_OUT_WF")
    assert timeout(definition=native(simple("a"))) == (365 * 24 * 3600, "ALERT_ONLY")


SCHEMAS: dict[str, tuple[Json, Json, str]] = {
    "no schema": ({"type": "objekt"}, {}, "spec.inputSchema.type: not a JSON Schema"),
    "a pattern that is none": ({"properties": {"a": {"pattern": "["}}}, {}, "not a JSON Schema"),
    "outside": ({"$ref": "https://example.com/s"}, {}, "leads"),
    "outside, deeper": ({"properties": {"a": {"$ref": "other.json"}}}, {}, "$ref 'other.json' leads outside"),
    "nowhere": ({"$ref": "#/$defs/x"}, {}, "leads nowhere"),
    "nowhere, where the defaults do not come": (
        {"properties": {"a": {"$ref": "#/$defs/missing"}}},
        {},
        "spec.inputSchema.properties.a.$ref: $ref '#/$defs/missing' leads nowhere",
    ),
    "for ever": ({"$ref": "#"}, {}, "leads back to itself for ever"),
    "for ever, where the defaults do not come": (
        {
            "properties": {"a": {"$ref": "#/$defs/a"}},
            "$defs": {"a": {"allOf": [{"$ref": "#/$defs/b"}]}, "b": {"$ref": "#/$defs/a"}},
        },
        {},
        "leads back to itself for ever",
    ),
    "more than anybody can check": (
        {"properties": {f"p{number}": {"type": "string"} for number in range(100_000)}},
        {},
        "spec.inputSchema: takes too many steps to check",
    ),
    "null for a value": (
        {"properties": {"a": {"oneOf": [{"const": None}, {"type": "string"}]}}},
        {},
        "spec.inputSchema.properties.a.oneOf[0].const: null means absent in a manifest; write type: 'null'",
    ),
    "a default of another format": (
        {"properties": {"mail": {"type": "string", "format": "email"}}},
        {"mail": "nope"},
        "spec.inputDefaults.mail: does not satisfy inputSchema: 'nope' is not a 'email'",
    ),
    "a wrong default": (
        {"required": ["a", "b"], "properties": {"b": {"type": "integer"}}},
        {"b": "x"},
        "spec.inputDefaults.b: does not satisfy inputSchema: 'x' is not of type 'integer'",
    ),
    "a default that is not foreseen": (
        {"additionalProperties": False, "properties": {}},
        {"b": 1},
        "spec.inputDefaults: does not satisfy inputSchema",
    ),
}


@pytest.mark.parametrize(("schema", "defaults", "wanted"), SCHEMAS.values(), ids=SCHEMAS)
def test_schemas_that_cannot_be(schema: Json, defaults: Json, wanted: str) -> None:
    found = says(lint(flow=FLOW, inputSchema=schema, inputDefaults=defaults))
    assert any(wanted in line for line in found), found


def test_conditions_on_the_whole_input_wait_for_the_run() -> None:
    small = {"properties": {"mode": {"const": "small"}}}
    schema = {"if": small, "then": {"properties": {"size": {"maximum": 10}}}, "properties": {"size": {}}}
    assert not lint(flow=FLOW, inputSchema=schema, inputDefaults={"size": 100})
    inner = {"properties": {"box": schema}}
    found = says(lint(flow=FLOW, inputSchema=inner, inputDefaults={"box": {"size": 100}}))
    assert len(found) == 1, "a default itself is whole"
    assert "spec.inputDefaults.box.size: does not satisfy inputSchema" in found[0]


def test_a_schema_may_contain_itself_and_give_values_that_look_like_references() -> None:
    tree = {"properties": {"kids": {"items": {"$ref": "#"}}, "ref": {"default": {"$ref": "#/no"}}}}
    assert not lint(flow=FLOW, inputSchema=tree)


def test_a_default_need_not_be_a_whole_input() -> None:
    schema = {
        "type": "object",
        "required": ["a"],
        "minProperties": 2,
        "properties": {"b": {"$ref": "#/$defs/n"}},
    }
    assert not lint(
        flow=FLOW, inputSchema={**schema, "$defs": {"n": {"type": "integer"}}}, inputDefaults={"b": 1}
    )
