"""How a task's input reaches a function."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from podium_workers import TaskContext
from podium_workers.runtime.arguments import BadInput, Signature

CONTEXT = TaskContext("t", "w", "kind", "ref", 1, 1, None, Path(), "worker")


class Size(BaseModel):
    width: int
    height: int = 1


@dataclass
class Point:
    x: int


def call(function, data):
    args, kwargs = Signature.of(function).bind(data, CONTEXT)
    return function(*args, **kwargs)


def plain(url: str, width: int = 100):
    return url, width


def rest(a: int, **others: Any):
    return a, others


def nullable(a: int | None, b: str | None = "b"):
    return a, b


def position(a, b=2, /, c=3):
    return a, b, c


def told(context: TaskContext, a=1, **others: Any):
    return context, a, others


def model(size: Size, point: Point):
    return size, point


def anything(input):  # noqa: A002 — as a step of a state machine calls it
    return input


def numbers(values: list[float]):
    return values


@pytest.mark.parametrize(
    ("function", "data", "result"),
    [
        (plain, {"url": "u", "width": 5}, ("u", 5)),
        (plain, {"url": "u"}, ("u", 100)),
        (plain, {"url": "u", "width": None}, ("u", 100)),
        (plain, {"url": "u", "width": "7"}, ("u", 7)),
        (plain, {"url": "u", "unknown": 1}, ("u", 100)),
        (rest, {"a": 1, "b": 2, "c": None}, (1, {"b": 2, "c": None})),
        (nullable, {"a": None}, (None, "b")),
        (position, {"a": 1}, (1, 2, 3)),
        (position, {"a": 1, "c": 9}, (1, 2, 9)),
        (position, {"a": 1, "b": 8, "c": 9}, (1, 8, 9)),
        (told, {"context": "mine", "a": 2, "d": 3}, (CONTEXT, 2, {"d": 3})),
        (model, {"size": {"width": 2}, "point": {"x": 1}}, (Size(width=2), Point(1))),
        (anything, {"input": {"a": [1]}}, {"a": [1]}),
        (anything, {"input": None}, None),
        (numbers, {"values": [1, "2.5"]}, [1.0, 2.5]),
    ],
)
def test_arguments_come_by_name(function, data, result):
    assert call(function, data) == result


@pytest.mark.parametrize(
    ("function", "data", "words"),
    [
        (plain, {}, "input field 'url' is missing; no input was given"),
        (plain, {"width": 1, "uri": 2}, "input field 'url' is missing; given: uri, width"),
        (plain, {"url": None}, "input field 'url': input should be a valid string (wanted str, given null)"),
        (plain, {"url": "u", "width": "wide"}, "input field 'width': input should be a valid integer"),
        (model, {"size": {"width": "x"}, "point": {"x": 1}}, "input field 'size.width': "),
        (numbers, {"values": [1, "s3cret"]}, "input field 'values.1': "),
        (rest, {f"f{n:02}": n for n in range(30)}, "f19 and 10 more"),
    ],
)
def test_what_does_not_fit_is_named_and_values_are_not_told(function, data, words):
    with pytest.raises(BadInput) as caught:
        call(function, data)
    assert words in str(caught.value)
    assert "s3cret" not in str(caught.value)


def stars(*urls): ...


def two(a: TaskContext, b: TaskContext): ...


def lost(a: Nowhere): ...  # noqa: F821


def unserved(a: object.__class__.__subclasshook__): ...


@pytest.mark.parametrize(
    ("function", "words"), [(stars, "*urls"), (two, "two parameters"), (lost, "Nowhere"), (unserved, "JSON")]
)
def test_functions_that_cannot_serve_are_refused(function, words):
    with pytest.raises(TypeError, match=r".*") as caught:
        Signature.of(function)
    assert words in str(caught.value)


def test_a_signature_reads_like_python():
    assert str(Signature.of(plain)) == "url: str, width: int = 100"
    assert str(Signature.of(told)) == "a = 1, **others"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(st.dictionaries(st.text(), JSON))
def test_rest_takes_whatever_there_is(data):
    def everything(**rest: Any):
        return rest

    assert call(everything, data) == data
