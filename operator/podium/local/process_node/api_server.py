"""What the stand-in node says to the API server: plain HTTP with the client certificate of a kubeconfig."""

from __future__ import annotations

import base64
import json
import ssl
import tempfile
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp
import yaml

Json = dict[str, Any]

_SECONDS_TO_ANSWER = 20.0
_SECONDS_OF_A_WATCH = 240
_STRATEGIC = "application/strategic-merge-patch+json"


class ApiError(Exception):
    """A request was not carried out. `status` is HTTP's, 0 if no answer came."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status

    @property
    def is_gone(self) -> bool:
        """There is no such object (any more)."""
        return self.status == 404


class ApiServer:
    """A session. Every method raises ApiError."""

    def __init__(self, kubeconfig: Path) -> None:
        config = yaml.safe_load(kubeconfig.read_text())
        self.cluster: Json = config["clusters"][0]["cluster"]
        self._user: Json = config["users"][0]["user"]
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            self.cluster["server"],
            connector=aiohttp.TCPConnector(limit=0, ssl=_trust(self.cluster, self._user)),
            timeout=aiohttp.ClientTimeout(total=_SECONDS_TO_ANSWER),
            # One line of a watch is one object.
            read_bufsize=4 * 1024**2,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def get(self, path: str, **query: str) -> Json:
        return await self._ask("GET", path, query=query)

    async def create(self, path: str, body: Json) -> Json:
        return await self._ask("POST", path, body)

    async def patch(self, path: str, body: Json) -> Json:
        """A strategic merge patch: conditions are merged by their type."""
        return await self._ask("PATCH", path, body, content_type=_STRATEGIC)

    async def delete(self, path: str, body: Json) -> Json:
        return await self._ask("DELETE", path, body)

    async def watch(self, path: str, version: str, **query: str) -> AsyncIterator[Json]:
        """Events from this version on, until the server ends the watch."""
        query |= {"watch": "1", "resourceVersion": version, "timeoutSeconds": str(_SECONDS_OF_A_WATCH)}
        patience = aiohttp.ClientTimeout(total=None, sock_read=_SECONDS_OF_A_WATCH + 30)
        try:
            async with self._now().get(path, params=query, timeout=patience) as answer:
                await _raise_for(answer)
                async for line in answer.content:
                    yield json.loads(line)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise ApiError(0, f"the watch broke off: {error!r}") from error

    async def _ask(
        self,
        method: str,
        path: str,
        body: Json | None = None,
        *,
        query: Mapping[str, str] | None = None,
        content_type: str = "application/json",
    ) -> Json:
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": content_type}
        try:
            async with self._now().request(method, path, data=data, headers=headers, params=query) as answer:
                await _raise_for(answer)
                found: Json = await answer.json()
                return found
        except (aiohttp.ClientError, TimeoutError) as error:
            raise ApiError(0, f"{method} {path}: {error!r}") from error

    def _now(self) -> aiohttp.ClientSession:
        assert self._session is not None, "used outside of its `async with`"
        return self._session


async def _raise_for(answer: aiohttp.ClientResponse) -> None:
    if answer.status >= 400:
        text = await answer.text()
        try:
            text = json.loads(text)["message"]
        except (ValueError, KeyError, TypeError):
            text = text[:200]
        raise ApiError(answer.status, text)


def _trust(cluster: Json, user: Json) -> ssl.SSLContext:
    """The kubeconfig of podium.local has everything inside; ssl takes a client's key from files only."""
    authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
    context = ssl.create_default_context(cadata=authority)
    with tempfile.NamedTemporaryFile() as pair:  # made with mode 0600
        for name in ("client-certificate-data", "client-key-data"):
            pair.write(base64.b64decode(user[name]))
        pair.flush()
        context.load_cert_chain(pair.name)
    return context
