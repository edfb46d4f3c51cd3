"""What pydantic says about a model, and beside it what our annotations say.

pydantic's own generator leaves ListMap, Atomic, Nullable, Cel and `rules` out; this one puts
them in as the Kubernetes keys that they mean. Everything else is left to `structural`.
"""

from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from podium.api.v1alpha1.meta import Atomic, Cel, ListMap, Model, Nullable, OpenModel, Rule


def describe_model(model: type[BaseModel]) -> JsonSchemaValue:
    """The JSON schema of a model by pydantic, with our annotations as Kubernetes keys.

    `$ref`, `$defs`, null unions, titles and `const` are still in it.
    """
    return model.model_json_schema(by_alias=True, schema_generator=_MarkedSchema, mode="validation")


def describe_rules(rules: Iterable[Rule]) -> list[dict[str, Any]]:
    """The value of `x-kubernetes-validations`."""
    return [
        {
            key: value
            for key, value in (
                ("rule", rule.rule),
                ("message", rule.message),
                ("messageExpression", rule.message_expression),
                ("reason", rule.reason),
                ("fieldPath", rule.field_path),
                ("optionalOldSelf", rule.optional_old_self or None),
            )
            if value is not None
        }
        for rule in rules
    ]


class _MarkedSchema(GenerateJsonSchema):
    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        described = super().model_schema(schema)
        model = schema["cls"]
        if issubclass(model, OpenModel) and described.get("additionalProperties") is True:
            del described["additionalProperties"]
            described["x-kubernetes-preserve-unknown-fields"] = True
        if issubclass(model, Model) and model.rules:
            described["x-kubernetes-validations"] = describe_rules(model.rules)
        for name, field in model.model_fields.items():
            described["properties"][field.alias or name] |= _describe_field(field)
        return described


def _describe_field(field: FieldInfo) -> dict[str, Any]:
    marks: dict[str, Any] = {}
    factory = field.default_factory
    if isinstance(factory, type) and issubclass(factory, BaseModel):
        # pydantic never shows what a factory makes; `structural` keeps this one only where
        # a default within would otherwise stay hidden.
        marks["default"] = {}
    for mark in field.metadata:
        match mark:
            case ListMap(keys=keys):
                marks |= {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": list(keys)}
            case Atomic():
                # On an object it says x-kubernetes-map-type; `structural` knows which of the two it has.
                marks["x-atomic"] = True
            case Nullable():
                marks["nullable"] = True
            case Cel(rules=rules):
                marks["x-kubernetes-validations"] = describe_rules(rules)
            case _:
                pass  # pydantic's own, such as a length: it is in the schema already
    return marks
