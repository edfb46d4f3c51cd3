"""HTTP to Conductor: one session, bounded concurrency, and every foreign error translated once."""

import asyncio
import contextlib
import json
import re
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import aiohttp

from podium.adapters.budget import Budget, Traffic
from podium.adapters.conductor_login import Login
from podium.ports import (
    Access,
    Conflict,
    Credentials,
    Gone,
    LoginRefused,
    NotSent,
    OutcomeUnknown,
    PortError,
    Refused,
    RetryLater,
)

_AT_ONCE = 16
_UNLIMITED = 100_000
_REDIRECTS = (301, 302, 303, 307, 308)
_TOKEN = re.compile(r"[\x21-\x7e]+")
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

    @property
    def told(self) -> str:
        """The status and, if there are any, the words."""
        code = f"HTTP {self.status}"
        return code if self.words == code else f"{code}, {self.words}"

    @property
    def is_list(self) -> bool:
        """Whether the body is a JSON list."""
        return isinstance(self._body, list)

    def find(self, key: str) -> object:
        """A member of the body, if that is a JSON object."""
        body = self._body
        return body.get(key) if isinstance(body, dict) else None

    @property
    def _body(self) -> object:
        try:
            return json.loads(self.text)
        except ValueError:
            return None


class ConductorHttp:
    """The transport below `HttpConductor`. Open it with `async with`."""

    def __init__(
        self,
        access: Access | str,
        *,
        timeout: float = 60.0,
        traffic: Traffic | None = None,
        on_refused: Callable[[], None] = lambda: None,
    ) -> None:
        """`access`: a plain URL, with /api, stands for one without a login.

        `timeout`: seconds for a whole answer; a start may take 12 s and more. `traffic`: counts for several
        clients together. `on_refused()`: the server refuses the credentials: are there newer ones?
        Raises Refused if the certificates are none.
        """
        access = Access(access, requests_per_second=_UNLIMITED) if isinstance(access, str) else access
        self.url = access.url.rstrip("/")
        self._timeout = aiohttp.ClientTimeout(total=timeout, connect=5.0)
        self._trust = _trust(access.ca)
        self._login = Login(access.credentials, self._exchange, on_refused=on_refused)
        self._traffic = traffic or Traffic()
        self._budget = Budget(access.requests_per_second, self._traffic)
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._session: aiohttp.ClientSession | None = None
        self.requests = 0
        """Requests made so far."""

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            timeout=self._timeout, connector=aiohttp.TCPConnector(ssl=self._trust)
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    def use(self, credentials: Credentials) -> None:
        """Say who we are in another way from now on."""
        self._login.use(credentials)

    async def close(self) -> None:
        """Let what is under way end, then end; what is asked afterwards raises NotSent."""
        if self._session is None:
            return
        async with contextlib.AsyncExitStack() as turns:
            for _ in range(_AT_ONCE):
                await turns.enter_async_context(self._turns)
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
        headers = await self._login.headers()
        answer = await self._request(method, path, params=params, body=body, headers=headers)
        if answer.status == 401 and self._login.retry(headers):
            headers = await self._login.headers()
            answer = await self._request(method, path, params=params, body=body, headers=headers)
        if answer.status in (401, 403):
            self._login.refused()
            raise LoginRefused(f"Conductor at {self.url} does not let Podium in: {answer.told}")
        return answer

    async def _exchange(self, credentials: Credentials) -> str:
        body = {"keyId": credentials.key_id, "keySecret": credentials.key_secret}
        try:
            answer = await self._request("POST", "/token", body=body, headers=credentials.headers)
        except NotSent:
            raise
        except RetryLater as error:
            raise NotSent(f"no token for it: {error}") from error
        if answer.status == 404:
            raise LoginRefused(
                f"Conductor at {self.url} has no /token: it takes no keys, or the URL is wrong"
            )
        if answer.status >= 500 or answer.status in (408, 429):
            raise NotSent(f"no token from Conductor at {self.url}: {answer.told}")
        token = answer.find("token")
        if answer.status != 200 or not isinstance(token, str) or not _TOKEN.fullmatch(token):
            raise LoginRefused(f"Conductor at {self.url} gives no token for this key: {answer.told}")
        return token

    async def _request(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str],
        params: Mapping[str, str] | None = None,
        body: object = None,
    ) -> Answer:
        assert self._session is not None, "open the client with `async with`"
        async with self._turns:
            await self._budget.take()
            if self._session.closed:
                raise NotSent(f"the connection to Conductor at {self.url} was replaced")
            self.requests += 1
            self._traffic.requests += 1
            async with (
                _translate_errors(self.url),
                self._session.request(
                    method,
                    self.url + path,
                    params=params,
                    json=body if body is not None else None,
                    headers=headers,
                    # Followed, it would carry the credentials to wherever it points, and POST as GET.
                    allow_redirects=False,
                ) as response,
            ):
                if response.status in _REDIRECTS:
                    raise RetryLater(f"Conductor at {self.url} sends {method} {path} elsewhere: wrong URL?")
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


def _trust(ca: str) -> ssl.SSLContext | bool:
    """Only these authorities, if any are given."""
    if not ca:
        return True
    try:
        return ssl.create_default_context(cadata=ca)
    except (ssl.SSLError, ValueError, TypeError) as error:
        raise Refused("these are no certificates in PEM") from error


@contextlib.asynccontextmanager
async def _translate_errors(url: str) -> AsyncIterator[None]:
    try:
        yield
    except aiohttp.ClientConnectorCertificateError as error:
        why = getattr(error.certificate_error, "verify_message", "") or error.certificate_error
        raise NotSent(f"the certificate of Conductor at {url} is not trusted: {why}") from error
    except aiohttp.ClientConnectorError as error:
        raise NotSent(f"no connection to Conductor at {url}: {error.os_error.strerror or error}") from error
    except TimeoutError as error:
        raise RetryLater(f"Conductor at {url} did not answer in time") from error
    except (aiohttp.ClientError, ConnectionError) as error:
        raise RetryLater(f"Conductor at {url}: {type(error).__name__}: {error}") from error
