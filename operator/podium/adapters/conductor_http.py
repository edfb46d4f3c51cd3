"""HTTP to Conductor: one session, bounded concurrency, and every foreign error translated once."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import aiohttp

from podium.ports import (
    Conflict,
    Gone,
    NotSent,
    OutcomeUnknown,
    PortError,
    Refused,
    RetryLater,
)

_AT_ONCE = 16
LONGEST_WORDS = 400


@dataclass(frozen=True)
class Answer:
    """What came back: HTTP status and body."""

    status: int
    text: str

    @property
    def words(self) -> str:
        """What the server says of an error, in its own words."""
        try:
            body = json.loads(self.text)
        except ValueError:
            return f"HTTP {self.status}"
        if not isinstance(body, dict):
            return f"HTTP {self.status}"
        details = [
            f"{item.get('path', '')}: {item.get('message', '')}".strip(": ")
            for item in body.get("validationErrors") or []
        ]
        said = "; ".join(details) or str(body.get("message") or f"HTTP {self.status}")
        return said[:LONGEST_WORDS]


class ConductorHttp:
    """The transport below `HttpConductor`. Open it with `async with`."""

    def __init__(self, url: str, *, timeout: float = 60.0, headers: Mapping[str, str] | None = None) -> None:
        """`url`: with /api. `timeout`: seconds for a whole answer; a start may take 12 s and more."""
        self.url = url.rstrip("/")
        self._timeout = aiohttp.ClientTimeout(total=timeout, connect=5.0)
        self._headers = dict(headers or {})
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._session: aiohttp.ClientSession | None = None
        self.requests = 0
        """Requests made so far."""

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(timeout=self._timeout, headers=self._headers)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def _read(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: object = None,
        **absent: object,
    ) -> Any:
        answer = await self._send(method, path, params=params, body=body)
        if answer.status == 404 and "absent" in absent:
            return absent["absent"]
        raise_for(answer)
        try:
            return json.loads(answer.text)
        except ValueError:
            raise RetryLater(f"Conductor answered {method} {path} with something that is not JSON") from None

    async def _send_once(
        self, method: str, path: str, *, params: Mapping[str, str] | None = None, body: object = None
    ) -> Answer:
        """Send what must not be done twice: NotSent (nothing happened) or OutcomeUnknown (look first)."""
        try:
            return await self._send(method, path, params=params, body=body)
        except NotSent:
            raise
        except RetryLater as error:
            raise OutcomeUnknown(str(error)) from error

    async def _send(
        self, method: str, path: str, *, params: Mapping[str, str] | None = None, body: object = None
    ) -> Answer:
        assert self._session is not None, "open the client with `async with`"
        async with self._turns:
            self.requests += 1
            async with (
                _translate_errors(self.url),
                self._session.request(
                    method, self.url + path, params=params, json=body if body is not None else None
                ) as response,
            ):
                return Answer(response.status, await response.text())


def raise_for(answer: Answer) -> None:
    """Translate a status once: what it means for whoever asked."""
    if answer.status < 300:
        return
    error: type[PortError]
    match answer.status:
        case 404:
            error = Gone
        case 409:
            error = Conflict
        case 408 | 429:
            error = RetryLater
        case status if status < 500:
            error = Refused
        case _:
            error = RetryLater
    raise error(answer.words)


def raise_for_once(answer: Answer) -> None:
    """As `raise_for`, for what must not be done twice: an error of the server is an unknown outcome."""
    if answer.status == 429:
        raise NotSent("Conductor is busy (429)")
    try:
        raise_for(answer)
    except RetryLater as error:
        raise OutcomeUnknown(f"Conductor answered {answer.status}: {error}") from error


@contextlib.asynccontextmanager
async def _translate_errors(url: str) -> AsyncIterator[None]:
    try:
        yield
    except aiohttp.ClientConnectorError as error:
        raise NotSent(f"no connection to Conductor at {url}: {error.os_error.strerror or error}") from error
    except TimeoutError as error:
        raise RetryLater(f"Conductor at {url} did not answer in time") from error
    except (aiohttp.ClientError, ConnectionError) as error:
        raise RetryLater(f"Conductor at {url}: {type(error).__name__}: {error}") from error
