"""The Kubernetes client with a gate before it, a time for every answer, and credentials that may change."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
from kubernetes.aio import client
from kubernetes.aio.client.exceptions import ApiException
from kubernetes.aio.client.rest import RESTClientObject

from podium.adapters.gate import Gate
from podium.core.outage import Outcome

log = logging.getLogger(__name__)

_AT_ONCE = 64
_REQUEST_TIMEOUT = 15.0
_PROBE_TIMEOUT = 4.0
# Credentials are read anew at most this often, whoever is refused.
_RENEWAL_REST = 1.0

Reload = Callable[[], Awaitable[Any]]


class GatedApi(client.ApiClient):  # type: ignore[misc]
    """Every request of every API class passes here."""

    def __init__(self, configuration: Any, reload: Reload | None = None) -> None:
        """`reload()`: the configuration anew, from where it came; asked when the server says 401."""
        super().__init__(configuration)
        self.rest_client: Any
        self._reload = reload
        self._renewing = asyncio.Lock()
        self._renewed = float("-inf")
        self._replaced: list[Any] = []
        self.gate = Gate(f"the API server at {configuration.host}", self._probe, at_once=_AT_ONCE)

    async def close(self) -> None:
        """Close what is open, replaced sessions too."""
        for old in self._replaced:
            await old.close()
        await super().close()

    def call_api(self, *arguments: Any, **options: Any) -> Awaitable[Any]:
        """As the client's own; raises its errors, and NotSent while the server is away."""
        if not options.get("_request_timeout"):
            options["_request_timeout"] = _REQUEST_TIMEOUT
        return self._call(arguments, options)

    async def _call(self, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
        begun = asyncio.get_running_loop().time()
        async with self.gate.passing():
            try:
                try:
                    answer = await super().call_api(*arguments, **options)
                except ApiException as error:
                    if error.status != 401 or not await self._renew(begun):
                        raise
                    answer = await super().call_api(*arguments, **options)
            except (ApiException, aiohttp.ClientError, TimeoutError, OSError) as error:
                self.gate.tell(*self._outcome_of(error), after=retry_after(error))
                raise
        self.gate.tell("fine")
        return answer

    async def _renew(self, begun: float) -> bool:
        """Read the credentials anew; whether that was done since a request was begun that was refused."""
        if self._reload is None:
            return False
        async with self._renewing:
            now = asyncio.get_running_loop().time()
            if self._renewed > begun:
                return True
            if now - self._renewed < _RENEWAL_REST:
                return False
            self._renewed = now
            try:
                configuration = await self._reload()
                fresh = RESTClientObject(configuration)
            except Exception as error:  # noqa: BLE001 - a file that is half written has many errors
                log.warning("the credentials of the API server cannot be read anew: %s", error)
                return False
            # What is under way ends with the session that it began with.
            while len(self._replaced) > 1:
                await self._replaced.pop(0).close()
            old: Any = self.rest_client
            self._replaced.append(old)
            self.configuration, self.rest_client = configuration, fresh
            return True

    async def _probe(self) -> tuple[Outcome, str]:
        arguments = ("/readyz", "GET")
        options: dict[str, Any] = {
            "auth_settings": ["BearerToken"],
            "response_types_map": {},
            "_request_timeout": _PROBE_TIMEOUT,
        }
        begun = asyncio.get_running_loop().time()
        try:
            try:
                await super().call_api(*arguments, **options)
            except ApiException as error:
                if error.status != 401 or not await self._renew(begun):
                    raise
                await super().call_api(*arguments, **options)
        except (ApiException, aiohttp.ClientError, TimeoutError, OSError) as error:
            return self._outcome_of(error)
        return "fine", ""

    def _outcome_of(self, error: Exception) -> tuple[Outcome, str]:
        """What an error says of the server; one that it tells of an object says that it is fine."""
        if isinstance(error, ApiException):
            status = int(error.status or 0)
            if status == 401:
                return "refused", "the API server does not take the operator's credentials (HTTP 401)"
            if status >= 500 or status == 429:
                return "broken", f"the API server answers HTTP {status}"
            return "fine", ""
        if isinstance(error, aiohttp.ClientConnectorError):
            why = error.os_error.strerror or error
            return "refused", f"no connection to the API server at {self.configuration.host}: {why}"
        if isinstance(error, TimeoutError):
            return "silent", "the API server did not answer in time"
        return "silent", f"the API server: {type(error).__name__}: {error}"


def retry_after(error: Exception) -> float:
    """Seconds that the server asks to be left alone, if it does."""
    headers = getattr(error, "headers", None) or {}
    try:
        return max(0.0, float(headers.get("Retry-After") or 0.0))
    except (TypeError, ValueError, AttributeError):
        return 0.0
