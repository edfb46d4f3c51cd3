"""A file from a web server, whole or not at all; what stands in its way is said without what is secret."""

from __future__ import annotations

import aiohttp

from podium_workers.runtime.context import Reject, Retry

SECONDS = 300.0
_TRY_AGAIN = frozenset({408, 425, 429})


async def download(url: str, most_bytes: int, token: str = "") -> bytes:
    """What is at `url`, at most `most_bytes`. Raises Reject, and Retry for what may pass."""
    host = host_of(url)
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=SECONDS)) as session,
            # A token must not follow a redirection; without one it may lead anywhere.
            session.get(url, headers=headers, allow_redirects=not token) as response,
        ):
            if response.status >= 500 or response.status in _TRY_AGAIN:
                raise Retry(f"{host} answered {response.status}")
            if response.status != 200:
                raise Reject(f"{host} answered {response.status}: is the url right?")
            data = bytearray()
            while len(data) <= most_bytes and not response.content.at_eof():
                data += await response.content.read(most_bytes + 1 - len(data))
    except (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError, ValueError):
        raise Reject("url: not an address like https://host/file") from None
    except TimeoutError:
        raise Retry(f"{host} has not given all of it within {SECONDS:g} s") from None
    except aiohttp.ClientError as error:
        raise Retry(f"{host} cannot be reached: {type(error).__name__}") from None
    if len(data) > most_bytes:
        raise Reject(f"what is at {host} is larger than {most_bytes >> 20} MiB, the most that is taken")
    return bytes(data)


def host_of(url: str) -> str:
    """The host of a URL, without what may be secret in it."""
    return url.partition("://")[2].partition("/")[0].rpartition("@")[2][:100] or "the url"
