"""JSON Schema (2020-12) with an end: whatever a schema or a document says, checking it takes a second or two.

Anybody in any namespace may write both, and all of them share one operator: a pattern that backtracks,
references that double, or a list of thousands of objects that must differ would hold up everybody.
"""

import json
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import attrs
import regex
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError
from jsonschema.validators import extend
from referencing import Registry
from referencing.exceptions import Unresolvable

from podium.core.values import every_object

__all__ = ["TooMuch", "Unresolvable", "find_errors", "find_schema_errors"]

# About a second on a machine of 2020.
_STEPS = 300_000
# All searches of one check together.
_SECONDS_OF_PATTERNS = 0.5
# Comparing with one item of a list costs a fraction of a step, following a reference several.
_ITEMS_IN_A_STEP = 32
_STEPS_OF_A_REFERENCE = 3
Keyword = Callable[[Any, Any, Any, Any], Iterator[ValidationError] | None]


class TooMuch(Exception):
    """It cannot be checked; the message says why, in words that follow the path of the schema."""


@dataclass
class _Allowance:
    steps: int
    seconds: float

    def take(self, steps: int) -> None:
        self.steps -= steps
        if self.steps < 0:
            raise TooMuch("takes too many steps to check")

    def search(self, pattern: str, text: str) -> bool:
        if self.seconds <= 0:
            raise TooMuch(f"the pattern {pattern!r} takes too long")
        begun = time.monotonic()
        try:
            return regex.search(pattern, text, timeout=self.seconds) is not None
        except TimeoutError:
            raise TooMuch(f"the pattern {pattern!r} takes too long") from None
        except regex.error as error:
            raise TooMuch(f"the pattern {pattern!r} is none: {error}") from None
        finally:
            self.seconds -= time.monotonic() - begun


_allowance: ContextVar[_Allowance] = ContextVar("_allowance")


def find_errors(schema: Any, value: Any) -> list[ValidationError]:
    """What of a value does not satisfy a schema, formats included.

    Raises TooMuch; Unresolvable for a $ref that leads nowhere or outside: nothing is fetched.
    """
    used = {key for at in every_object(schema) for key in at}
    if used >= {"unevaluatedProperties", "patternProperties"}:
        # The library searches with these patterns out of our reach.
        raise TooMuch("has unevaluatedProperties beside patternProperties: use additionalProperties")
    return _check(_Bounded(schema, format_checker=_FORMATS, registry=Registry()), value)


def find_schema_errors(schema: Any) -> list[ValidationError]:
    """Why something is no schema. Raises TooMuch."""
    return _check(_Bounded(_Bounded.META_SCHEMA, format_checker=_FORMATS), schema)


def _check(validator: Any, value: Any) -> list[ValidationError]:
    token = _allowance.set(_Allowance(_STEPS, _SECONDS_OF_PATTERNS))
    try:
        return list(validator.iter_errors(value))
    except RecursionError:
        raise TooMuch("is nested too deep, or a $ref leads back to itself") from None
    finally:
        _allowance.reset(token)


# --- the keywords that could take for ever ------------------------------------------------------------


def _pattern(validator: Any, pattern: str, instance: Any, _schema: Any) -> Iterator[ValidationError]:
    if validator.is_type(instance, "string") and not _allowance.get().search(pattern, instance):
        yield ValidationError(f"{instance!r} does not match {pattern!r}")


def _pattern_properties(
    validator: Any, patterns: Any, instance: Any, _schema: Any
) -> Iterator[ValidationError]:
    if not validator.is_type(instance, "object"):
        return
    for pattern, inner in patterns.items():
        for key, value in instance.items():
            if _allowance.get().search(pattern, key):
                yield from validator.descend(value, inner, path=key, schema_path=pattern)


def _additional_properties(
    validator: Any, inner: Any, instance: Any, schema: Any
) -> Iterator[ValidationError] | None:
    patterns = schema.get("patternProperties")
    if patterns and validator.is_type(instance, "object"):
        search = _allowance.get().search
        instance = {
            key: value
            for key, value in instance.items()
            if not any(search(pattern, key) for pattern in patterns)
        }
        schema = {key: value for key, value in schema.items() if key != "patternProperties"}
    return _STOCK["additionalProperties"](validator, inner, instance, schema)


def _unique_items(validator: Any, wanted: Any, instance: Any, _schema: Any) -> Iterator[ValidationError]:
    if not wanted or not validator.is_type(instance, "array"):
        return
    if len({json.dumps(_one_form(item), sort_keys=True) for item in instance}) < len(instance):
        yield ValidationError(f"{instance!r} has non-unique elements")


def _one_form(value: Any) -> Any:
    """1 and 1.0 are the same number."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [_one_form(item) for item in value]
    if isinstance(value, dict):
        return {key: _one_form(item) for key, item in value.items()}
    return value


def _counted(name: str, keyword: Keyword) -> Keyword:
    steps = _STEPS_OF_A_REFERENCE if name in ("$ref", "$dynamicRef") else 1

    def check(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[ValidationError] | None:
        items = len(value) // _ITEMS_IN_A_STEP if isinstance(value, list | dict) else 0
        _allowance.get().take(steps + items)
        return keyword(validator, value, instance, schema)

    return check


def _evolve(validator: Any, **changes: Any) -> Any:
    """The stock one goes over to the stock validator where a schema says $schema."""
    return attrs.evolve(validator, **changes)


_STOCK: dict[str, Keyword] = dict(Draft202012Validator.VALIDATORS)
_OWN: dict[str, Keyword] = {
    "pattern": _pattern,
    "patternProperties": _pattern_properties,
    "additionalProperties": _additional_properties,
    "uniqueItems": _unique_items,
}
_FORMATS = Draft202012Validator.FORMAT_CHECKER
_Bounded: Any = extend(  # type: ignore[no-untyped-call]
    Draft202012Validator, {name: _counted(name, check) for name, check in (_STOCK | _OWN).items()}
)
_Bounded.evolve = _evolve
