"""A proxy in front of a server that can make it go away in every way that servers go away."""

import asyncio
import base64
import ssl
import time
from collections import deque
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import aiohttp
import yaml
from aiohttp import web

from podium.local.pki import Authority
from podium.local.services import free_port

Way = Literal["pass", "refuse", "stall", "cut", "rubbish", "429", "500"]
_SKIPPED = frozenset({"host", "content-length", "transfer-encoding", "connection", "content-encoding"})


class OutageProxy:
    """`url` stands in for the target's; `go(way)` says how the target is away from now on."""

    def __init__(
        self, target: str, *, serve: ssl.SSLContext | None = None, reach: ssl.SSLContext | None = None
    ) -> None:
        """`serve`: how it is reached by TLS. `reach`: how it reaches the target by TLS."""
        parts = urlsplit(target)
        self._target = f"{parts.scheme}://{parts.netloc}"
        self._serve, self._reach = serve, reach
        self._port = free_port()
        self.url = f"{'https' if serve else 'http'}://127.0.0.1:{self._port}{parts.path}"
        self.way: Way = "pass"
        self.seen: deque[float] = deque(maxlen=20_000)
        """When requests came, whatever became of them."""
        self._epoch = 0
        self._flying: dict[int, web.Request] = {}
        self._site: web.TCPSite | None = None

    async def __aenter__(self) -> "OutageProxy":
        connector = aiohttp.TCPConnector(ssl=self._reach or True, limit=0)
        self._session = aiohttp.ClientSession(
            connector=connector, auto_decompress=False, timeout=aiohttp.ClientTimeout(total=None)
        )
        application = web.Application(client_max_size=64 * 1024 * 1024)
        application.router.add_route("*", "/{path:.*}", self._pass)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await self._listen()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._hang_up()
        await self._runner.cleanup()
        await self._session.close()

    async def go(self, way: Way) -> None:
        """From now on. What stands is broken off, or silent for ever; "pass" only lets new ones through."""
        if self.way == "refuse" and way != "refuse":
            await self._listen()
        self.way = way
        self._epoch += 1
        if way == "stall":
            return
        if way == "refuse" and self._site is not None:
            await self._site.stop()
            self._site = None
        if way != "pass":
            self._hang_up()

    def silence(self) -> None:
        """What stands is silent for ever; what comes new passes: a network that dropped its connections."""
        self._epoch += 1

    def busiest_second(self, since: float) -> int:
        """The most requests within any second since then (time.monotonic())."""
        times = [at for at in self.seen if at >= since]
        return max((sum(first <= at < first + 1.0 for at in times) for first in times), default=0)

    async def _listen(self) -> None:
        self._site = web.TCPSite(
            self._runner, "127.0.0.1", self._port, ssl_context=self._serve, reuse_address=True
        )
        await self._site.start()

    def _hang_up(self) -> None:
        for request in list(self._flying.values()):
            if request.transport is not None:
                request.transport.abort()

    async def _pass(self, request: web.Request) -> web.StreamResponse:
        self.seen.append(time.monotonic())
        self._flying[id(request)] = request
        try:
            return await self._answer(request)
        finally:
            del self._flying[id(request)]

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        match self.way:
            case "stall":
                await asyncio.Event().wait()
            case "cut" | "refuse":  # a connection that stood already
                return _abort(request)
            case "rubbish":
                return web.Response(
                    text="<html>this is not what you look for</html>", content_type="text/html"
                )
            case "429":
                return web.Response(status=429, headers={"Retry-After": "1"}, text="too many")
            case "500":
                return web.json_response({"kind": "Status", "message": "out of order"}, status=500)
            case "pass":
                pass
        return await self._relay(request, body)

    async def _relay(self, request: web.Request, body: bytes) -> web.StreamResponse:
        epoch = self._epoch
        headers = {name: text for name, text in request.headers.items() if name.lower() not in _SKIPPED}
        try:
            async with self._session.request(
                request.method, self._target + request.raw_path, data=body or None, headers=headers
            ) as answer:
                told = {name: text for name, text in answer.headers.items() if name.lower() not in _SKIPPED}
                response = web.StreamResponse(status=answer.status, headers=told)
                if "Content-Encoding" in answer.headers:
                    response.headers["Content-Encoding"] = answer.headers["Content-Encoding"]
                if self._epoch == epoch:
                    await response.prepare(request)
                async for chunk in answer.content.iter_any():
                    if self._epoch != epoch:
                        break
                    await response.write(chunk)
        except (aiohttp.ClientConnectionError, ConnectionError):
            return _abort(request)  # one of the two sides is gone
        if self._epoch != epoch:
            await asyncio.Event().wait()
        await response.write_eof()
        return response


def _abort(request: web.Request) -> web.Response:
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


def _context(cluster: dict[str, str], user: dict[str, str], folder: Path) -> ssl.SSLContext:
    files = {}
    for name, given in (
        ("certificate-authority", cluster),
        ("client-certificate", user),
        ("client-key", user),
    ):
        if f"{name}-data" in given:
            files[name] = folder / f"proxy-{name}.pem"
            files[name].write_bytes(base64.b64decode(given[f"{name}-data"]))
        elif name in given:
            files[name] = Path(given[name])
    context = ssl.create_default_context(cafile=str(files["certificate-authority"]))
    if "client-key" in files:
        context.load_cert_chain(files["client-certificate"], files["client-key"])
    return context


def api_proxy(plane_kubeconfig: Path, folder: Path, *, token: str = "") -> tuple[OutageProxy, Path]:
    """A proxy before the API server, and a kubeconfig that leads to it.

    Without a token whoever comes is the admin of the control plane; with one the proxy has no
    certificate of its own, and the token is what counts.
    """
    authority = Authority(folder, "proxy", datetime.now(UTC))
    own = authority.issue("proxy", "proxy", hosts=("127.0.0.1", "localhost"))
    serve = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    serve.load_cert_chain(own.certificate, own.key)
    content = yaml.safe_load(plane_kubeconfig.read_text())
    cluster, user = content["clusters"][0]["cluster"], content["users"][0]["user"]
    proxy = OutageProxy(
        cluster["server"], serve=serve, reach=_context(cluster, {} if token else user, folder)
    )
    kubeconfig = folder / "proxied.kubeconfig"
    write_token(kubeconfig, proxy.url, authority.certificate, token)
    return proxy, kubeconfig


def write_token(kubeconfig: Path, url: str, authority: Path, token: str) -> None:
    """A kubeconfig for this server, with this token if there is one."""
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "proxied",
        "clusters": [{"name": "c", "cluster": {"server": url, "certificate-authority": str(authority)}}],
        "users": [{"name": "u", "user": {"token": token} if token else {}}],
        "contexts": [{"name": "proxied", "context": {"cluster": "c", "user": "u"}}],
    }
    half = kubeconfig.with_suffix(".half")
    half.write_text(yaml.safe_dump(content))
    half.replace(kubeconfig)
