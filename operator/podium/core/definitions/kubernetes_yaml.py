"""YAML as kubectl reads it, which makes JSON of it first.

That is YAML 1.1 as Go's yaml.v2 knows it: `y` is true, 1e3 a number, 12:30:45 and 2026-01-01 are texts,
and keys are texts whatever they look like.
"""

import re
from collections.abc import Iterator
from typing import Any

import yaml

_TAG = "tag:yaml.org,2002:"
_TRUE, _FALSE = ("y", "yes", "true", "on"), ("n", "no", "false", "off")
_BOOL = "|".join(form for word in _TRUE + _FALSE for form in (word, word.capitalize(), word.upper()))
_INT = r"[-+]?(0[bB]_*[01][01_]*|0[xX]_*[0-9a-fA-F][0-9a-fA-F_]*|0[oO]?_*[0-7][0-7_]*|0_*|[1-9][0-9_]*)"
_FLOAT = (
    r"[-+]?[0-9][0-9_]*(\.[0-9_]*)?([eE][-+]?[0-9]+)?|[-+]?\.[0-9]+([eE][-+]?[0-9]+)?"
    r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
)
# Beyond this Go writes 1e+21, which the API server reads as a float again.
_LARGEST_WHOLE_FLOAT = 1e21


def compose(text: str) -> Iterator[yaml.Node | None]:
    """The tree of each document, its keys made texts. Raises YAMLError; ValueError with a line."""
    for node in yaml.compose_all(text, _Loader):
        if node is not None:
            _make_keys_texts(node)
        yield node


def construct(node: yaml.Node) -> Any:
    """The JSON value of a tree. Raises YAMLError for tags that JSON has no values for; ValueError."""
    loader = _Loader("")
    try:
        return loader.construct_document(node)
    finally:
        loader.dispose()


def read_value(text: str) -> Any:
    """The value of the first document; None if there is none. Raises as the two above."""
    node = next(compose(text), None)
    return None if node is None else construct(node)


class _Loader(yaml.SafeLoader):
    """Resolves plain scalars as Go does, and makes only what JSON has."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - the base class has it so
        first: [pair for pair in pairs if pair[0] in (f"{_TAG}null", f"{_TAG}merge")]
        for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    yaml_constructors = {  # noqa: RUF012 - the base class has it so
        tag: made
        for tag, made in yaml.SafeLoader.yaml_constructors.items()
        if tag in (None, f"{_TAG}null", f"{_TAG}seq", f"{_TAG}map")
    }


def _construct_str(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> str:
    # JSON may write one character as two escapes, which PyYAML leaves apart.
    text = str(loader.construct_scalar(node))
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _construct_bool(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> bool:
    return str(loader.construct_scalar(node)).lower() in _TRUE


def _construct_int(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    plain = str(loader.construct_scalar(node)).replace("_", "")
    return int(plain, 8 if re.fullmatch("[-+]?0[0-7]+", plain) else 0)


def _construct_float(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> float | int:
    text = str(loader.construct_scalar(node))
    value = float(text.replace("_", "").replace(".inf", "inf").replace(".nan", "nan").lower())
    if value != value or abs(value) == float("inf"):
        raise ValueError(f"line {node.start_mark.line + 1}: {text} is no number in JSON")
    return int(value) if value.is_integer() and abs(value) < _LARGEST_WHOLE_FLOAT else value


for _name, _pattern, _first, _make in (
    ("bool", _BOOL, "yYnNtTfFoO", _construct_bool),
    ("int", _INT, "-+0123456789", _construct_int),
    ("float", _FLOAT, "-+.0123456789", _construct_float),
):
    _Loader.add_implicit_resolver(f"{_TAG}{_name}", re.compile(f"(?:{_pattern})$"), list(_first))
    _Loader.add_constructor(f"{_TAG}{_name}", _make)
_Loader.add_constructor(f"{_TAG}str", _construct_str)


def _make_keys_texts(root: yaml.Node) -> None:
    todo, seen = [root], set()
    while todo:
        node = todo.pop()
        if id(node) in seen:
            continue  # an alias
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            todo += node.value
        elif isinstance(node, yaml.MappingNode):
            node.value = [(_make_text(key), value) for key, value in node.value]
            todo += [value for _, value in node.value]


def _make_text(key: yaml.Node) -> yaml.Node:
    if not isinstance(key, yaml.ScalarNode) or key.tag in (f"{_TAG}str", f"{_TAG}merge"):
        return key
    match construct(key):
        case bool(value):
            text = "true" if value else "false"
        case int(value):
            text = str(value)
        case float(value):
            text = f"{value:.8g}"  # of single precision, as Go does it
        case None:
            raise ValueError(f"line {key.start_mark.line + 1}: null cannot be a key; write it in quotes")
        case _:
            return key
    return yaml.ScalarNode(f"{_TAG}str", text, key.start_mark, key.end_mark)
