"""Devices, asked over HTTP. A board serves a few connections at once and forgets them when it restarts."""

from types import SimpleNamespace, TracebackType
from typing import Self

import aiohttp

from podium.ports import DevicePage, NoAnswer

_MOST_BYTES = 64 * 1024


class HttpDevices:
    """`podium.ports.Devices` over HTTP. Open it with `async with`."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        trace = aiohttp.TraceConfig()
        trace.on_connection_create_end.append(_note_connection)
        # How many are asked at once is not decided here; they are in the same network, behind no proxy.
        connector = aiohttp.TCPConnector(limit=0, force_close=True, ttl_dns_cache=60)
        self._session = aiohttp.ClientSession(connector=connector, trust_env=False, trace_configs=[trace])
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def ask(self, page: DevicePage) -> bytes | NoAnswer:
        """Ask once: the page, not yet read, or why there is none."""
        assert self._session is not None
        limits = aiohttp.ClientTimeout(total=page.timeout)
        connected: list[bool] = []
        try:
            async with self._session.get(
                page.url, timeout=limits, allow_redirects=False, trace_request_ctx=connected
            ) as response:
                if response.status != 200:
                    return NoAnswer("HttpError", f"{page.url} answered with status {response.status}")
                return await _read(response)
        except TimeoutError:
            if not connected:
                return NoAnswer("Nobody", f"{page.url}: no connection within {page.timeout:g} s")
            return NoAnswer("TooSlow", f"{page.url}: connected, and no answer within {page.timeout:g} s")
        except (aiohttp.ClientConnectionError, OSError) as error:
            return NoAnswer("Nobody", f"{page.url}: {_said(error)}")
        except (aiohttp.ClientError, ValueError) as error:
            return NoAnswer("Unreadable", f"{page.url}: this is no HTTP: {type(error).__name__}")


async def _read(response: aiohttp.ClientResponse) -> bytes:
    """The body, up to a limit: one chunk is what came so far, not all."""
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) >= _MOST_BYTES:
            break
    return bytes(body[:_MOST_BYTES])


async def _note_connection(_: object, context: SimpleNamespace, __: object) -> None:
    context.trace_request_ctx.append(True)


def _said(error: Exception) -> str:
    inner = getattr(error, "os_error", None)
    return (getattr(inner, "strerror", None) or str(error) or type(error).__name__)[:120]
