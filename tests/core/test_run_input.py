"""The input of a run: defaults filled in, and refused with the field's path before anything starts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podium.api.v1alpha1.workflow_run import InputFrom
from podium.core.run_input import InvalidInput, resolve_input
from podium.ports import Json

SCHEMA: Json = {
    "type": "object",
    "required": ["size"],
    "properties": {
        "size": {"type": "integer", "minimum": 1},
        "scenes": {"type": "array", "items": {"type": "object", "properties": {"text": {"type": "string"}}}},
        "when": {"type": "string", "format": "date"},
    },
}


@pytest.mark.parametrize(
    ("given_input", "message"),
    [
        (None, "spec.input: 'size' is a required property"),
        ({"size": 0}, "spec.input.size: 0 is less than the minimum of 1"),
        ({"size": "x"}, "spec.input.size: 'x' is not of type 'integer'"),
        ({"size": 1, "scenes": [{}, {"text": 5}]}, "spec.input.scenes[1].text: 5 is not of type 'string'"),
        ({"size": 1, "when": "soon"}, "spec.input.when: 'soon' is not a 'date'"),
    ],
)
def test_refused_with_the_path(given_input: Json | None, message: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        resolve_input(given_input, None, SCHEMA)
    assert str(refused.value) == message


def test_a_huge_value_is_not_repeated_whole() -> None:
    with pytest.raises(InvalidInput) as refused:
        resolve_input({"size": "x" * 1_000_000}, None, SCHEMA)
    assert str(refused.value).startswith("spec.input.size: 'xxx")
    assert str(refused.value).endswith("is not of type 'integer'")
    assert len(str(refused.value)) < 250


def test_defaults_are_checked_like_what_is_given() -> None:
    assert resolve_input({}, {"size": 2}, SCHEMA) == {"size": 2}
    with pytest.raises(InvalidInput):
        resolve_input({}, {"size": 0}, SCHEMA)


objects = st.dictionaries(st.text(max_size=3), st.integers() | st.text(max_size=3), max_size=4)


@given(st.none() | objects, st.none() | objects)
def test_what_is_given_wins_over_defaults_and_nothing_is_added(
    given_input: Json | None, defaults: Json | None
) -> None:
    before = (dict(given_input or {}), dict(defaults or {}))
    resolved = resolve_input(given_input, defaults, None)
    assert resolved == {**before[1], **before[0]}
    assert (given_input or {}, defaults or {}) == before


# --- what is kept elsewhere -------------------------------------------------------------------------


def secret(field: str, key: str = "token") -> InputFrom:
    return InputFrom.model_validate({"secretKeyRef": {"name": "api", "key": key}, "toField": field})


REFERENCE = {"_type": "secretKeyRef", "name": "api", "key": "token"}


def test_a_secret_is_a_reference_in_the_input_and_wins_over_a_default() -> None:
    page = InputFrom.model_validate({"configMapKeyRef": {"name": "t", "key": "p"}, "toField": "page"})
    resolved = resolve_input({"size": 1}, {"token": "default"}, None, [secret("token"), page])
    assert resolved == {
        "size": 1,
        "token": REFERENCE,
        "page": {"_type": "configMapKeyRef", "name": "t", "key": "p"},
    }


def test_a_field_that_is_given_twice_is_refused_and_both_places_are_named() -> None:
    with pytest.raises(
        InvalidInput, match=r"spec.inputFrom\[1\].toField: 'b' is in spec.input too"
    ) as refused:
        resolve_input({"b": 1}, None, None, [secret("a"), secret("b", "key")])
    assert "secretKeyRef api/key" in str(refused.value)


STRICT: Json = {
    "type": "object",
    "required": ["token"],
    "additionalProperties": False,
    "properties": {
        "token": {"type": "string", "minLength": 100},
        "size": {"type": "integer"},
        "login": {"type": "object", "properties": {"token": {"type": "string"}}},
    },
}


@pytest.mark.parametrize(
    ("schema", "given_input", "message"),
    [
        (STRICT, None, None),
        (STRICT, {"size": "x"}, "spec.input.size: 'x' is not of type 'integer'"),
        (STRICT, {"login": {"token": 1}}, "spec.input.login.token: 1 is not of type 'string'"),
        ({**STRICT, "properties": {}}, None, "Additional properties are not allowed"),
        ({**STRICT, "required": ["token", "size"]}, None, "'size' is a required property"),
        ({"anyOf": [STRICT, {"required": ["x"]}]}, None, None),
        ({"anyOf": [{**STRICT, "required": ["y"]}, {"required": ["x"]}]}, None, "spec.input: "),
        ({"allOf": [STRICT]}, None, None),
    ],
)
def test_a_reference_counts_as_there_and_only_what_is_known_is_checked(
    schema: Json, given_input: Json | None, message: str | None
) -> None:
    if message is None:
        assert resolve_input(given_input, None, schema, [secret("token")])["token"] == REFERENCE
        return
    with pytest.raises(InvalidInput) as refused:
        resolve_input(given_input, None, schema, [secret("token")])
    assert message in str(refused.value)


def test_null_leaves_a_key_out_that_has_a_default() -> None:
    schema = {"properties": {"size": {"type": "integer"}, "note": {"type": ["string", "null"]}}}
    assert resolve_input({"size": None, "note": None}, {"size": 1024}, schema) == {"size": 1024, "note": None}
