"""Whatever a schema or a document says, checking it has an end; otherwise it is what the library says."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from podium.core.json_schema import TooMuch, find_errors, find_schema_errors
from podium.core.run_input import InvalidInput, resolve_input

DOUBLING: dict[str, Any] = {
    "$ref": "#/$defs/d0",
    "$defs": {f"d{level}": {"allOf": [{"$ref": f"#/$defs/d{level + 1}"}] * 2} for level in range(40)}
    | {"d40": {}},
}
OWN = {"$schema": "https://json-schema.org/draft/2020-12/schema", "$ref": "#/$defs/d0"}
LOOP = {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}}
BACKTRACKING = "^(a|aa)+$"
AS = "a" * 80 + "!"


@pytest.mark.parametrize(
    ("schema", "value", "words"),
    [
        (DOUBLING, 1, "takes too many steps"),
        (LOOP, 1, "leads back to itself"),
        ({"pattern": BACKTRACKING}, AS, "takes too long"),
        ({"patternProperties": {BACKTRACKING: {}}}, {AS: 1}, "takes too long"),
        ({"patternProperties": {BACKTRACKING: {}}, "additionalProperties": False}, {AS: 1}, "takes too long"),
        ({"items": {"pattern": BACKTRACKING}}, [AS] * 1000, "takes too long"),
        (
            {"$ref": "#/$defs/own", "$defs": {**DOUBLING["$defs"], "own": OWN}},
            1,
            "takes too many steps",
        ),
        ({"items": {"type": "integer"}}, [1] * 1_000_000, "takes too many steps"),
        ({"items": {"enum": [str(n) for n in range(50_000)]}}, ["x"] * 1000, "takes too many steps"),
        (
            {"patternProperties": {"a": {}}, "unevaluatedProperties": False},
            {"b": 1},
            "unevaluatedProperties beside patternProperties",
        ),
    ],
)
def test_what_would_take_for_ever_is_given_up(schema: Any, value: Any, words: str) -> None:
    with pytest.raises(TooMuch, match=words):
        find_errors(schema, value)
    with pytest.raises(InvalidInput, match=f"the Workflow's inputSchema .*{words}"):
        resolve_input({"x": value}, None, {"properties": {"x": schema}, "$defs": schema.get("$defs", {})})


class Watched(dict[str, int]):
    """An object that counts how often it is measured, as a comparison begins with that."""

    looks = 0

    def __len__(self) -> int:
        Watched.looks += 1
        return super().__len__()


def test_thousands_of_objects_that_must_differ_are_not_compared_each_with_each() -> None:
    Watched.looks = 0
    assert find_errors({"uniqueItems": True}, [Watched(n=number) for number in range(1000)]) == []
    assert Watched.looks <= 10 * 1000


def test_a_schema_that_takes_for_ever_to_read_is_given_up() -> None:
    huge = {"properties": {f"p{number}": {"type": "string"} for number in range(100_000)}}
    with pytest.raises(TooMuch):
        find_schema_errors(huge)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.sampled_from([1.0, 2.5])
    | st.sampled_from(["", "a", "b1"]),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["a", "b", "x1"]), inner, max_size=3)
    ),
    max_leaves=8,
)
LEAVES = st.sampled_from(
    [
        {},
        {"type": "integer"},
        {"pattern": "^a"},
        {"uniqueItems": True},
        {"const": 1},
        {"enum": ["a", 2]},
        {"format": "email"},
        {"required": ["a"]},
    ]
)
SCHEMAS = st.recursive(
    LEAVES,
    lambda inner: st.fixed_dictionaries(
        {},
        optional={
            "properties": st.dictionaries(st.sampled_from(["a", "b"]), inner, max_size=2),
            "patternProperties": st.dictionaries(st.sampled_from(["^x", "1$"]), inner, max_size=2),
            "additionalProperties": inner | st.booleans(),
            "items": inner,
            "anyOf": st.lists(inner, min_size=1, max_size=2),
            "not": inner,
            "if": inner,
            "then": inner,
        },
    ),
    max_leaves=6,
)


@given(SCHEMAS, JSON)
def test_otherwise_it_says_what_the_library_says(schema: Any, value: Any) -> None:
    stock = Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER)
    wanted = sorted((list(error.absolute_path), str(error.validator)) for error in stock.iter_errors(value))
    assert sorted((list(e.absolute_path), str(e.validator)) for e in find_errors(schema, value)) == wanted
