"""Where people's chat program would listen."""

import aiohttp.web


class Webhook:
    """Remembers what it got; answers with `status`."""

    def __init__(self) -> None:
        self.status = 200
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.url = ""

    async def __aenter__(self) -> "Webhook":
        app = aiohttp.web.Application()
        app.router.add_post("/{secret}", self.take)
        self._runner = aiohttp.web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await aiohttp.web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/T0PS3CRET"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def count(self) -> int:
        return len(self.got)

    async def take(self, request: aiohttp.web.Request) -> aiohttp.web.Response:
        self.got.append((dict(request.headers), await request.read()))
        return aiohttp.web.Response(status=self.status)
