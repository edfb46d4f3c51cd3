"""The rewriter: what it makes of what pydantic says, and what it refuses, with the path."""

from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field

from podium.api.v1alpha1.meta import (
    Atomic,
    Cel,
    Column,
    Kind,
    ListMap,
    Model,
    Nullable,
    Opaque,
    OpaqueValue,
    OpenModel,
    Rule,
)
from podium.crdgen import NotStructuralError, build_crd
from podium.crdgen.marks import describe_model
from podium.crdgen.structural import build_structural


def described(annotation: Any, **field: Any) -> Any:
    return annotation, Field(**{"description": "Said.", "default": None} | field)


def build(defaults: bool = True, base: type[Model] = Model, **fields: Any) -> dict[str, Any]:
    """The schema of a model that has these fields, each an (annotation, Field(…))."""
    body = {
        "__doc__": "A test.",
        "__annotations__": {name: annotation for name, (annotation, _) in fields.items()},
        "__module__": __name__,
        **{name: field for name, (_, field) in fields.items()},
    }
    model = type("Made", (base,), body)
    return build_structural(describe_model(model), "spec", defaults=defaults)


def built(annotation: Any, **field: Any) -> dict[str, Any]:
    """The schema of one field, without its description."""
    schema = build(x=described(annotation, **field))["properties"]["x"]
    assert schema.pop("description") == "Said."
    return dict(schema)


class Inner(Model):
    """An inner object."""

    name: str = Field(description="A name.")


class Defaulted(Model):
    """An object with a default within."""

    count: int = Field(default=3, description="A count.")


class Undefaulted(Model):
    """An object without a default within."""

    count: int | None = Field(default=None, description="A count.")


class Recursive(Model):
    """An object in itself."""

    inner: "Recursive | None" = Field(default=None, description="Itself.")


class Keyed(Model):
    """An object with a key that has a default."""

    key: int = Field(default=1, description="A key.")
    other: int = Field(default=2, description="No key.")


class Keyless(Model):
    """An object without a key that list maps can use."""

    key: int | None = Field(default=None, description="A key.")
    inner: Inner = Field(description="An object.")


class Undescribed(Model):
    name: str = Field(description="A name.")


class Strict(BaseModel, extra="forbid"):
    """An object that forbids."""

    name: str = Field(description="A name.")


class Closed(BaseModel, extra="allow"):
    """An object that keeps more, but is no OpenModel."""

    name: str = Field(description="A name.")


class Ruled(Model):
    """An object with a rule."""

    rules = (Rule("self.name != ''", "a name, please", field_path=".name"),)
    name: str = Field(description="A name.")


INNER = {
    "type": "object",
    "required": ["name"],
    "properties": {"name": {"description": "A name.", "type": "string"}},
}


INNER_ITEM = INNER | {"description": "An inner object."}
LIST = {"type": "array", "items": {"type": "string"}}
NEEDED = {"default": ...}


@pytest.mark.parametrize(
    ("annotation", "field", "wanted"),
    [
        (str, {"default": ...}, {"type": "string"}),
        (str | None, {}, {"type": "string"}),
        (Annotated[str | None, Nullable()], {}, {"type": "string", "nullable": True}),
        (str, {"default": "a"}, {"type": "string", "default": "a"}),
        (str, {"default": ""}, {"type": "string", "default": ""}),
        (bool, {"default": False}, {"type": "boolean", "default": False}),
        (int, {"default": 0}, {"type": "integer", "default": 0}),
        (str | None, {"max_length": 3, "min_length": 1}, {"type": "string", "minLength": 1, "maxLength": 3}),
        (str | None, {"pattern": "^a$", "examples": ["a"]}, {"type": "string", "pattern": "^a$"}),
        (Literal["a"] | None, {}, {"type": "string", "enum": ["a"]}),
        (Literal["a", "b"] | None, {}, {"type": "string", "enum": ["a", "b"]}),
        (int | None, {"ge": 1, "le": 2}, {"type": "integer", "minimum": 1, "maximum": 2}),
        (int | None, {"gt": 1}, {"type": "integer", "minimum": 1, "exclusiveMinimum": True}),
        (float | None, {"lt": 1}, {"type": "number", "maximum": 1, "exclusiveMaximum": True}),
        (Inner | None, {}, INNER),
        (Annotated[Inner | None, Atomic()], {}, INNER | {"x-kubernetes-map-type": "atomic"}),
        (
            dict[str, int] | None,
            {"max_length": 2},
            {"type": "object", "maxProperties": 2, "additionalProperties": {"type": "integer"}},
        ),
        (dict[str, Inner] | None, {}, {"type": "object", "additionalProperties": INNER_ITEM}),
        (Opaque | None, {}, {"type": "object", "x-kubernetes-preserve-unknown-fields": True}),
        (OpaqueValue | None, {}, {"x-kubernetes-preserve-unknown-fields": True}),
        (Annotated[list[str], Atomic()] | None, {}, None),
        (set[str] | None, {}, LIST | {"x-kubernetes-list-type": "set"}),
        (
            Annotated[list[Inner], ListMap(("name",))],
            {"default": ..., "max_length": 4},
            {
                "type": "array",
                "maxItems": 4,
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["name"],
                "items": INNER_ITEM,
            },
        ),
        (Annotated[list[str] | None, Atomic()], {}, LIST | {"x-kubernetes-list-type": "atomic"}),
        (
            Annotated[int | None, Cel((Rule("self > 1", "more"),))],
            {},
            {"type": "integer", "x-kubernetes-validations": [{"rule": "self > 1", "message": "more"}]},
        ),
    ],
)  # fmt: skip
def test_what_is_known(annotation: Any, field: dict[str, Any], wanted: dict[str, Any] | None) -> None:
    if wanted is None:
        # The mark has to be the field's own: inside a union pydantic keeps it to itself.
        with pytest.raises(NotStructuralError, match="say which"):
            built(annotation, **field)
    else:
        assert built(annotation, **field) == wanted


@pytest.mark.parametrize(
    ("annotation", "field", "path", "why"),
    [
        (list[str], {}, "spec.x", "a list is ListMap, Atomic or a set: say which"),
        (dict[str, Any], {}, "spec.x", "keys of the user's own are Opaque"),
        (dict[str, list[str]], {}, "spec.x{}", "a list is ListMap, Atomic or a set: say which"),
        (Any, NEEDED, "spec.x", "has no type"),
        (str | int, NEEDED, "spec.x", "anyOf is not known"),
        (str | int | None, {}, "spec.x", "anyOf is not known"),
        (Annotated[tuple[int, int], Atomic()], NEEDED, "spec.x", "a tuple has no place in a CRD"),
        (dict[Annotated[str, Field(pattern="^a")], int], NEEDED, "spec.x", "is not known"),
        (dict[Annotated[str, Field(max_length=3)], int], NEEDED, "spec.x", "propertyNames is not known"),
        (str, {"default": ..., "deprecated": True}, "spec.x", "deprecated is not known"),
        (str, {"default": ..., "json_schema_extra": {"x-mine": 1}}, "spec.x", "x-mine is not known"),
        (str, {"default": ..., "json_schema_extra": {"format": "uri"}}, "spec.x", "'uri' is not one"),
        (bytes, NEEDED, "spec.x", "'binary' is not one"),
        (None, NEEDED, "spec.x", "no type 'null'"),
        (str, {"default": ..., "description": ""}, "spec.x", "has no description"),
        (str, {"default": ..., "description": None}, "spec.x", "has no description"),
        (Annotated[str, Nullable()], NEEDED, "spec.x", "is Nullable but its type has no None"),
        (Annotated[list[str], Atomic()], {"default": ["a"]}, "spec.x", "only literal scalars"),
        (dict[str, int], {"default": {"a": 1}}, "spec.x", "only literal scalars"),
        (Recursive, NEEDED, "spec.x.inner", "Recursive contains itself"),
        (Strict, NEEDED, "spec.x", "additionalProperties"),
        (Closed, NEEDED, "spec.x", "additionalProperties"),
        (Annotated[list[Undescribed], Atomic()], NEEDED, "spec.x[]", "has no description"),
        (dict[str, Undescribed], NEEDED, "spec.x{}", "has no description"),
        (Annotated[list[Inner], ListMap(("id",))], NEEDED, "spec.x[].id", "a scalar field"),
        (Annotated[list[str], ListMap(("id",))], NEEDED, "spec.x[].id", "a scalar field"),
        (Annotated[list[Keyless], ListMap(("key",))], NEEDED, "spec.x[].key", "is required or has a default"),
        (Annotated[list[Keyless], ListMap(("inner",))], NEEDED, "spec.x[].inner", "a scalar field"),
        (Annotated[str, Atomic()], NEEDED, "spec.x", "x-kubernetes-map-type is not known"),
        (Annotated[str, ListMap(("a",))], NEEDED, "spec.x", "x-kubernetes-list-map-keys is not known"),
        (set[Inner], NEEDED, "spec.x", "only scalars make a set"),
    ],
)  # fmt: skip
def test_what_is_refused(annotation: Any, field: dict[str, Any], path: str, why: str) -> None:
    with pytest.raises(NotStructuralError) as refusal:
        build(x=described(annotation, **field))
    assert refusal.value.path == path
    assert why in str(refusal.value)


def test_a_default_object_shows_only_if_there_is_a_default_within() -> None:
    schema = build(
        shown=(Defaulted, Field(default_factory=Defaulted, description="Said.")),
        hidden=(Undefaulted, Field(default_factory=Undefaulted, description="Said.")),
    )
    assert schema["properties"]["shown"]["default"] == {}
    assert "default" not in schema["properties"]["hidden"]
    assert "required" not in schema


def test_without_defaults_only_keys_of_list_maps_have_one() -> None:
    schema = build(
        defaults=False,
        plain=described(int, default=3),
        keyed=(Annotated[list[Keyed], ListMap(("key",))], Field(default_factory=list, description="Said.")),
    )
    assert "default" not in schema["properties"]["plain"]
    items = schema["properties"]["keyed"]["items"]["properties"]
    assert items["key"]["default"] == 1
    assert "default" not in items["other"]


def test_an_open_model_keeps_unknown_keys_and_a_model_does_not() -> None:
    field = described(str, default=...)
    assert build(base=OpenModel, x=field)["x-kubernetes-preserve-unknown-fields"] is True
    assert "x-kubernetes-preserve-unknown-fields" not in build(x=field)


def test_what_a_field_says_wins_and_rules_of_field_and_type_both_hold() -> None:
    schema = build(x=described(Annotated[Ruled, Cel((Rule("has(self.name)", "named"),))], default=...))
    field = schema["properties"]["x"]
    assert field["description"] == "Said."
    assert [rule["message"] for rule in field["x-kubernetes-validations"]] == ["a name, please", "named"]
    assert list(field["x-kubernetes-validations"][0]) == ["rule", "message", "fieldPath"]


class Spec(Model):
    """A spec."""

    name: str = Field(description="A name.")
    inner: Inner | None = Field(default=None, description="An object.")


class Status(Model):
    """A status."""

    observed_generation: int = Field(default=-1, description="The generation seen.")


class StatusWithout(Model):
    """A status without a generation."""

    phase: str | None = Field(default=None, description="A phase.")


class StatusDemanding(Status):
    """A status that a fresh object cannot have."""

    phase: str = Field(description="A phase.")


def kind(**changes: Any) -> Kind:
    given: dict[str, Any] = {
        "kind": "Made",
        "plural": "mades",
        "singular": "made",
        "short_names": (),
        "description": "A test.",
        "spec": Spec,
        "status": Status,
        "columns": (),
    }
    return Kind(**given | changes)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"columns": (Column("Nome", ".spec.nome"),)}, ".spec.nome: column Nome: there is no field nome"),
        ({"selectable_fields": (".spec.nome",)}, ".spec.nome: selectable field: there is no field nome"),
        ({"selectable_fields": (".spec.inner",)}, "only a string, boolean or integer can be selectable"),
        ({"status": StatusWithout}, "status: observedGeneration is missing"),
        ({"status": StatusDemanding}, "status: the default of status has no phase"),
    ],
)
def test_a_kind_that_points_at_nothing_is_refused(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(NotStructuralError, match=why):
        build_crd(kind(**changes))


def test_rules_of_a_kind_stand_at_the_root() -> None:
    crd = build_crd(kind(rules=(Rule("self.metadata.name != 'a'", "not a"),)))
    schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    assert schema["x-kubernetes-validations"] == [{"rule": "self.metadata.name != 'a'", "message": "not a"}]
