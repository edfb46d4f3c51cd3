"""YAML as kubectl reads it: the answers in these tables are those of sigs.k8s.io/yaml."""

import json
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from core.definitions.shapes import LAW
from podium.core.definitions.kubernetes_yaml import read_value

SCALARS: dict[str, Any] = {
    "y": True, "Yes": True, "on": True, "TRUE": True, "N": False, "off": False, "yEs": "yEs",
    "~": None, "Null": None, "": None,
    "12:30:45": "12:30:45", "1:30.5": "1:30.5", "2026-01-01": "2026-01-01", "=": "=",
    "0644": 420, "0o17": 15, "08": 8, "0x1F": 31, "0b11": 3, "-0b11": -3, "0_7": 7, "1_000": 1000, "+1": 1,
    "-0": 0, "0b": "0b", "0x": "0x", "_1": "_1", "1.2.3": "1.2.3", "1e": "1e",
    "1.5": 1.5, ".5": 0.5, "-.5": -0.5, "5.": 5, "1.0": 1, "1e3": 1000, "1.5e+3": 1500, "1e-1": 0.1,
    "1_0.5": 10.5, "09.5": 9.5, "1e+21": 1e21,
    '"5"': "5", "'on'": "on", "!!str 5": "5", "!!float 5": 5, '!!int "5"': 5,
}  # fmt: skip


@pytest.mark.parametrize(("text", "wanted"), SCALARS.items(), ids=[text or "nothing" for text in SCALARS])
def test_a_scalar(text: str, wanted: Any) -> None:
    found = read_value(f"v: {text}")["v"]
    assert (found, type(found)) == (wanted, type(wanted))


KEYS: dict[str, Any] = {
    "{200: a, other: b}": {"200": "a", "other": "b"},
    "{1: a, true: b, 1.5: c, 1e3: d}": {"1": "a", "true": "b", "1.5": "c", "1000": "d"},
    "{x: 1, y: 2}": {"x": 1, "true": 2},
    '{200: a, "200": b}': {"200": "b"},
    "{2026-01-01: a}": {"2026-01-01": "a"},
    "a: &a {1: x}\nb: {<<: *a, 2: z}": {"a": {"1": "x"}, "b": {"1": "x", "2": "z"}},
    "a: &a 200\nb: {*a : x}": {"a": 200, "b": {"200": "x"}},
    "[{1: [{2: 3}]}]": [{"1": [{"2": 3}]}],
    "": None,
}


@pytest.mark.parametrize(("text", "wanted"), KEYS.items())
def test_keys_are_texts(text: str, wanted: Any) -> None:
    assert read_value(text) == wanted


@pytest.mark.parametrize(
    "text", [".nan", "[-.inf]", "{null: 1}", "{~: 1}", "{[a]: 1}", "{{a: 1}: 1}", "!!binary aGk=", "!x 1"]
)
def test_what_json_does_not_have_is_refused(text: str) -> None:
    with pytest.raises((ValueError, yaml.YAMLError)):
        read_value(text)


@LAW
@given(st.text(st.sampled_from("0123456789_.+-eExXobBafyYnNT:"), min_size=1, max_size=8))
def test_whatever_a_scalar_looks_like_it_is_json(text: str) -> None:
    try:
        found = read_value(f"{{? {text} : [{text}]}}")
    except yaml.YAMLError:
        return
    except ValueError:
        return
    assert json.loads(json.dumps(found, allow_nan=False, sort_keys=True)) == found


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(-1e9, 1e9) | st.text(),
    # YAML has no key of more than 1,024 characters that stands before its colon.
    lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=50), inner),
)


@LAW
@given(JSON)
def test_json_is_read_as_what_it_is(value: Any) -> None:
    assert read_value(json.dumps(value)) == value
