"""Server-side apply: its body as the API server can read it, and what it owns."""

import json
import re
from typing import Any

# With a parameter, because the client writes JSON of its own to the type without one.
CONTENT_TYPE = "application/apply-patch+yaml; charset=utf-8"
_NOT_PLAIN = re.compile("[\x7f-\uffff]")
_SURROGATES = range(0xD800, 0xE000)
_REPLACEMENT = "\\ufffd"


def encode(body: Any) -> bytes:
    """JSON that is YAML too: the API server takes such a body for YAML, which has other escapes than JSON.

    Characters beyond U+FFFF stand as they are, since YAML knows no surrogate pairs; all others that are not
    ASCII are escaped, since some of them must not stand in YAML. Half a pair becomes U+FFFD.
    """
    return _NOT_PLAIN.sub(_escape, json.dumps(body, ensure_ascii=False)).encode()


def own_by_apply(managed_fields: list[dict[str, Any]], manager: str) -> list[dict[str, Any]]:
    """The JSON patch after which what a manager made is owned as if it had been applied; []: it is.

    An apply removes what an earlier one owned and it leaves out; what the same manager set otherwise stays.
    """
    mine = [
        (place, entry.get("operation"))
        for place, entry in enumerate(managed_fields)
        if entry.get("manager") == manager and not entry.get("subresource")
    ]
    made = next((place for place, operation in mine if operation == "Update"), None)
    if made is None:
        return []
    path = f"/metadata/managedFields/{made}"
    patch: list[dict[str, Any]] = [
        {"op": "test", "path": f"{path}/manager", "value": manager},
        {"op": "test", "path": f"{path}/operation", "value": "Update"},
        {"op": "replace", "path": f"{path}/operation", "value": "Apply"},
    ]
    # What was applied since is applied again.
    applied = [place for place, operation in mine if operation == "Apply"]
    return patch + [
        {"op": "remove", "path": f"/metadata/managedFields/{place}"} for place in reversed(applied)
    ]


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    return _REPLACEMENT if code in _SURROGATES else f"\\u{code:04x}"
