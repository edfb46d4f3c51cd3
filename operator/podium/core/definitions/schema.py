"""inputSchema and inputDefaults: are they what they say?"""

from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError, ValidationError
from referencing import Registry
from referencing.exceptions import Unresolvable

from podium.api.v1alpha1.workflow import WorkflowSpec
from podium.core.definitions.findings import Report

# Errors about the object as a whole: the run's own keys are still to come.
_INCOMPLETE = frozenset({"additionalProperties", "unevaluatedProperties", "propertyNames"})


def check_input(spec: WorkflowSpec, report: Report) -> None:
    """Reports a schema that is none, and defaults that could never satisfy it."""
    schema = spec.input_schema
    if schema is None:
        return
    try:
        Draft202012Validator.check_schema(schema, format_checker=Draft202012Validator.FORMAT_CHECKER)
    except SchemaError as error:
        path = "spec.inputSchema" + _path(error.absolute_path)
        report.error(path, f"not a JSON Schema (2020-12): {_short(error.message)}", "see json-schema.org")
        return
    except RecursionError:
        report.error("spec.inputSchema", "nested too deep", "make it flatter")
        return
    # An empty registry: a schema that points to the network must not make anyone fetch it.
    validator = Draft202012Validator(schema, registry=Registry())
    try:
        errors = list(validator.iter_errors(spec.input_defaults or {}))
    except Unresolvable as error:
        report.error(
            "spec.inputSchema", f"$ref {error.ref!r} leads nowhere", "put the schema it means under $defs"
        )
        return
    except RecursionError:
        report.error("spec.inputSchema", "a $ref leads back to itself for ever", "take the loop out")
        return
    for outside in _outside_refs(schema):
        report.error(
            "spec.inputSchema", f"$ref {outside!r} leads outside", "put the schema it means under $defs"
        )
    for error in errors:
        if error.absolute_path or error.validator in _INCOMPLETE:
            report.error(
                "spec.inputDefaults" + _path(error.absolute_path),
                f"does not satisfy inputSchema: {_short(error.message)}",
                "change the default or the schema",
            )


def _outside_refs(schema: Any) -> list[str]:
    """Every $ref that is not inside the schema itself."""
    found: list[str] = []
    todo = [schema]
    while todo:
        at = todo.pop()
        if isinstance(at, dict):
            ref = at.get("$ref")
            if isinstance(ref, str) and not ref.startswith("#") and "$id" not in schema:
                found.append(ref)
            todo.extend(at.values())
        elif isinstance(at, list):
            todo.extend(at)
    return found


def _path(parts: Any) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts)


def _short(text: str) -> str:
    return text if len(text) <= 160 else text[:80] + " … " + text[-70:]


__all__ = ["ValidationError", "check_input"]
