"""The input of a run: defaults, and the schema it must satisfy before anything starts."""

from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError, best_match
from referencing import Registry
from referencing.exceptions import Unresolvable

from podium.ports import Json


class InvalidInput(Exception):
    """The input does not satisfy the schema; the message names the field."""


def resolve_input(given: Json | None, defaults: Json | None, schema: Json | None) -> Json:
    """Input with the defaults of the keys left out. Raises InvalidInput, with the field's path."""
    resolved: Json = {**(defaults or {}), **(given or {})}
    if schema:
        # A registry of its own: the default one would fetch a remote $ref over the network.
        validator = Draft202012Validator(
            schema, format_checker=Draft202012Validator.FORMAT_CHECKER, registry=Registry()
        )
        try:
            error: ValidationError | None = best_match(validator.iter_errors(resolved))
        except Unresolvable as unresolvable:
            raise InvalidInput(
                f"the Workflow's inputSchema refers to what is not in it: {unresolvable}"
            ) from None
        if error is not None:
            raise InvalidInput(f"{_path(list(error.absolute_path))}: {_words(error)}")
    return resolved


def _path(parts: list[Any]) -> str:
    path = "spec.input"
    for part in parts:
        path += f"[{part}]" if isinstance(part, int) else f".{part}"
    return path


def _words(error: ValidationError) -> str:
    text: str = error.message
    # A value can be megabytes; a person needs its beginning.
    return text if len(text) <= 180 else text[:90] + " … " + text[-80:]
