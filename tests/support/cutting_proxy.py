"""A proxy that loses a request before it arrives, or its answer after it was carried out."""

import itertools
import ssl
from collections import Counter
from typing import Self
from urllib.parse import urlsplit

import aiohttp
from aiohttp import web


class CuttingProxy:
    """`url` stands in for Conductor's; `cut` says what is lost."""

    def __init__(self, target: str, *, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        parts = urlsplit(target)
        self._target = f"{parts.scheme}://{parts.netloc}"
        self._path = parts.path
        self.url = ""
        self.cuts: Counter[str] = Counter()
        self._rule: tuple[str, str] | None = None
        self._turn = itertools.cycle(["none"])

    def cut(self, method: str, path: str, *, every: list[str]) -> None:
        """In turn for these requests: "answer" is lost, "request" is lost, "none" passes."""
        self._rule = (method, path)
        self._turn = itertools.cycle(every)

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession()
        application = web.Application(client_max_size=64 * 1024 * 1024)
        application.router.add_route("*", "/{path:.*}", self._pass)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=self._tls)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"{'https' if self._tls else 'http'}://{host}:{port}{self._path}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()
        await self._runner.cleanup()

    async def _pass(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        loses = next(self._turn) if self._rule == (request.method, request.path) else "none"
        if loses != "none":
            self.cuts[loses] += 1
        if loses == "request":
            _hang_up(request)
            return web.Response()
        headers = {"Content-Type": request.headers.get("Content-Type", "application/json")}
        async with self._session.request(
            request.method, self._target + request.raw_path, data=body, headers=headers
        ) as answer:
            text = await answer.read()
            if loses == "answer":
                _hang_up(request)
                return web.Response()
            return web.Response(
                status=answer.status,
                body=text,
                headers={"Content-Type": answer.headers.get("Content-Type", "text/plain")},
            )


def _hang_up(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()
