"""inputSchema and inputDefaults: are they what they say?"""

from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from typing import Any

from jsonschema.exceptions import ValidationError, best_match
from referencing import Registry
from referencing.jsonschema import DRAFT202012

from podium.api.v1alpha1.workflow import WorkflowSpec
from podium.core.definitions.findings import Report
from podium.core.json_schema import TooMuch, Unresolvable, find_errors, find_schema_errors

_WHERE = "spec.inputSchema"
# Errors about the object as a whole: the run's own keys are still to come.
_INCOMPLETE = frozenset({"additionalProperties", "unevaluatedProperties", "propertyNames"})
# Whether these hold of the whole input is only known when the run's own keys are there.
_CONDITIONAL = frozenset({"if", "then", "else", "dependentSchemas", "anyOf", "oneOf", "not"})
_VALUES = frozenset({"const", "enum", "default", "examples"})
# Keywords whose schemas are about the same value as the schema that they stand in.
_IN_PLACE = frozenset({"allOf", "anyOf", "oneOf", "not", "if", "then", "else"})


def check_input(spec: WorkflowSpec, report: Report) -> None:
    """Reports a schema that is none or cannot be followed, and defaults that could never satisfy it."""
    schema = spec.input_schema
    if schema is None:
        return
    try:
        wrong = best_match(find_schema_errors(schema))
        if wrong is not None:
            path = _WHERE + _path(wrong.absolute_path)
            report.error(path, f"not a JSON Schema (2020-12): {_short(wrong.message)}", "see json-schema.org")
        elif _check_refs(schema, report):
            _check_nulls(schema, report)
            _check_defaults(spec, schema, report)
    except TooMuch as much:
        report.error(_WHERE, str(much), "make it simpler")


def _check_defaults(spec: WorkflowSpec, schema: Any, report: Report) -> None:
    for wrong in find_errors(schema, spec.input_defaults or {}):
        if (wrong.absolute_path or wrong.validator in _INCOMPLETE) and not _conditional(wrong):
            report.error(
                "spec.inputDefaults" + _path(wrong.absolute_path),
                f"does not satisfy inputSchema: {_short(wrong.message)}",
                "change the default or the schema",
            )


def _conditional(error: ValidationError) -> bool:
    """Whether it depends on a condition on the input as a whole; a default itself is whole."""
    for keyword in error.absolute_schema_path:
        if keyword in ("properties", "patternProperties", "additionalProperties"):
            return False
        if keyword in _CONDITIONAL:
            return True
    return False


def _check_nulls(schema: Any, report: Report) -> None:
    """What Kubernetes and its tools take for absent would be another schema."""
    for path, at in _walk(schema):
        if isinstance(at, dict) and "const" in at and at["const"] is None:
            report.error(f"{_WHERE}{path}.const", "null means absent in a manifest", "write type: 'null'")


# --- references ---------------------------------------------------------------------------------------


def _check_refs(schema: Any, report: Report) -> bool:
    """Whether each $ref leads to somewhere in the schema, and none back to itself."""
    outside = _outside_refs(schema)
    for ref in outside:
        report.error(_WHERE, f"$ref {ref!r} leads outside", "put the schema it means under $defs")
    if outside:
        return False
    resource = DRAFT202012.create_resource(schema)
    resolver = Registry().with_resource("", resource).resolver()
    edges: dict[int, set[int]] = {}
    for path, at in _walk(schema):
        if not isinstance(at, dict):
            continue
        try:
            edges[id(at)] = {id(inner) for inner in _in_place(at, resolver)}
        except Unresolvable:
            report.error(
                f"{_WHERE}{path}.$ref",
                f"$ref {at['$ref']!r} leads nowhere",
                "put the schema it means under $defs",
            )
            return False
    try:
        TopologicalSorter(edges).prepare()
    except CycleError:
        report.error(_WHERE, "a $ref leads back to itself for ever", "take the loop out")
        return False
    return True


def _in_place(schema: dict[str, Any], resolver: Any) -> Iterator[Any]:
    """The schemas that the same value is checked against."""
    ref = schema.get("$ref")
    # Below an $id of its own a reference starts from there: left to the check of a run.
    if isinstance(ref, str) and ref.startswith("#"):
        yield resolver.lookup(ref).contents
    for keyword in _IN_PLACE & schema.keys():
        inner = schema[keyword]
        yield from inner if isinstance(inner, list) else [inner]
    if isinstance(inner := schema.get("dependentSchemas"), dict):
        yield from inner.values()


def _walk(schema: Any) -> Iterator[tuple[str, Any]]:
    """(path, value) of everything in it but the values that it gives."""
    todo = [("", schema)]
    while todo:
        path, at = todo.pop()
        yield path, at
        if isinstance(at, dict):
            todo.extend((f"{path}.{key}", value) for key, value in at.items() if key not in _VALUES)
        elif isinstance(at, list):
            todo.extend((f"{path}[{number}]", value) for number, value in enumerate(at))


def _outside_refs(schema: Any) -> list[str]:
    """Every $ref that is not inside the schema itself."""
    refs: list[str] = []
    ids: set[str] = set()
    for _, at in _walk(schema):
        if isinstance(at, dict):
            refs += [at[key] for key in ("$ref", "$dynamicRef") if isinstance(at.get(key), str)]
            ids.add(str(at.get("$id")))
    return sorted(ref for ref in refs if not ref.startswith("#") and ref.partition("#")[0] not in ids)


def _path(parts: Any) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts)


def _short(text: str) -> str:
    return text if len(text) <= 160 else text[:80] + " … " + text[-70:]
