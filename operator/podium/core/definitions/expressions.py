"""References and expressions inside config and output → Conductor's `${ref.output.key}`."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from podium.core.definitions.findings import Report, did_you_mean, nearest
from podium.core.definitions.names import RESERVED_REFS, head_of

_TASK_FIELDS = frozenset(
    [
        "callbackAfterSeconds",
        "correlationId",
        "endTime",
        "input",
        "iteration",
        "output",
        "pollCount",
        "reasonForIncompletion",
        "referenceTaskName",
        "retryCount",
        "scheduledTime",
        "startTime",
        "status",
        "taskDefName",
        "taskId",
        "taskType",
        "workerId",
        "workflowInstanceId",
    ]
)
_PLAIN_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SEGMENT = re.compile(
    r"\.?(?P<key>[^.\[\]'\"]+)|\[(?P<index>-?\d+)\]|\[(?P<quote>['\"])(?P<name>.*?)(?P=quote)\]"
)


@dataclass(frozen=True)
class Use:
    """A task whose result a value needs: its reference name, and where that is said."""

    ref: str
    path: str


def translate(
    value: Any, path: str, names: Mapping[str, str], report: Report, *, open_ended: bool = False
) -> tuple[Any, list[Use]]:
    """A value with every reference and node id in it made Conductor's; and the tasks it needs.

    `names` maps what a user may call a node (its id) to its reference name. Nulls in objects are
    dropped: null means absent. `open_ended`: there may be tasks that are only known at run time.
    """
    uses: list[Use] = []
    return _translate(value, path, _Names(names, open_ended=open_ended), report, uses), uses


def read_path(text: str) -> tuple[str | int, ...] | None:
    """`a.b[0]['c d']` → ("a", "b", 0, "c d"); None if it is not a path. A leading dot is fine.

    Braces are in no path: Conductor would end the expression there.
    """
    if "{" in text or "}" in text:
        return None
    parts: list[str | int] = []
    at = 0
    while at < len(text):
        found = _SEGMENT.match(text, at)
        # A key needs a dot before it, except the first one.
        if found is None or (found["key"] and at > 0 and text[at] != "."):
            return None
        parts.append(int(found["index"]) if found["index"] else found["key"] or found["name"] or "")
        at = found.end()
    return tuple(parts)


def write_path(parts: tuple[str | int, ...]) -> str:
    """("a", "b", 0, "c d") → `.a.b[0]['c d']`: what follows `ref.output` in an expression."""
    text = ""
    for part in parts:
        if isinstance(part, int):
            text += f"[{part}]"
        elif _PLAIN_KEY.fullmatch(part):
            text += f".{part}"
        else:
            text += "['" + part.replace("\\", "\\\\").replace("'", "\\'") + "']"
    return text


def find_expressions(text: str) -> Iterator[tuple[int, int]]:
    """(start, end) of every outermost `${…}`; end is -1 for one that is never closed. `$${` is not one."""
    at = 0
    while (start := text.find("${", at)) >= 0:
        if start > 0 and text[start - 1] == "$":
            at = start + 2
            continue
        depth, end = 0, start
        while end < len(text):
            depth += text.startswith("${", end)
            end += 1
            if text[end - 1] == "}":
                depth -= 1
                if depth == 0:
                    break
        else:
            yield start, -1
            return
        yield start, end
        at = end


class _Names:
    """What an expression may begin with."""

    def __init__(self, names: Mapping[str, str], *, open_ended: bool) -> None:
        self.ids = names
        self.open_ended = open_ended
        self._refs = set(names.values())

    def split(self, inside: str) -> tuple[str | None, str]:
        """`node-1.output.x` → ("node_1", ".output.x"); (None, …) if no node has this name."""
        ends = [found.start() for found in re.finditer(r"[.\[]", inside)] + [len(inside)]
        # The longest id wins: ids may have dots.
        for end in reversed(ends):
            if (ref := self.ids.get(inside[:end])) is not None:
                return ref, inside[end:]
        head = inside[: ends[0]]
        return (head, inside[ends[0] :]) if head in self._refs else (None, inside)


def _translate(value: Any, path: str, names: _Names, report: Report, uses: list[Use]) -> Any:
    if isinstance(value, str):
        return _translate_text(value, path, names, report, uses) if "${" in value else value
    if isinstance(value, list):
        return [_translate(item, f"{path}[{index}]", names, report, uses) for index, item in enumerate(value)]
    if isinstance(value, dict):
        if value.get("_type") == "reference":
            return _translate_reference(value, path, names, report, uses)
        if "nodeId" in value and isinstance(value.get("_type"), str):
            report.warning(f"{path}._type", f"{value['_type']!r} means nothing", "write _type: reference")
        return {
            key: _translate(item, f"{path}.{key}", names, report, uses)
            for key, item in value.items()
            if item is not None
        }
    return value


def _translate_reference(
    value: dict[str, Any], path: str, names: _Names, report: Report, uses: list[Use]
) -> str | None:
    node, key = value.get("nodeId"), value.get("outputKey")
    for extra in value.keys() - {"_type", "nodeId", "outputKey"}:
        if guess := nearest(extra, ("nodeId", "outputKey")):
            report.warning(f"{path}.{extra}", f"a reference has no {extra!r}", f"did you mean {guess!r}?")
    if not isinstance(node, str) or not node:
        report.error(path, "the reference does not say which node", "give nodeId")
        return None
    ref = names.ids.get(node)
    if ref is None:
        report.error(f"{path}.nodeId", f"there is no node {node!r}", did_you_mean(node, names.ids))
        return None
    uses.append(Use(ref, f"{path}.nodeId"))
    parts = read_path(str(key)) if key is not None and not isinstance(key, bool) else ()
    if parts is None:
        report.error(f"{path}.outputKey", f"{key!r} is not a path", "write it like imageUrl or images[0].url")
        return None
    return "${" + ref + ".output" + write_path(parts) + "}"


def _translate_text(text: str, path: str, names: _Names, report: Report, uses: list[Use]) -> str:
    done, at = "", 0
    for start, end in find_expressions(text):
        if end < 0:
            report.error(
                path, f"the expression {_short(text[start:])!r} is never closed", "add the missing '}'"
            )
            return text
        inside = text[start + 2 : end - 1]
        done += text[at:start] + "${" + _translate_inside(inside, path, names, report, uses) + "}"
        at = end
    return done + text[at:]


def _translate_inside(inside: str, path: str, names: _Names, report: Report, uses: list[Use]) -> str:
    if "${" in inside:
        inside = _translate_text(inside, path, names, report, uses)
    head = head_of(inside)
    if head in RESERVED_REFS or not inside.strip():
        return inside
    if inside.startswith("${"):
        report.warning(path, f"which task {_short(inside)!r} is can only be known when it runs")
        return inside
    ref, rest = names.split(inside)
    if ref is None:
        say = report.warning if names.open_ended else report.error
        say(path, f"the expression ${{{_short(inside)}}} names no node of this workflow", _hint(head, names))
        return inside
    uses.append(Use(ref, path))
    field = re.match(r"\.(\w+)", rest)
    if field is None or field[1] not in _TASK_FIELDS:
        report.warning(
            path,
            f"${{{_short(inside)}}} is always empty: a task has an input and an output",
            f"write ${{{ref}.output{rest}}}",
        )
    return ref + rest


def _hint(head: str, names: _Names) -> str:
    return did_you_mean(head, [*names.ids, "workflow"])


def _short(text: str) -> str:
    return text if len(text) <= 60 else text[:59] + "…"
