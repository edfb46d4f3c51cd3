"""inputSchema and inputDefaults: are they what they say?"""

from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError
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
    for wrong in errors:
        if wrong.absolute_path or wrong.validator in _INCOMPLETE:
            report.error(
                "spec.inputDefaults" + _path(wrong.absolute_path),
                f"does not satisfy inputSchema: {_short(wrong.message)}",
                "change the default or the schema",
            )


def _outside_refs(schema: Any) -> list[str]:
    """Every $ref that is not inside the schema itself."""
    refs: list[str] = []
    ids: set[str] = set()
    todo = [schema]
    while todo:
        at = todo.pop()
        if isinstance(at, dict):
            refs += [at[key] for key in ("$ref", "$dynamicRef") if isinstance(at.get(key), str)]
            ids.add(str(at.get("$id")))
            todo.extend(at.values())
        elif isinstance(at, list):
            todo.extend(at)
    return sorted(ref for ref in refs if not ref.startswith("#") and ref.partition("#")[0] not in ids)


def _path(parts: Any) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts)


def _short(text: str) -> str:
    return text if len(text) <= 160 else text[:80] + " … " + text[-70:]
