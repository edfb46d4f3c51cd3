"""Functions that turn data into other data."""

from __future__ import annotations

import string
from typing import Any

from podium_workers.functions.shelf import task
from podium_workers.runtime.context import Reject


@task("echo")
def echo(**rest: Any) -> dict[str, Any]:
    """Returns its input."""
    return rest


@task("concat")
def concat(parts: list[Any], separator: str = "") -> str:
    """The parts as one text, with `separator` between them."""
    return separator.join("" if part is None else str(part) for part in parts)


@task("sum_numbers")
def sum_numbers(numbers: list[float]) -> dict[str, Any]:
    """Sum, count and mean of the numbers."""
    total = sum(numbers)
    return {"sum": total, "count": len(numbers), "mean": total / len(numbers) if numbers else None}


@task("transform")
def transform(
    record: dict[str, Any],
    pick: list[str] | None = None,
    rename: dict[str, str] | None = None,
    uppercase: list[str] | None = None,
    template: dict[str, str] | None = None,
) -> dict[str, Any]:
    """Picks, renames, puts in capitals and adds (from `$field` templates) fields of a record.

    In this order; so `uppercase` and `template` use the new names. A missing field ends the task for good.
    """
    result = {name: _field(record, name) for name in pick} if pick is not None else dict(record)
    for old, new in (rename or {}).items():
        value = _field(result, old)
        del result[old]
        result[new] = value
    for name in uppercase or []:
        result[name] = str(_field(result, name)).upper()
    for name, text in (template or {}).items():
        try:
            result[name] = string.Template(text).substitute(result)
        except KeyError as error:
            raise Reject(f"template {name!r}: no field {error.args[0]!r} in the record") from None
        except ValueError as error:
            raise Reject(f"template {name!r}: {error}") from None
    return {"record": result}


def _field(record: dict[str, Any], name: str) -> Any:
    if name not in record:
        raise Reject(f"no field {name!r} in the record; it has {', '.join(sorted(record)) or 'none'}")
    return record[name]
