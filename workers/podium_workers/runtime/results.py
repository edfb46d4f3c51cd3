"""From what a function returns to a task's outputData."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from podium_workers.runtime.context import Reject


class BadResult(Reject):
    """The function returned what JSON cannot say. The message names the key and the type, never the value."""


def build_output(result: object) -> dict[str, Any]:
    """A dict (or model, or dataclass) is the output itself, None is `{}`, all else `{"result": value}`.

    Raises BadResult.
    """
    if result is None:
        return {}
    try:
        value = _plain(result, "result")
    except RecursionError:
        raise BadResult("result: contains itself, or is nested too deeply for JSON") from None
    return value if isinstance(value, dict) else {"result": value}


def _plain(value: object, path: str) -> Any:
    if value is None or isinstance(value, (bool, str)):
        # A subclass (an enum of strings) becomes the plain thing.
        return str.__str__(value) if isinstance(value, str) else value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise BadResult(f"{path}: {value} is not JSON")
        return float(value)
    if isinstance(value, BaseModel):
        return _plain(value.model_dump(mode="json", by_alias=True), path)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return _plain(fields, path)
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise BadResult(f"{path}: the key {key!r} is {_type(key)}, and JSON has only text as keys")
        return {str.__str__(key): _plain(item, f"{path}.{key}") for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, f"{path}[{index}]") for index, item in enumerate(value)]
    raise BadResult(f"{path}: {_type(value)} is not JSON; return text, numbers, lists or dicts")


def _type(value: object) -> str:
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
