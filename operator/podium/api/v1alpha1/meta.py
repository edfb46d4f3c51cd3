"""What every kind shares: group and version, field types, conditions, printer columns.

The types of this room are both the schema that `crdgen` writes and the parser that the
reconcilers use, so a field is described once. Fields are camelCase on the wire and
snake_case in Python.
"""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema, model_validator
from pydantic.alias_generators import to_camel

GROUP = "podium.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"

# Ours, and on purpose not the name that kopf would manage.
FINALIZER = f"{GROUP}/conductor"
FIELD_MANAGER = "podium"

DURATION_PATTERN = r"^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$"
# A taken-apart Kubernetes name: what a plain reference to an object in the same namespace may be.
NAME_PATTERN = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"


@dataclass(frozen=True)
class Rule:
    """One CEL rule (`x-kubernetes-validations`) with the message a person reads."""

    rule: str
    message: str
    message_expression: str | None = None
    reason: str | None = None
    field_path: str | None = None
    optional_old_self: bool = False


@dataclass(frozen=True)
class Cel:
    """Annotation of a field or class attribute: CEL rules of that schema node."""

    rules: tuple[Rule, ...]


@dataclass(frozen=True)
class ListMap:
    """Annotation of a list field: a map by these keys for server-side apply."""

    keys: tuple[str, ...]


@dataclass(frozen=True)
class Atomic:
    """Annotation of a list or object field: replaced as a whole by server-side apply."""


@dataclass(frozen=True)
class Nullable:
    """Annotation of a field: an explicit null is kept (elsewhere null means absent and is pruned)."""


@dataclass(frozen=True)
class Column:
    """A printer column: what `kubectl get` shows."""

    name: str
    path: str
    type: Literal["string", "integer", "boolean", "date", "number"] = "string"
    description: str = ""
    priority: int = 0


@dataclass(frozen=True)
class Scale:
    """The scale subresource: the JSON paths of what `kubectl scale` and an HPA read and set."""

    spec_replicas: str
    status_replicas: str
    selector: str


Duration = Annotated[
    str,
    Field(
        pattern=DURATION_PATTERN,
        max_length=64,
        examples=["90s", "10m"],
    ),
]
"""A length of time: `90s`, `10m`, `1h30m`."""

Opaque = Annotated[
    dict[str, Any],
    WithJsonSchema({"type": "object", "x-kubernetes-preserve-unknown-fields": True}),
]
"""An object whose keys are the user's own; kept whole."""

OpaqueValue = Annotated[Any, WithJsonSchema({"x-kubernetes-preserve-unknown-fields": True})]
"""Any JSON value; kept whole."""

Timestamp = Annotated[str, WithJsonSchema({"type": "string", "format": "date-time"})]
"""RFC 3339, UTC, to the second or finer."""

Name = Annotated[str, Field(min_length=1, max_length=253, pattern=NAME_PATTERN)]
"""The name of an object in the same namespace."""


class Model(BaseModel):
    """Base of every API type: camelCase outside, unknown keys ignored, null means absent."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="ignore", frozen=True)

    rules: ClassVar[tuple[Rule, ...]] = ()

    @model_validator(mode="before")
    @classmethod
    def _null_means_absent(cls, value: Any) -> Any:
        # `kubectl apply` drops nulls and server-side apply keeps them: both must mean the same.
        if isinstance(value, dict):
            return {key: item for key, item in value.items() if item is not None}
        return value


class OpenModel(Model):
    """An API type that keeps keys it does not know (a pasted node of a visual editor)."""

    model_config = ConfigDict(extra="allow")


class Condition(Model):
    """One condition, as `metav1.Condition`."""

    type: str = Field(max_length=316, description="What this condition is about, for instance Ready.")
    status: Literal["True", "False", "Unknown"] = Field(description="True, False or Unknown.")
    observed_generation: int | None = Field(
        default=None, ge=0, description="The metadata.generation that the condition was set upon."
    )
    last_transition_time: Timestamp = Field(description="When the status of this condition last changed.")
    reason: str = Field(min_length=1, max_length=1024, description="The reason as one CamelCase word.")
    message: str = Field(default="", max_length=32768, description="The reason in words for people.")


Conditions = Annotated[list[Condition], ListMap(("type",))]


@dataclass(frozen=True)
class Kind:
    """What a CustomResourceDefinition says about a kind besides its schema."""

    kind: str
    plural: str
    singular: str
    short_names: tuple[str, ...]
    description: str
    spec: type[Model]
    status: type[Model]
    columns: tuple[Column, ...]
    selectable_fields: tuple[str, ...] = ()
    rules: tuple[Rule, ...] = ()
    categories: tuple[str, ...] = ("podium",)
    scale: Scale | None = None
