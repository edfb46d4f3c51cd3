"""A git server over HTTP that may want a login, and remembers what it was told."""

import asyncio
import base64
import os
from pathlib import Path

import aiohttp.web


class GitServer:
    """Serves the repositories below a folder by git's own `http-backend`."""

    def __init__(
        self, folder: Path, login: tuple[str, str] | None = None, redirect: "GitServer | None" = None
    ) -> None:
        self.folder = folder
        self.login = login
        self._redirect = redirect
        self.seen: list[tuple[str, str]] = []
        """(path, Authorization) of each request."""
        self._runner: aiohttp.web.AppRunner | None = None

    async def __aenter__(self) -> "GitServer":
        app = aiohttp.web.Application(client_max_size=2**26)
        app.router.add_route("*", "/{path:.*}", self._serve)
        self._runner = aiohttp.web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await aiohttp.web.TCPSite(self._runner, "127.0.0.1", 0).start()
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    @property
    def url(self) -> str:
        assert self._runner is not None
        return f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def _serve(self, request: aiohttp.web.Request) -> aiohttp.web.Response:
        told = request.headers.get("Authorization", "")
        self.seen.append((request.path, told))
        if self._redirect is not None:
            raise aiohttp.web.HTTPFound(f"{self._redirect.url}{request.path_qs}")
        if self.login is not None:
            wanted = base64.b64encode(":".join(self.login).encode()).decode()
            if told != f"Basic {wanted}":
                return aiohttp.web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="git"'})
        process = await asyncio.create_subprocess_exec(
            "git",
            "http-backend",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env={
                "PATH": os.environ["PATH"],
                "GIT_PROJECT_ROOT": str(self.folder),
                "GIT_HTTP_EXPORT_ALL": "1",
                "GIT_CONFIG_COUNT": "1",
                "GIT_CONFIG_KEY_0": "safe.directory",
                "GIT_CONFIG_VALUE_0": "*",
                "GIT_PROTOCOL": request.headers.get("Git-Protocol", ""),
                "REQUEST_METHOD": request.method,
                "PATH_INFO": request.path,
                "QUERY_STRING": request.query_string,
                "CONTENT_TYPE": request.headers.get("Content-Type", ""),
                "HTTP_CONTENT_ENCODING": request.headers.get("Content-Encoding", ""),
                "REMOTE_ADDR": "127.0.0.1",
            },
        )
        answer, _ = await process.communicate(await request.read())
        head, _, body = answer.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().splitlines() if ": " in line)
        status = int(headers.pop("Status", "200").split()[0])
        return aiohttp.web.Response(status=status, headers=headers, body=body)
