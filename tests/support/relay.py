"""Stands between a worker and Conductor: sees each request, and may hold it up."""

from collections.abc import Awaitable, Callable

import aiohttp
import aiohttp.web

Handler = Callable[[str, dict[str, str]], Awaitable[None]]


class Relay:
    """`before` and `after` are awaited around each request (path, query); `body` is that of the newest."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._runner: aiohttp.web.AppRunner | None = None
        self.before: Handler | None = None
        self.after: Handler | None = None
        self.seen: list[str] = []
        self.body = b""

    async def listen(self, port: int = 0) -> str:
        app = aiohttp.web.Application(client_max_size=2**26)
        app.router.add_route("*", "/api/{path:.*}", self._pass)
        self._runner = aiohttp.web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await aiohttp.web.TCPSite(self._runner, "127.0.0.1", port).start()
        return f"http://127.0.0.1:{self._runner.addresses[0][1]}/api"

    async def close(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _pass(self, request: aiohttp.web.Request) -> aiohttp.web.Response:
        path, query = "/" + request.match_info["path"], dict(request.query)
        body = self.body = await request.read()
        self.seen.append(path)
        if self.before:
            await self.before(path, query)
        async with (
            aiohttp.ClientSession() as session,
            session.request(
                request.method,
                f"{self._url}{path}?{request.query_string}",
                data=body,
                headers={"Content-Type": request.headers.get("Content-Type", "application/json")},
            ) as answer,
        ):
            answered = await answer.read()
            if self.after:
                await self.after(path, query)
            return aiohttp.web.Response(
                body=answered,
                status=answer.status,
                headers={"Content-Type": answer.headers.get("Content-Type", "")},
            )
