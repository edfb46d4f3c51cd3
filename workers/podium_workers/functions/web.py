"""Functions that speak HTTP."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp

from podium_workers.functions.shelf import task
from podium_workers.runtime.context import Reject, Retry

LARGEST_BODY = 1_000_000
LONGEST_TIMEOUT = 600.0
_SAFE_HEADERS = ("content-type", "content-length", "etag", "last-modified", "location", "date")
_TOO_MANY = 429
_TRY_AGAIN = frozenset({408, 425, _TOO_MANY})


@task("http_get")
async def http_get(
    url: str,
    headers: dict[str, str] | None = None,
    query: dict[str, str] | None = None,
    timeout: float = 30.0,
) -> dict[str, Any]:
    """Fetches `url`: status, headers, body (JSON parsed), size. 5xx is tried again, 4xx ends the task."""
    return await http_request(url, "GET", headers, query, None, timeout)


@task("http_request")
async def http_request(
    url: str,
    method: str = "GET",
    headers: dict[str, str] | None = None,
    query: dict[str, str] | None = None,
    body: Any = None,
    timeout: float = 30.0,
) -> dict[str, Any]:
    """Any HTTP request; a body that is not text is sent as JSON. At most 1 MB of the answer, 10 minutes.

    5xx, 408, 425, 429, time-outs and broken connections are failures that a retry may mend; any other 4xx,
    a bad address and a larger answer end the task for good.
    """
    sent: dict[str, Any] = (
        {"data": body} if isinstance(body, str) else {"json": body} if body is not None else {}
    )
    limit = aiohttp.ClientTimeout(total=min(max(timeout, 0.1), LONGEST_TIMEOUT))
    try:
        async with (
            aiohttp.ClientSession(timeout=limit) as session,
            session.request(method.upper(), url, headers=headers, params=query, **sent) as response,
        ):
            answer = await _bounded(response.content)
            return _verdict(response, answer)
    except (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError, ValueError) as error:
        raise Reject(f"no request can be made of this: {error}") from None
    except TimeoutError:
        raise Retry(f"no answer within {limit.total:g} s") from None
    except aiohttp.ClientError as error:
        raise Retry(f"{type(error).__name__}: {error}") from None


def _verdict(response: aiohttp.ClientResponse, answer: bytes) -> dict[str, Any]:
    status = response.status
    text = _decoded(answer, response.charset or "utf-8")
    if status >= 400:
        kind = Retry if status >= 500 or status in _TRY_AGAIN else Reject
        reason = f"{status} {response.reason} from {response.url.host}"
        raise kind(reason, output={"status": status, "body": text[:2000]})
    body: Any = text
    if "json" in response.content_type and text:
        try:
            body = json.loads(text)
        except ValueError:
            body = text
    headers = {name: response.headers[name] for name in _SAFE_HEADERS if name in response.headers}
    return {"status": status, "headers": headers, "body": body, "size": len(answer)}


def _decoded(answer: bytes, charset: str) -> str:
    """The text, if need be with replacement characters. A charset that is none counts as UTF-8."""
    try:
        return answer.decode(charset, "replace")
    except (LookupError, ValueError):  # unknown, not one for text, or one without replacements (idna)
        return answer.decode("utf-8", "replace")


async def _bounded(content: aiohttp.StreamReader) -> bytes:
    parts = bytearray()
    async for part in content.iter_any():
        parts += part
        if len(parts) > LARGEST_BODY:
            raise Reject(f"the answer is larger than {LARGEST_BODY} bytes")
        await asyncio.sleep(0)
    return bytes(parts)
