"""The input of a run: defaults, references to Secrets, and the schema that it must satisfy at its start."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from jsonschema.exceptions import ValidationError, best_match

from podium.api.v1alpha1.workflow_run import InputFrom
from podium.core.json_schema import TooMuch, Unresolvable, find_errors
from podium.ports import Json


class InvalidInput(Exception):
    """The input does not satisfy the schema; the message names the field."""


def resolve_input(
    given: Json | None,
    defaults: Json | None,
    schema: Json | None,
    references: Sequence[InputFrom] = (),
) -> Json:
    """Input with the defaults of the keys left out, and references in place of what is kept elsewhere.

    Null leaves a key out that has a default. Raises InvalidInput, with the field's path. A field that is a
    reference counts as there; whether its value fits the schema only the worker could know, who reads it.
    """
    for number, reference in enumerate(references):
        if reference.to_field in (given or {}):
            raise InvalidInput(
                f"spec.inputFrom[{number}].toField: {reference.to_field!r} is in spec.input too; "
                f"give it there, or by {describe_reference(reference)}, not both"
            )
    fields = {reference.to_field: build_reference(reference) for reference in references}
    defaults = defaults or {}
    said = {key: value for key, value in (given or {}).items() if value is not None or key not in defaults}
    resolved: Json = {**defaults, **said, **fields}
    if schema:
        try:
            errors = [error for error in find_errors(schema, resolved) if _stands(error, fields)]
        except Unresolvable as unresolvable:
            raise InvalidInput(
                f"the Workflow's inputSchema refers to what is not in it: {unresolvable}"
            ) from None
        except TooMuch as much:
            raise InvalidInput(f"the Workflow's inputSchema {much}") from None
        error: Any = best_match(errors)
        while error is not None and error.parent is not None and not _stands(error, fields):
            error = error.parent  # the best match is the deepest one, which may be inside of a reference
        if error is not None:
            raise InvalidInput(f"{_path(list(error.absolute_path))}: {_words(error)}")
    return resolved


def build_reference(reference: InputFrom) -> Json:
    """What Conductor gets in place of the value: Podium's workers resolve it, and nobody else does."""
    kind = "secretKeyRef" if reference.secret_key_ref is not None else "configMapKeyRef"
    ref = reference.secret_key_ref or reference.config_map_key_ref
    assert ref is not None, "the schema of the kind asks for one of the two"
    return {"_type": kind, "name": ref.name, "key": ref.key}


def describe_reference(reference: InputFrom) -> str:
    """`secretKeyRef api/token`: its object and key, in words."""
    built = build_reference(reference)
    return f"{built['_type']} {built['name']}/{built['key']}"


def _stands(error: ValidationError, fields: Json) -> bool:
    """Whether an error is about what is known, not about the inside of a reference."""
    path = list(error.absolute_path)
    if path and str(path[0]) in fields:
        return False
    if not error.context or not fields:
        return True
    # anyOf and the like: one branch whose errors are all about references would do.
    branches: defaultdict[Any, list[ValidationError]] = defaultdict(list)
    for inner in error.context:
        branches[inner.schema_path[0]].append(inner)
    return all(any(_stands(inner, fields) for inner in branch) for branch in branches.values())


def _path(parts: list[Any]) -> str:
    path = "spec.input"
    for part in parts:
        path += f"[{part}]" if isinstance(part, int) else f".{part}"
    return path


def _words(error: ValidationError) -> str:
    text: str = error.message
    # A value can be megabytes; a person needs its beginning.
    return text if len(text) <= 180 else text[:90] + " … " + text[-80:]
