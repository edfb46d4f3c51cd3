"""Hypothesis strategies for API types: instances that the API server has to accept.

They follow the pydantic types and not the generated schema, so that what `crdgen` loses on the
way shows up as a difference.
"""

import re
import types
from typing import Annotated, Any, Literal, Union, cast, get_args, get_origin

from annotated_types import Ge, Le, MaxLen, MinLen
from hypothesis import strategies as st
from pydantic import WithJsonSchema
from pydantic.fields import FieldInfo

from podium.api.v1alpha1.conductor_connection import Auth
from podium.api.v1alpha1.device_model import Health
from podium.api.v1alpha1.meta import DURATION_PATTERN, NAME_PATTERN, ListMap, Model, OpenModel
from podium.api.v1alpha1.schedule import Backfill
from podium.api.v1alpha1.worker_pool import Scaling, WorkerPoolSpec
from podium.api.v1alpha1.workflow import TaskDefaults, WorkflowSpec
from podium.api.v1alpha1.workflow_run import Action, InputFrom

_TEXT = st.characters(codec="utf-8")
_RHYTHMS = (
    {"interval": "1s", "timeout": "0.5s", "offlineAfter": "1.00s"},
    {"interval": "30s", "timeout": "3s", "offlineAfter": "1h30m"},
    {"interval": "999h", "timeout": "1ms", "offlineAfter": "999h"},
)
_LONGEST = 6  # entries in a list or map, whatever more is allowed: it is shapes that we are after
_ONE_OF = {InputFrom: ("secretKeyRef", "configMapKeyRef"), Auth: ("secret", "headersSecret")}
_FORMS = ("flow", "graph", "state_machine", "definition")

# A whole number beyond 2**53 that is written as a float comes back as the integer of its shortest decimals.
_numbers = st.integers(-(2**53), 2**53) | st.floats(-(2**53), 2**53)
_json = st.recursive(
    st.none() | st.booleans() | _numbers | st.text(_TEXT, max_size=12),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(_TEXT, max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)
_opaque = st.dictionaries(st.text(_TEXT, max_size=8), _json, max_size=4)
_timestamps = st.datetimes().map(lambda moment: moment.strftime("%Y-%m-%dT%H:%M:%SZ").zfill(20))
# An unknown key must not be one that pydantic knows by its Python name.
_extras = st.dictionaries(
    st.from_regex(r"x[A-Z][a-z]{1,6}", fullmatch=True), _json.filter(lambda x: x is not None)
)


def instances(model: type[Model]) -> st.SearchStrategy[Any]:
    """Valid instances of an API type, by their wire form."""
    return _wire(model).map(model.model_validate)


def _wire(model: type[Model]) -> st.SearchStrategy[dict[str, Any]]:
    required: dict[str, st.SearchStrategy[Any]] = {}
    optional: dict[str, st.SearchStrategy[Any]] = {}
    for name, field in model.model_fields.items():
        wanted = required if field.is_required() else optional
        wanted[field.alias or name] = _values(field.annotation, field.metadata)
    fields = st.fixed_dictionaries(required, optional=optional)
    if issubclass(model, OpenModel):
        fields = st.tuples(fields, _extras).map(lambda pair: pair[1] | pair[0])
    if model is Scaling:
        return fields.filter(_in_order)
    if model is Health:
        # By chance the three fit each other far too seldom.
        return st.tuples(fields, st.sampled_from(_RHYTHMS)).map(lambda pair: pair[0] | pair[1])
    if model is WorkerPoolSpec:
        # With both, a second apply may change what the rule holds on to.
        fields = fields.filter(lambda value: "scaling" not in value or "replicas" not in value)
    if model is WorkflowSpec:
        return _one_form(fields)
    if model is TaskDefaults:
        return fields.map(lambda value: _without(value, "concurrencyLimit", "rateLimit"))
    if model in _ONE_OF:
        first, second = _ONE_OF[model]
        return fields.filter(lambda value: (first in value) != (second in value))
    if model is Backfill:
        return fields.filter(lambda value: value["start"] < value["end"])
    if model is Action:
        return fields.filter(
            lambda value: {"Rerun": "fromTask", "Skip": "task"}.get(value["type"], "id") in value
        )
    return fields


def _one_form(fields: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    def build(form: str) -> st.SearchStrategy[dict[str, Any]]:
        field = WorkflowSpec.model_fields[form]
        aliases = [WorkflowSpec.model_fields[name].alias or name for name in _FORMS]
        if form == "definition":
            aliases.append("output")
        return st.tuples(
            fields, _values(field.annotation, field.metadata).filter(lambda x: x is not None)
        ).map(lambda pair: _without(pair[0], *aliases) | {field.alias or form: pair[1]})

    return st.sampled_from(_FORMS).flatmap(build)


def _without(value: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: item for key, item in value.items() if key not in keys}


def _values(annotation: Any, metadata: list[Any]) -> st.SearchStrategy[Any]:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _values(arguments[0], [*_flat(arguments[1:]), *metadata])
    if origin in (Union, types.UnionType):
        (other,) = (one for one in arguments if one is not types.NoneType)
        return _values(other, metadata)
    if origin is Literal:
        return st.sampled_from(arguments)
    if any(isinstance(mark, WithJsonSchema) for mark in metadata):
        (mark,) = (mark for mark in metadata if isinstance(mark, WithJsonSchema))
        assert mark.json_schema is not None
        return {"object": _opaque, "string": _timestamps}.get(mark.json_schema.get("type", ""), _json)
    shortest = max((mark.min_length for mark in metadata if isinstance(mark, MinLen)), default=0)
    longest = min((mark.max_length for mark in metadata if isinstance(mark, MaxLen)), default=2**31)
    if origin is list:
        items = _values(arguments[0], [])
        keys = next((mark.keys for mark in metadata if isinstance(mark, ListMap)), None)
        unique = (lambda item: tuple(item.get(key) for key in keys)) if keys else None
        return st.lists(items, min_size=shortest, max_size=min(longest, _LONGEST), unique_by=unique)
    if origin is dict:
        return st.dictionaries(
            st.text(_TEXT, min_size=1, max_size=12),
            _values(arguments[1], []),
            min_size=shortest,
            max_size=min(longest, _LONGEST),
        )
    if annotation is str:
        return _strings(metadata, shortest, longest)
    if annotation is bool:
        return st.booleans()
    if annotation is int:
        least = max((cast("int", mark.ge) for mark in metadata if isinstance(mark, Ge)), default=-(2**53))
        most = min((cast("int", mark.le) for mark in metadata if isinstance(mark, Le)), default=2**53)
        return st.integers(least, most)
    assert isinstance(annotation, type), f"no strategy for {annotation}"
    assert issubclass(annotation, Model), f"no strategy for {annotation}"
    return _wire(annotation)


def _flat(metadata: tuple[Any, ...]) -> list[Any]:
    """Annotated[…, Field(max_length=…)] keeps its limits one level further down."""
    return [
        inner for mark in metadata for inner in (mark.metadata if isinstance(mark, FieldInfo) else [mark])
    ]


def _strings(metadata: list[Any], shortest: int, longest: int) -> st.SearchStrategy[str]:
    pattern = next((mark.pattern for mark in metadata if getattr(mark, "pattern", None)), None)
    match pattern:
        case None:
            return st.text(_TEXT, min_size=shortest, max_size=min(longest, 24))
        case _ if pattern == DURATION_PATTERN:
            return st.from_regex(r"\A[0-9]{1,3}(\.[0-9]{1,2})?(ms|s|m|h)\Z")
        case _ if pattern == NAME_PATTERN:
            return st.from_regex(r"\A[a-z0-9]([-a-z0-9.]{0,20}[a-z0-9])?\Z")
        case _:
            fits = re.compile(pattern, re.ASCII)
            return st.from_regex(fits, fullmatch=True).filter(
                # pydantic's \s has more spaces than ASCII's
                lambda text: shortest <= len(text) <= longest and _is_text(text) and re.search(pattern, text)
            )


def _is_text(text: str) -> bool:
    return not any(0xD800 <= ord(character) <= 0xDFFF for character in text)


def _in_order(scaling: dict[str, Any]) -> bool:
    """What Scaling's rules ask for."""
    least, most = scaling.get("minReplicas", 0), scaling.get("maxReplicas", 10)
    fallback = (scaling.get("fallback") or {}).get("replicas", 0)
    return bool((scaling.get("idleReplicas") or 0) <= least <= most and fallback <= most)
