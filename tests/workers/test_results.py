"""How what a function returns becomes the task's output."""

import enum
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from podium_workers.runtime.redaction import find_secrets, redact
from podium_workers.runtime.results import BadResult, build_output

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


class Colour(enum.StrEnum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


@dataclass
class Point:
    x: int
    name: str | None = None


class Picture(BaseModel):
    image_url: str = Field(alias="imageUrl")
    taken: datetime = datetime(2026, 1, 2, tzinfo=UTC)


@pytest.mark.parametrize(
    ("result", "output"),
    [
        (None, {}),
        ({"a": 1}, {"a": 1}),
        (3, {"result": 3}),
        ([1, (2, 3)], {"result": [1, [2, 3]]}),
        ("text", {"result": "text"}),
        (False, {"result": False}),
        (Point(1), {"x": 1, "name": None}),
        ([Point(1, "p")], {"result": [{"x": 1, "name": "p"}]}),
        (Picture(imageUrl="u"), {"imageUrl": "u", "taken": "2026-01-02T00:00:00Z"}),
        ({"colour": Colour.RED, "level": Level.HIGH}, {"colour": "red", "level": 3}),
    ],
)
def test_results_become_json(result, output):
    assert build_output(result) == output
    assert json.loads(json.dumps(build_output(result))) == output


def circle():
    ring: list[object] = []
    ring.append(ring)
    return ring


@pytest.mark.parametrize(
    ("result", "words"),
    [
        ({"files": [{"path": Path("x")}]}, "result.files[0].path: pathlib."),
        ({"when": datetime(2026, 1, 1, tzinfo=UTC)}, "result.when: datetime.datetime is not JSON"),
        ({1: "a"}, "result: the key 1 is int"),
        ({"a": float("nan")}, "result.a: nan is not JSON"),
        ({"a": {1, 2}}, "result.a: set is not JSON"),
        (b"x", "result: bytes is not JSON"),
        (circle(), "contains itself"),
    ],
)
def test_what_is_not_json_is_named(result, words):
    with pytest.raises(BadResult) as caught:
        build_output(result)
    assert words in str(caught.value)


@given(JSON)
def test_json_stays_as_it_is(value):
    output = build_output(value)
    expected = {} if value is None else value if isinstance(value, dict) else {"result": value}
    assert json.dumps(output) == json.dumps(expected)


@given(st.text(alphabet=st.characters(codec="ascii", categories=["L", "N"]), min_size=4), JSON)
def test_a_secret_of_the_input_is_in_no_message(secret, other):
    data = {"other": other, "login": {"apiKey": secret, "hosts": [{"password": [secret]}]}}
    said = redact(f"cannot use {secret}!", find_secrets(data))
    assert said == "cannot use ***!" or secret in "cannot use ***!"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("GET https://me:pw@host/x failed", "GET https://***@host/x failed"),
        ("Authorization: Bearer abcdef.ghijk", "Authorization: Bearer ***"),
        ("nothing secret", "nothing secret"),
    ],
)
def test_credentials_are_seen_by_their_form(text, shown):
    assert redact(text, []) == shown
