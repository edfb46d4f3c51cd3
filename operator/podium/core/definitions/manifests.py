"""Manifest files as text → objects with the lines they stand on; and are they shaped as the API wants?"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from podium.api.v1alpha1 import API_VERSION, GROUP, KINDS
from podium.api.v1alpha1.meta import NAME_PATTERN, Model, OpenModel
from podium.core.definitions.findings import Report, did_you_mean, nearest
from podium.core.definitions.kubernetes_yaml import compose, construct

_TOP_LEVEL = ("apiVersion", "kind", "metadata", "spec", "status")
_LONGEST_NAME = 253
_NAMESPACE = r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"


@dataclass(frozen=True)
class Manifest:
    """One object of a file."""

    body: dict[str, Any]
    node: yaml.Node
    """The same as YAML's own tree, which knows its lines."""

    @property
    def kind(self) -> str:
        """`Workflow`; "" if it does not say."""
        return str(self.body.get("kind") or "")

    @property
    def name(self) -> str:
        """metadata.name; "" if there is none."""
        metadata = self.body.get("metadata")
        return str(metadata.get("name") or "") if isinstance(metadata, dict) else ""

    @property
    def namespace(self) -> str | None:
        """metadata.namespace, if it is given as a text."""
        metadata = self.body.get("metadata")
        given = metadata.get("namespace") if isinstance(metadata, dict) else None
        return given if isinstance(given, str) else None

    @property
    def is_ours(self) -> bool:
        """Is it of Podium's API group?"""
        return str(self.body.get("apiVersion") or "").partition("/")[0] == GROUP

    def line(self, path: str) -> int:
        """The line (from 1) of a finding's path, or of the nearest thing around it that is written down."""
        return _find(self.node, path).start_mark.line + 1


def read_manifests(text: str) -> list[Manifest]:
    """All objects of a file: several documents and `kind: List` are taken apart.

    Raises ValueError, with a line, for text that is not YAML (JSON is), or not objects.
    """
    found: list[Manifest] = []
    try:
        for node in compose(text):
            found.extend(_unroll(node))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        where = f"line {mark.line + 1}: " if mark else ""
        raise ValueError(f"{where}not YAML: {getattr(error, 'problem', None) or error}") from error
    except RecursionError:
        raise ValueError("nested too deep") from None
    return found


def check_shape(manifest: Manifest, report: Report) -> Model | None:
    """The spec as its type, or None with errors: what the API server's strict validation would refuse."""
    body = manifest.body
    kinds = {kind.kind: kind for kind in KINDS}
    if body.get("apiVersion") != API_VERSION:
        report.error("apiVersion", f"{body.get('apiVersion')!r} is unknown", f"write {API_VERSION}")
        return None
    kind = kinds.get(manifest.kind)
    if kind is None:
        report.error("kind", f"{API_VERSION} has no {manifest.kind!r}", did_you_mean(manifest.kind, kinds))
        return None
    for key in body:
        if key not in _TOP_LEVEL:
            report.error(key, f"unknown field {key!r}", did_you_mean(key, _TOP_LEVEL))
    _check_metadata(body.get("metadata"), report)
    spec = body.get("spec")
    if not isinstance(spec, dict):
        report.error("spec", "there is no spec", "give one")
        return None
    before = len(report.findings())
    for path, key, known in _unknown_fields(kind.spec, spec, "spec"):
        guess = nearest(key, known)
        report.error(path, f"unknown field {key!r}", f"did you mean {guess!r}?" if guess else "take it out")
    if len(report.findings()) > before:
        return None
    return _parse(kind.spec, spec, report)


def _parse(model: type[Model], spec: dict[str, Any], report: Report) -> Model | None:
    try:
        return model.model_validate(spec, strict=True)
    except ValidationError as errors:
        for error in errors.errors(include_url=False):
            path = "spec" + "".join(
                f"[{part}]" if isinstance(part, int) else f".{part}"
                for part in error["loc"]
                if part != "[key]"
            )
            report.error(path, _words(error["type"], error["msg"], error.get("ctx", {})))
        return None
    except RecursionError:
        report.error("spec", "nested too deep", "make it flatter")
        return None


def _unroll(node: yaml.Node | None) -> Iterator[Manifest]:
    if node is None or (isinstance(node, yaml.ScalarNode) and not node.value.strip()):
        return
    value = construct(node)
    if value is None:
        return
    if not isinstance(value, dict):
        raise ValueError(f"line {node.start_mark.line + 1}: not an object")  # noqa: TRY004 - it is the text
    if value.get("kind") == "List" and value.get("apiVersion") == "v1":
        items = _child(node, "items")
        for item in items.value if isinstance(items, yaml.SequenceNode) else ():
            yield from _unroll(item)
    else:
        yield Manifest(value, node)


def _find(node: yaml.Node, path: str) -> yaml.Node:
    """Follows a path as far as it is written down. Keys may have dots: the longest that fits is taken."""
    at: yaml.Node = node
    rest = path
    while rest:
        index = re.match(r"\[(\d+)\]", rest)
        if index and isinstance(at, yaml.SequenceNode) and int(index[1]) < len(at.value):
            at, rest = at.value[int(index[1])], rest[index.end() :].removeprefix(".")
            continue
        fitting = (
            (key, value)
            for key, value in (at.value if isinstance(at, yaml.MappingNode) else ())
            if rest.startswith(key.value) and (rest[len(key.value) : len(key.value) + 1] in ("", ".", "["))
        )
        best = max(fitting, key=lambda pair: len(pair[0].value), default=None)
        if best is None:
            return at
        rest = rest[len(best[0].value) :].removeprefix(".")
        # The key's own line, when the path ends here: a block begins a line below it.
        at = best[1] if rest else best[0]
    return at


def _child(node: yaml.Node, key: str) -> yaml.Node | None:
    pairs = node.value if isinstance(node, yaml.MappingNode) else ()
    return next((value for name, value in pairs if name.value == key), None)


def _check_metadata(metadata: Any, report: Report) -> None:
    name = metadata.get("name") if isinstance(metadata, dict) else None
    namespace = metadata.get("namespace") if isinstance(metadata, dict) else None
    if namespace is not None and (not isinstance(namespace, str) or not re.match(_NAMESPACE, namespace)):
        report.error(
            "metadata.namespace",
            f"{namespace!r} cannot be a namespace",
            "use small letters, digits and '-', at most 63; a number in quotes",
        )
    if name is None and isinstance(metadata, dict) and metadata.get("generateName"):
        return
    if not isinstance(name, str) or not name:
        report.error("metadata.name", "the object has no name", "give metadata.name")
    elif len(name) > _LONGEST_NAME or not re.match(NAME_PATTERN, name):
        report.error(
            "metadata.name", f"{name!r} cannot be a name", "use small letters, digits and '-', at most 253"
        )


def _unknown_fields(model: type[BaseModel], value: Any, path: str) -> Iterator[tuple[str, str, list[str]]]:
    """(path, key, known keys) of every key that the CRD would prune."""
    if not isinstance(value, dict):
        return
    known = {field.alias or name: field for name, field in model.model_fields.items()}
    for key, item in value.items():
        if key not in known:
            if not issubclass(model, OpenModel):
                yield f"{path}.{key}", str(key), list(known)
            continue
        inner = next((part for part in _types(known[key].annotation) if _is_model(part)), None)
        if inner is None:
            continue
        if isinstance(item, list):
            for index, element in enumerate(item):
                yield from _unknown_fields(inner, element, f"{path}.{key}[{index}]")
        elif isinstance(item, dict) and _is_mapping(known[key].annotation):
            for name, element in item.items():
                yield from _unknown_fields(inner, element, f"{path}.{key}.{name}")
        else:
            yield from _unknown_fields(inner, item, f"{path}.{key}")


def _types(annotation: Any) -> Iterator[Any]:
    yield annotation
    for part in getattr(annotation, "__args__", ()):
        yield from _types(part)


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _is_mapping(annotation: Any) -> bool:
    return any(getattr(part, "__origin__", None) is dict for part in _types(annotation))


def _words(kind: str, message: str, context: dict[str, Any]) -> str:
    match kind:
        case "missing":
            return "is missing"
        case "string_pattern_mismatch" if "ms|s|m|h" in context.get("pattern", ""):
            return "is not a duration such as 90s, 10m or 1h30m"
        case "string_pattern_mismatch" if "https?" in context.get("pattern", ""):
            return "is not an address such as https://conductor.example/api: begin with http:// or https://"
        case "string_pattern_mismatch":
            return "is not a name: small letters, digits, '-' and '.'"
        case "literal_error":
            return f"must be one of {context.get('expected', '')}"
        case _:
            return message[:1].lower() + message[1:].removesuffix(" in strict mode")
