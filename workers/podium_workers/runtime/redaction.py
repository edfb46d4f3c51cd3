"""Takes secrets out of what is said about a failure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

_SECRET_KEY = re.compile(r"passw|secret|token|api.?key|authorization|credential|private.?key", re.IGNORECASE)
_USERINFO = re.compile(r"(?<=://)[^/\s@]+@")
_BEARER = re.compile(r"\b(bearer|basic)\s+[\w.~+/=-]{8,}", re.IGNORECASE)
_SHORTEST = 4


def redact(text: str, secrets: Iterable[str]) -> str:
    """`text` with each of the secrets, and what looks like credentials in URLs and headers, as ***."""
    for secret in sorted(set(secrets), key=len, reverse=True):
        if len(secret) >= _SHORTEST:
            text = text.replace(secret, "***")
    return _BEARER.sub(r"\1 ***", _USERINFO.sub("***@", text))


def find_secrets(data: Mapping[str, Any]) -> Iterator[str]:
    """The texts in a task's input whose keys say that they are secret, at any depth."""
    pending: list[tuple[bool, object]] = [(False, data)]
    while pending:
        secret, value = pending.pop()
        if isinstance(value, str) and secret:
            yield value
        elif isinstance(value, Mapping):
            pending.extend(
                (secret or bool(_SECRET_KEY.search(str(key))), item) for key, item in value.items()
            )
        elif isinstance(value, list):
            pending.extend((secret, item) for item in value)
