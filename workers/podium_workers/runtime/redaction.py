"""Takes secrets out of what leaves a worker: reasons, logs, and results that repeat what a Secret holds."""

from __future__ import annotations

import base64
import json
import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import quote, quote_plus

from podium_workers.services.references import is_reference

HIDDEN = "***"
_SECRET_KEY = re.compile(r"passw|secret|token|api.?key|authorization|credential|private.?key", re.IGNORECASE)
_USERINFO = re.compile(r"(?<=://)[^/\s@]+@")
_BEARER = re.compile(r"\b(bearer|basic)\s+[\w.~+/=-]{8,}", re.IGNORECASE)
_SHORTEST = 4
_SHORTEST_LINE = 8


def redact(text: str, secrets: Iterable[str]) -> str:
    """`text` with each of the secrets, and what looks like credentials in URLs and headers, as ***."""
    return _BEARER.sub(rf"\1 {HIDDEN}", _USERINFO.sub(f"{HIDDEN}@", hide(text, secrets)))


def hide(text: str, secrets: Iterable[str]) -> str:
    """`text` with each of the secrets as ***, the longest first; those below four characters stay."""
    for secret in sorted(set(secrets), key=len, reverse=True):
        if len(secret) >= _SHORTEST and secret in text:
            text = text.replace(secret, HIDDEN)
    return text


def scrub(value: Any, secrets: Iterable[str]) -> Any:
    """A result without the secrets at any depth, keys too; a short one only where it is all there is."""
    known = frozenset(secrets)
    if isinstance(value, str):
        return HIDDEN if value in known else hide(value, known)
    if isinstance(value, Mapping):
        return {scrub(key, known): scrub(item, known) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [scrub(item, known) for item in value]
    if isinstance(value, (int, float)) and not isinstance(value, bool) and str(value) in known:
        return HIDDEN
    return value


def spellings(secret: str) -> Iterator[str]:
    """A secret as it may turn up: as it is, in parts of several lines, quoted, in JSON, in base64."""
    yield secret
    yield secret.strip()
    if "\n" in secret.strip():
        yield from (line.strip() for line in secret.splitlines() if len(line.strip()) >= _SHORTEST_LINE)
    for plain in {secret, secret.strip()}:
        yield json.dumps(plain)[1:-1]
        yield json.dumps(plain, ensure_ascii=False)[1:-1]
        yield repr(plain)[1:-1]
        yield quote(plain, safe="")
        yield quote_plus(plain)
        yield base64.b64encode(plain.encode()).decode()
        yield base64.urlsafe_b64encode(plain.encode()).decode()


def find_secrets(data: Mapping[str, Any]) -> Iterator[str]:
    """The texts in a task's input whose keys say that they are secret, at any depth.

    References are left out: the name of a Secret is none, and people need it to find what is wrong.
    """
    pending: list[tuple[bool, object]] = [(False, data)]
    while pending:
        secret, value = pending.pop()
        if isinstance(value, str) and secret:
            yield value
        elif isinstance(value, Mapping) and not is_reference(value):
            pending.extend(
                (secret or bool(_SECRET_KEY.search(str(key))), item) for key, item in value.items()
            )
        elif isinstance(value, list):
            pending.extend((secret, item) for item in value)


class RedactingFormatter(logging.Formatter):
    """Keeps the values of Secrets out of the process's own log, tracebacks included."""

    def __init__(self, layout: str, known: Iterable[str]) -> None:
        """`known`: is read anew for each record."""
        super().__init__(layout)
        self._known = known
        self._spelled: dict[str, tuple[str, ...]] = {}

    def format(self, record: logging.LogRecord) -> str:
        """The line, with *** where a value was."""
        return self.hidden(super().format(record))

    def hidden(self, text: str) -> str:
        """The text, with *** where a value was."""
        known = list(self._known)  # in one go: other threads add to it
        if list(self._spelled) != known:
            self._spelled = {secret: tuple(spellings(secret)) for secret in known}
        return hide(text, [spelling for spelled in self._spelled.values() for spelling in spelled])
