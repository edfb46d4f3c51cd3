"""One CustomResourceDefinition of a kind: names, columns, selectable fields, schema."""

import re
from typing import Any

from podium.api.v1alpha1 import GROUP, VERSION, Kind
from podium.api.v1alpha1.meta import Column
from podium.crdgen.marks import describe_model, describe_rules
from podium.crdgen.structural import NotStructuralError, Schema, build_structural

# The schema's default makes `-1 < metadata.generation` true of a fresh object, so that Flux,
# Helm and `kubectl wait` take it as in progress until the operator has seen it.
_FRESH_STATUS = {"observedGeneration": -1}

_API_VERSION = "The version of this representation: podium.dev/v1alpha1."
_KIND = "The kind that this object is: {kind}."
_FILTER = re.compile(r"\[[^\]]*\]")
_SELECTABLE = frozenset({"string", "boolean", "integer"})


def build_crd(kind: Kind) -> dict[str, Any]:
    """A `apiextensions.k8s.io/v1` CustomResourceDefinition, as plain values in a fixed order.

    Raises NotStructuralError, with the path of the field, if a type says something that a
    structural schema cannot, and if a column or selectable field points at nothing.
    """
    schema = _build_root(kind)
    for column in kind.columns:
        _resolve(schema, column.path, of=f"column {column.name}")
    for path in kind.selectable_fields:
        if _resolve(schema, path, of="selectable field").get("type") not in _SELECTABLE:
            raise NotStructuralError(path, "only a string, boolean or integer can be selectable")
    version: dict[str, Any] = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "subresources": {"status": {}} | _build_scale(kind, schema),
        "additionalPrinterColumns": [_build_column(column) for column in kind.columns],
    }
    if kind.selectable_fields:
        version["selectableFields"] = [{"jsonPath": path} for path in kind.selectable_fields]
    version["schema"] = {"openAPIV3Schema": schema}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{kind.plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": kind.kind,
                "listKind": f"{kind.kind}List",
                "plural": kind.plural,
                "singular": kind.singular,
                "shortNames": list(kind.short_names),
                "categories": list(kind.categories),
            },
            "versions": [version],
        },
    }


def _build_scale(kind: Kind, schema: Schema) -> dict[str, Any]:
    if kind.scale is None:
        return {}
    paths = {
        "specReplicasPath": kind.scale.spec_replicas,
        "statusReplicasPath": kind.scale.status_replicas,
        "labelSelectorPath": kind.scale.selector,
    }
    for path in paths.values():
        _resolve(schema, path, of="scale subresource")
    return {"scale": paths}


def _build_root(kind: Kind) -> Schema:
    # No defaults inside status: they would be written where nobody wrote anything.
    spec = build_structural(describe_model(kind.spec), "spec", defaults=True)
    status = build_structural(describe_model(kind.status), "status", defaults=False)
    if "observedGeneration" not in status["properties"]:
        raise NotStructuralError("status", "observedGeneration is missing")
    if "required" in status:
        raise NotStructuralError("status", f"the default of status has no {', '.join(status['required'])}")
    status = {key: status[key] for key in ("description", "type")} | {"default": _FRESH_STATUS} | status
    root: Schema = {
        "description": kind.description,
        "type": "object",
        "required": ["spec"],
        "properties": {
            "apiVersion": {"description": _API_VERSION, "type": "string"},
            "kind": {"description": _KIND.format(kind=kind.kind), "type": "string"},
            # The API server describes it itself, and refuses a description of ours.
            "metadata": {"type": "object"},
            "spec": spec,
            "status": status,
        },
    }
    if kind.rules:
        root["x-kubernetes-validations"] = describe_rules(kind.rules)
    return root


def _build_column(column: Column) -> dict[str, Any]:
    built: dict[str, Any] = {"name": column.name, "type": column.type, "jsonPath": column.path}
    if column.description:
        built["description"] = column.description
    if column.priority:
        built["priority"] = column.priority
    return built


def _resolve(schema: Schema, path: str, of: str) -> Schema:
    """The schema that a JSON path such as `.status.conditions[?(@.type=="Ready")].status` means."""
    if path.startswith(".metadata."):
        return {"type": "string"}
    node = schema
    for step in _FILTER.sub("[]", path).removeprefix(".").split("."):
        name = step.removesuffix("[]")
        if name not in node.get("properties", {}):
            raise NotStructuralError(path, f"{of}: there is no field {name}")
        node = node["properties"][name]
        if step.endswith("[]"):
            node = node["items"]
    return node
