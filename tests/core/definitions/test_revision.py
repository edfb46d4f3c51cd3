"""Hashes and drift: what makes a new version, and what does not."""

import copy
from typing import Any

import pytest

from core.definitions.shapes import Json, compiled, native, simple
from podium.core.definitions import Rules, hash_definition, same_definition, used_settings

FLOW: Json = {"nodes": [{"id": "a", "type": "t", "config": {"x": 1}}, {"id": "b", "type": "t"}]}

SAME: dict[str, tuple[Json, Json]] = {
    "nulls": (
        {"flow": FLOW},
        {
            "flow": {"nodes": [{**FLOW["nodes"][0], "config": {"x": 1, "y": None}}, FLOW["nodes"][1]]},
            "timeout": None,
        },
    ),
    "defaults": (
        {"flow": FLOW},
        {"flow": FLOW, "suspend": False, "revisionHistoryLimit": 10, "deletionPolicy": "Delete"},
    ),
    "what is no part of the definition": (
        {"flow": FLOW},
        {"flow": FLOW, "suspend": True, "revisionHistoryLimit": 3},
    ),
    "an editor's own keys": (
        {"flow": FLOW},
        {"flow": {"workflowName": "x", "nodes": [n | {"position": {"x": 3}} for n in FLOW["nodes"]]}},
    ),
}
OTHER: dict[str, Json] = {
    "config": {"flow": {"nodes": [{"id": "a", "type": "t", "config": {"x": 2}}, {"id": "b", "type": "t"}]}},
    "a number that is true": {
        "flow": {"nodes": [{"id": "a", "type": "t", "config": {"x": True}}, {"id": "b", "type": "t"}]}
    },
    "order of a flow": {"flow": {"nodes": FLOW["nodes"][::-1]}},
    "schema": {"flow": FLOW, "inputSchema": {"type": "object"}},
    "input defaults": {"flow": FLOW, "inputDefaults": {"x": 1}},
    "timeout": {"flow": FLOW, "timeout": "1h"},
    "retries": {"flow": FLOW, "taskDefaults": {"retries": 4}},
    "output": {"flow": FLOW, "output": {"x": 1}},
    "description": {"flow": FLOW, "description": "x"},
    "failure workflow": {"flow": FLOW, "failureWorkflow": "x"},
}


@pytest.mark.parametrize(("one", "other"), SAME.values(), ids=SAME)
def test_the_same_meaning_has_the_same_hash(one: Json, other: Json) -> None:
    left, right = compiled(**one), compiled(**other)
    assert left.hash == right.hash
    assert same_definition(left.definition, right.definition)
    assert left.spec_hash == right.spec_hash


@pytest.mark.parametrize("other", OTHER.values(), ids=OTHER)
def test_another_meaning_has_another_hash(other: Json) -> None:
    left, right = compiled(flow=FLOW), compiled(**other)
    assert left.hash != right.hash
    assert left.spec_hash != right.spec_hash
    assert not same_definition(left.definition, right.definition)


OTHERS: dict[str, Json] = {
    "a failure workflow": {"flow": FLOW, "failureWorkflow": "notify"},
    "one of a definition": {"definition": native(simple("a"), failureWorkflow="notify")},
    "a sub-workflow": {
        "definition": native(simple("s", type="SUB_WORKFLOW", subWorkflowParam={"name": "notify"}))
    },
    "one inside of an inline definition": {
        "definition": native(
            simple(
                "s",
                type="SUB_WORKFLOW",
                subWorkflowParam={
                    "name": "in",
                    "workflowDefinition": native(simple("a"), failureWorkflow="notify"),
                },
            )
        )
    },
    "a workflow that is started": {
        "definition": native(
            simple("s", type="START_WORKFLOW", inputParameters={"startWorkflow": {"name": "notify"}})
        )
    },
}


@pytest.mark.parametrize("parts", OTHERS.values(), ids=OTHERS)
def test_settings_that_change_what_a_name_means_make_another_version(parts: Json) -> None:
    """A newer compiler keeps what its manifest says; other settings do not."""
    here, outside = compiled(**parts), compiled(Rules(allowed_names=frozenset({"notify"})), **parts)
    assert here.hash != outside.hash
    assert here.spec_hash != outside.spec_hash
    assert compiled(Rules(allowed_names=frozenset({"x"})), **parts).spec_hash == here.spec_hash


def test_the_metadata_says_what_is_known_nowhere_else() -> None:
    made = compiled(
        flow={"nodes": [{"id": "a-1", "type": "t"}]}, inputSchema={"type": "object"}, inputDefaults={"x": 1}
    )
    assert made.definition["metadata"] == {
        "podium": {
            "nodes": {"a_1": "a-1"},
            "inputSchema": {"type": "object"},
            "inputDefaults": {"x": 1},
            "hash": made.hash,
            "specHash": made.spec_hash,
        }
    }
    assert len(made.hash) == len(made.spec_hash) == 16
    assert "version" not in made.definition


def test_defaults_are_a_template_too_and_a_template_is_defaults() -> None:
    """Conductor fills in the template where it starts runs itself, Podium the defaults before it checks."""
    made = compiled(
        definition=native(simple("a"), inputTemplate={"x": 1, "y": 1, "z": {"deep": 1}}),
        inputDefaults={"y": 2, "z": None, "w": 3},
    ).definition
    assert made["inputTemplate"] == {"x": 1, "y": 2, "z": {"deep": 1}, "w": 3}
    assert made["metadata"]["podium"]["inputDefaults"] == made["inputTemplate"]
    assert compiled(flow=FLOW, inputDefaults={"x": 1}).definition["inputTemplate"] == {"x": 1}
    assert "inputTemplate" not in compiled(flow=FLOW, inputDefaults={}).definition


def as_conductor_gives_it(definition: Json) -> Json:
    """As GET answers: with what the server fills in."""

    def fill(task: Json) -> Json:
        return {"optional": False, "startDelay": 0, "joinOn": [], "loopOver": [], "metadata": {}, **task}

    stored: Json = copy.deepcopy(definition)
    stored["tasks"] = [fill(task) for task in stored["tasks"]]
    stored["tasks"][0]["taskDefinition"] |= {"inputKeys": [], "taskStatusListenerEnabled": True}
    return {"createTime": 0, "updateTime": 1_700_000_000_000, "schemaVersion": 2, "variables": {}, **stored}


EDITS: dict[str, Any] = {
    "a task's input": lambda d: d["tasks"][0]["inputParameters"].update(x=2),
    "1 became true": lambda d: d["tasks"][0]["inputParameters"].update(x=True),
    "a task more": lambda d: d["tasks"].append(simple("c")),
    "a task less": lambda d: d["tasks"].pop(),
    "retries": lambda d: d["tasks"][0]["taskDefinition"].update(retryCount=9),
    "a default changed": lambda d: d["tasks"][0].update(optional=True),
    "timeout": lambda d: d.update(timeoutSeconds=5),
    "an owner's mail": lambda d: d.update(ownerEmail="x@y.z"),
    "the map of ids": lambda d: d["metadata"]["podium"]["nodes"].update(a="z"),
    "the hash": lambda d: d["metadata"]["podium"].update(hash="0"),
    "metadata": lambda d: d["metadata"].update(more=1),
    "not restartable": lambda d: d.update(restartable=False),
}


def test_what_conductor_fills_in_is_no_drift() -> None:
    made = compiled(flow=FLOW)
    stored = as_conductor_gives_it(made.definition)
    stored["metadata"]["podium"]["owner"] = "c/n/w"
    assert same_definition(made.definition, stored)
    assert same_definition({**made.definition, "version": 3}, {**stored, "version": 3})
    assert not same_definition({**made.definition, "version": 3}, {**stored, "version": 4})
    assert hash_definition(stored) == made.hash


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
def test_every_edit_is_drift(edit: Any) -> None:
    made = compiled(flow=FLOW)
    stored = as_conductor_gives_it(made.definition)
    edit(stored)
    assert not same_definition(made.definition, stored)


def test_keys_that_conductor_drops_make_no_new_version() -> None:
    one = compiled(definition=native(simple("a")))
    other = compiled(definition=native(simple("a", note="x"), comment="y"))
    assert one.hash == other.hash


def test_a_hint_that_a_server_drops_is_no_drift_but_another_version() -> None:
    """3.21 does not know `joinMode`: its joins are slower, and the definition is the same."""
    join = {"name": "join", "taskReferenceName": "j", "type": "JOIN", "joinOn": ["a"]}
    ours = {"name": "w", "tasks": [{**join, "joinMode": "SYNC"}]}
    theirs = {"name": "w", "tasks": [join]}
    assert same_definition(ours, theirs)
    assert used_settings(ours) == used_settings(theirs)
    assert hash_definition(ours) != hash_definition(theirs)
