"""JSON schema as pydantic writes it → the structural schema that Kubernetes wants.

A closed world. Each node is resolved ($ref, null unions), then every key of it has to be one
that its type knows; any other stops the build, because the API server would refuse it later or,
worse, prune what a user wrote.
"""

from collections.abc import Mapping
from typing import Any

Schema = dict[str, Any]

_COMMON = ("description", "nullable", "default", "x-kubernetes-validations")
_KEYS: Mapping[str, tuple[str, ...]] = {
    "string": ("enum", "format", "minLength", "maxLength", "pattern"),
    "integer": ("enum", "format", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
    "number": ("enum", "format", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
    "boolean": ("enum",),
    "array": ("items", "minItems", "maxItems", "x-kubernetes-list-type", "x-kubernetes-list-map-keys"),
    "object": (
        "required",
        "properties",
        "additionalProperties",
        "minProperties",
        "maxProperties",
        "x-kubernetes-map-type",
        "x-kubernetes-preserve-unknown-fields",
    ),
    # No type: any value at all, but only if it says so.
    "": ("x-kubernetes-preserve-unknown-fields",),
}
_DROPPED = frozenset({"title", "examples", "$defs"})
_FORMATS = frozenset({"date-time", "int32", "int64", "double"})
_SCALARS = frozenset({"string", "integer", "number", "boolean"})
_PRESERVE = "x-kubernetes-preserve-unknown-fields"
_RULES = "x-kubernetes-validations"
_LIST_TYPE = "x-kubernetes-list-type"
_MAP_KEYS = "x-kubernetes-list-map-keys"

_RULE_KEYS = ("rule", "message", "messageExpression", "reason", "fieldPath", "optionalOldSelf")

_ADVICE: Mapping[str, str] = {
    "anyOf": "make it one object with optional fields and a rule that wants exactly one of them",
    "oneOf": "make it one object with optional fields and a rule that wants exactly one of them",
    "discriminator": "make it one object with optional fields and a rule that wants exactly one of them",
    "prefixItems": "a tuple has no place in a CRD; make it an object",
    "patternProperties": "say what keys look like in a rule",
    "propertyNames": "say what keys look like in a rule",
}


class NotStructuralError(ValueError):
    """A type says something that a Kubernetes structural schema cannot say."""

    def __init__(self, path: str, why: str) -> None:
        super().__init__(f"{path}: {why}")
        self.path = path


def build_structural(described: Mapping[str, Any], path: str, *, defaults: bool) -> Schema:
    """The structural schema of `described` (a whole JSON schema, with its `$defs`).

    Without `defaults` none is kept, besides those of list map keys, which Kubernetes demands.
    Raises NotStructuralError with the path of what it does not know, such as `spec.flow.nodes[].id`.
    """
    return _Rewriter(described.get("$defs", {}), defaults).rewrite(described, path, (), keep_default=defaults)


class _Rewriter:
    def __init__(self, definitions: Mapping[str, Any], defaults: bool) -> None:
        self._definitions = definitions
        self._defaults = defaults

    def rewrite(
        self, source: Mapping[str, Any], path: str, within: tuple[str, ...], *, keep_default: bool
    ) -> Schema:
        """`within` are the definitions that this node is part of: one of them again is a recursion."""
        node, within = self._resolve(source, path, within)
        kind = node.pop("type", "")
        if kind not in _KEYS:
            raise NotStructuralError(path, f"no type {kind!r} in a structural schema")
        _translate(node, kind)
        for key in node:
            if key not in _COMMON and key not in _KEYS[kind]:
                advice = f": {_ADVICE[key]}" if key in _ADVICE else ""
                raise NotStructuralError(
                    path, f"{key} is not known for {kind or 'a value of any type'}{advice}"
                )
        _check_format(node, path)
        match kind:
            case "object":
                self._rewrite_object(node, path, within)
            case "array":
                self._rewrite_array(node, path, within)
            case "":
                if node.get(_PRESERVE) is not True:
                    raise NotStructuralError(path, "has no type; a value of any type is an OpaqueValue")
            case _:
                pass
        if not _is_default_kept(node, kind, path) or not keep_default:
            node.pop("default", None)
        return _order(node, kind)

    def _resolve(
        self, source: Mapping[str, Any], path: str, within: tuple[str, ...]
    ) -> tuple[Schema, tuple[str, ...]]:
        """The node without `$ref` and without a union with null."""
        node = {key: value for key, value in source.items() if key not in _DROPPED}
        null = False
        while True:
            if "$ref" in node:
                name = str(node.pop("$ref")).removeprefix("#/$defs/")
                if name in within:
                    raise NotStructuralError(path, f"{name} contains itself; a structural schema has an end")
                if name not in self._definitions:
                    raise NotStructuralError(path, f"$ref to {name}, which is not defined")
                within = (*within, name)
                node = _merge(self._definitions[name], node)
            elif "anyOf" in node and {"type": "null"} in node["anyOf"] and len(node["anyOf"]) == 2:
                null = True
                (other,) = (one for one in node.pop("anyOf") if one != {"type": "null"})
                if node.get("default", ...) is None:
                    del node["default"]
                node = _merge(other, node)
            else:
                break
        if node.get("nullable") and not null:
            raise NotStructuralError(path, "is Nullable but its type has no None")
        return node, within

    def _rewrite_object(self, node: Schema, path: str, within: tuple[str, ...]) -> None:
        properties = node.get("properties")
        values = node.get("additionalProperties")
        if properties is not None and values is not None:
            raise NotStructuralError(
                path, "has both fields and additionalProperties; keep unknown keys by OpenModel"
            )
        if isinstance(values, bool):
            raise NotStructuralError(
                path, f"additionalProperties is {str(values).lower()}; keys of the user's own are Opaque"
            )
        if properties is None and values is None and not node.get(_PRESERVE):
            raise NotStructuralError(path, "an object without fields would lose all its keys; is it Opaque?")
        if values is not None:
            node["additionalProperties"] = self.rewrite(
                values, f"{path}{{}}", within, keep_default=self._defaults
            )
            _want_description(node["additionalProperties"], f"{path}{{}}", objects_only=True)
        if properties is not None:
            node["properties"] = {
                name: self.rewrite(field, f"{path}.{name}", within, keep_default=self._defaults)
                for name, field in properties.items()
            }
            for name, field in node["properties"].items():
                _want_description(field, f"{path}.{name}")

    def _rewrite_array(self, node: Schema, path: str, within: tuple[str, ...]) -> None:
        if "items" not in node:
            raise NotStructuralError(path, "a list needs one type of items")
        source = node["items"]
        items = self.rewrite(source, f"{path}[]", within, keep_default=self._defaults)
        _want_description(items, f"{path}[]", objects_only=True)
        node["items"] = items
        match node.get(_LIST_TYPE):
            case None:
                raise NotStructuralError(path, "a list is ListMap, Atomic or a set: say which")
            case "set" if items.get("type") not in _SCALARS:
                raise NotStructuralError(path, "only scalars make a set")
            case "map":
                self._keep_keys(node, source, path, within)
            case _:
                pass

    def _keep_keys(self, node: Schema, source: Mapping[str, Any], path: str, within: tuple[str, ...]) -> None:
        """The keys of a list map exist, are scalars, and are required or have a default."""
        resolved, within = self._resolve(source, path, within)
        fields = node["items"].get("properties", {})
        for key in node[_MAP_KEYS]:
            if fields.get(key, {}).get("type") not in _SCALARS:
                raise NotStructuralError(
                    f"{path}[].{key}", "a key of a list map is a scalar field of its items"
                )
            if key not in node["items"].get("required", ()):
                fields[key] = self.rewrite(
                    resolved["properties"][key], f"{path}[].{key}", within, keep_default=True
                )
                if "default" not in fields[key]:
                    raise NotStructuralError(
                        f"{path}[].{key}", "a key of a list map is required or has a default"
                    )


def _translate(node: Schema, kind: str) -> None:
    """What pydantic and our marks say in other words than Kubernetes."""
    if "const" in node:
        node["enum"] = [node.pop("const")]
    if node.pop("x-atomic", False):
        node["x-kubernetes-list-type" if kind == "array" else "x-kubernetes-map-type"] = "atomic"
    if kind == "array" and node.pop("uniqueItems", False):
        node.setdefault(_LIST_TYPE, "set")
    for limit, exclusive in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        # A number of its own in JSON schema 2020-12, a flag beside the limit in Kubernetes.
        if exclusive in node and not isinstance(node[exclusive], bool):
            node[limit], node[exclusive] = node[exclusive], True


def _merge(inner: Mapping[str, Any], outer: Mapping[str, Any]) -> Schema:
    """What a field says wins over what its type says; rules of both hold."""
    merged = {key: value for key, value in inner.items() if key not in _DROPPED} | dict(outer)
    if _RULES in inner and _RULES in outer:
        merged[_RULES] = [*inner[_RULES], *outer[_RULES]]
    return merged


def _check_format(node: Schema, path: str) -> None:
    if "format" in node and node["format"] not in _FORMATS:
        raise NotStructuralError(path, f"the format {node['format']!r} is not one that the API server checks")
    if "enum" in node and not node["enum"]:
        raise NotStructuralError(path, "an enum without values")


def _is_default_kept(node: Schema, kind: str, path: str) -> bool:
    if "default" not in node:
        return False
    default = node["default"]
    if kind in _SCALARS and isinstance(default, str | int | float | bool):
        return True
    if kind == "object" and default == {}:
        # `runHistory: {}` makes `succeeded: 10` visible in the object; an object that has no
        # default within stays absent.
        fields = node.get("properties", {}).values()
        return "required" not in node and any("default" in field for field in fields)
    raise NotStructuralError(path, f"the default {default!r}; only literal scalars have one here")


def _want_description(node: Schema, path: str, *, objects_only: bool = False) -> None:
    if objects_only and node.get("type") in _SCALARS:
        return
    if not str(node.get("description", "")).strip():
        raise NotStructuralError(path, "has no description; `kubectl explain` would have nothing to say")


def _order(node: Schema, kind: str) -> Schema:
    """The keys in the order in which one reads them: what it is, its limits, what is in it."""
    ordered: Schema = {}
    if "description" in node:
        ordered["description"] = node["description"]
    if kind:
        ordered["type"] = kind
    last = ("items", "additionalProperties", "properties")
    for key in ("nullable", "default", *_KEYS[kind]):
        if key in node and key not in last:
            ordered[key] = node[key]
    if _RULES in node:
        # pydantic sorts what is nested; a rule reads better before its message.
        ordered[_RULES] = [{key: rule[key] for key in _RULE_KEYS if key in rule} for rule in node[_RULES]]
    for key in last:
        if key in node:
            ordered[key] = node[key]
    return ordered
