"""The body of a server-side apply, as the API server can read it."""

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


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    return _REPLACEMENT if code in _SURROGATES else f"\\u{code:04x}"
