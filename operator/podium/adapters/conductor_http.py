"""HTTP to Conductor: one session, bounded concurrency, and every foreign error translated once."""

import asyncio
import contextlib
import copy
import re
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import aiohttp

from podium.adapters.budget import Budget, Traffic
from podium.adapters.conductor_answers import Answer, TooLong, answer_of, parse_retry_after, raise_for
from podium.adapters.conductor_login import Login
from podium.adapters.gate import Gate
from podium.core.outage import Outcome
from podium.ports import (
    Access,
    Credentials,
    LoginRefused,
    NotSent,
    Outage,
    OutcomeUnknown,
    Refused,
    RetryLater,
)

_AT_ONCE = 16
_PROBE_TIMEOUT = 4.0
# What may be asked again is given up sooner: its connection may have died in an outage that was too
# short to be noticed.
_LOOK_TIMEOUT = 20.0
_UNLIMITED = 100_000
_REDIRECTS = (301, 302, 303, 307, 308)
_TOKEN = re.compile(r"[\x21-\x7e]+")


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
        self._look_timeout = aiohttp.ClientTimeout(total=min(timeout, _LOOK_TIMEOUT), connect=5.0)
        self._trust = _trust(access.ca)
        self._login = Login(access.credentials, self._exchange, on_refused=on_refused)
        self._traffic = traffic or Traffic()
        self._budget = Budget(access.requests_per_second, self._traffic)
        self.gate = Gate(f"Conductor at {self.url}", self._probe, at_once=_AT_ONCE)
        self._open = contextlib.AsyncExitStack()
        self._session: aiohttp.ClientSession | None = None
        self.mark = "podium"
        """Name of the task definition that marks its database; nobody polls it."""
        self.until: float | None = None
        """When calls are given up, by the loop's clock; None: each after its own time."""

    @property
    def requests(self) -> int:
        """Requests made so far."""
        return self.gate.passed

    @property
    def outage(self) -> Outage | None:
        """Since when it is away, if it is. While it is, calls fail at once with NotSent."""
        return self.gate.outage

    def within(self, seconds: float) -> Self:
        """The same server, for calls that together may take so long; then RetryLater."""
        hurried = copy.copy(self)
        hurried.until = asyncio.get_running_loop().time() + seconds
        return hurried

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            timeout=self._timeout, connector=aiohttp.TCPConnector(ssl=self._trust)
        )
        await self._open.enter_async_context(self._session)
        await self._open.enter_async_context(self.gate.minded())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._open.aclose()

    def use(self, credentials: Credentials) -> None:
        """Say who we are in another way from now on."""
        self._login.use(credentials)

    async def close(self) -> None:
        """Let what is under way end, then end; what is asked afterwards raises NotSent."""
        async with self.gate.emptied():
            await self._open.aclose()

    async def _read(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: object = None,
        **absent: object,
    ) -> Any:
        answer = await self._send(method, path, params=params, body=body, wants_json=True)
        if "absent" in absent and answer.status == 404 and answer.is_its_own and not answer.is_no_endpoint:
            return absent["absent"]
        raise_for(answer)
        if "absent" in absent and answer.status == 204:
            return absent["absent"]  # what the log of a task without lines answers
        if answer.body is None:
            raise RetryLater(f"Conductor answered {method} {path} with something that is not JSON")
        return answer.body

    async def _send_once(
        self, method: str, path: str, *, params: Mapping[str, str] | None = None, body: object = None
    ) -> Answer:
        """Send what must not be done twice: NotSent (nothing happened) or OutcomeUnknown (look first)."""
        try:
            return await self._send(method, path, params=params, body=body, patient=True)
        except NotSent:
            raise
        except RetryLater as error:
            raise OutcomeUnknown(str(error)) from error

    async def _send(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: object = None,
        patient: bool = False,
        wants_json: bool = False,
    ) -> Answer:
        """`patient`: it is waited for even when the server goes away meanwhile."""

        async def ask(headers: Mapping[str, str]) -> Answer:
            return await self._request(
                method,
                path,
                headers=headers,
                params=params,
                body=body,
                patient=patient,
                wants_json=wants_json,
            )

        headers = await self._login.headers()
        answer = await ask(headers)
        if answer.status == 401 and self._login.retry(headers):
            headers = await self._login.headers()
            answer = await ask(headers)
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
        patient: bool = False,
        wants_json: bool = True,
    ) -> Answer:
        assert self._session is not None, "open the client with `async with`"
        async with (
            self._translate_errors(),
            asyncio.timeout_at(self.until),
            self.gate.passing(patient=patient),
        ):
            await self._budget.take()
            if self._session.closed:
                raise NotSent(f"the connection to Conductor at {self.url} was replaced")
            self._traffic.requests += 1
            async with self._session.request(
                method,
                self.url + path,
                params=params,
                json=body if body is not None else None,
                headers=headers,
                timeout=self._timeout if patient else self._look_timeout,
                # Followed, it would carry the credentials to wherever it points, and POST as GET.
                allow_redirects=False,
            ) as response:
                if response.status in _REDIRECTS:
                    raise RetryLater(f"Conductor at {self.url} sends {method} {path} elsewhere: wrong URL?")
                answer = await answer_of(response)
        self.gate.tell(*answer.outcome(wants_json=wants_json), after=parse_retry_after(answer.retry_after))
        return answer

    def _mark_path(self) -> str:
        return f"/metadata/taskdefs/{quote(self.mark, safe='')}"

    async def _probe(self) -> tuple[Outcome, str]:
        assert self._session is not None
        try:
            headers = await self._login.headers()
        except NotSent:
            headers = {}  # there is no token while it is away: being told so is an answer too
        self._traffic.requests += 1
        limit = aiohttp.ClientTimeout(total=_PROBE_TIMEOUT)
        try:
            async with self._session.get(
                self.url + self._mark_path(), timeout=limit, headers=headers, allow_redirects=False
            ) as response:
                answer = await answer_of(response)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            return self._outcome_of(error)
        except TooLong as error:
            return "broken", str(error)
        return answer.outcome(wants_json=True)

    @contextlib.asynccontextmanager
    async def _translate_errors(self) -> AsyncIterator[None]:
        try:
            yield
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            outcome, why = self._outcome_of(error)
            if not (isinstance(error, TimeoutError) and self._is_hurried_out()):
                self.gate.tell(outcome, why)
            words = self.outage.message if self.outage else why
            not_sent = outcome == "refused" or isinstance(error, aiohttp.ConnectionTimeoutError)
            raise (NotSent if not_sent else RetryLater)(words) from error

    def _outcome_of(self, error: Exception) -> tuple[Outcome, str]:
        """What a request that was not answered says of the server."""
        if isinstance(error, aiohttp.ClientConnectorCertificateError):
            why = getattr(error.certificate_error, "verify_message", "") or error.certificate_error
            return "refused", f"the certificate of Conductor at {self.url} is not trusted: {why}"
        if isinstance(error, aiohttp.ClientConnectorError):
            return "refused", f"no connection to Conductor at {self.url}: {error.os_error.strerror or error}"
        if isinstance(error, TimeoutError):
            return "silent", f"Conductor at {self.url} did not answer in time"
        return (
            "silent",
            f"the connection to Conductor at {self.url} broke: {str(error) or type(error).__name__}",
        )

    def _is_hurried_out(self) -> bool:
        return self.until is not None and asyncio.get_running_loop().time() >= self.until


def _trust(ca: str) -> ssl.SSLContext | bool:
    """Only these authorities, if any are given."""
    if not ca:
        return True
    try:
        return ssl.create_default_context(cadata=ca)
    except (ssl.SSLError, ValueError, TypeError) as error:
        raise Refused("these are no certificates in PEM") from error
