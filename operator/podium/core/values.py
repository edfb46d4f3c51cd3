"""Everything in a JSON value or a model, one after the other, without recursion: it holds for any depth."""

from collections.abc import Iterable, Iterator
from typing import Any

from pydantic import BaseModel


def every_value(value: Any, path: str = "") -> Iterator[tuple[str, Any, int]]:
    """(path, value, level) of it and all that is in it, in the order of the text; `path` names the whole."""
    todo: list[tuple[str, Any, int]] = [(path, value, 0)]
    while todo:
        where, at, level = todo.pop()
        yield where, at, level
        todo += [(f"{where}{part}", item, level + 1) for part, item in _inside(at)][::-1]


def every_object(value: Any) -> Iterator[dict[str, Any]]:
    """Each object in it, and it itself if it is one."""
    return (at for _, at, _ in every_value(value) if isinstance(at, dict))


def _inside(value: Any) -> Iterable[tuple[str, Any]]:
    if isinstance(value, BaseModel):
        fields = type(value).model_fields
        return [
            (f".{(fields[name].alias if name in fields else None) or name}", item) for name, item in value
        ]
    if isinstance(value, dict):
        return [(f".{key}", item) for key, item in value.items()]
    if isinstance(value, list):
        return [(f"[{index}]", item) for index, item in enumerate(value)]
    return ()
