"""A door in front of the real Conductor: TLS, headers, or keys that are exchanged for tokens (as Orkes)."""

import itertools
import ssl
import time
from pathlib import Path

from aiohttp import web

from podium.local.pki import Authority
from support.cutting_proxy import CuttingProxy


class GuardedProxy(CuttingProxy):
    """`url` stands in for Conductor's. What is asked of whoever comes can be changed at any time."""

    def __init__(self, target: str, *, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(target, tls=tls)
        self.wanted_headers: dict[str, str] = {}
        """Every request must carry these."""
        self.keys: dict[str, str] = {}
        """Key id → secret; if there are any, a token of one is wanted."""
        self.tokens: set[str] = set()
        """Those that are taken."""
        self.issued = 0
        """Tokens given out so far."""
        self.answers: list[tuple[float, str, str, int]] = []
        """(time of arrival, method, path, status) of every request, in the order of the answers."""
        self._numbers = itertools.count(1)

    def refused(self) -> int:
        """Requests that were not let in."""
        return sum(status == 401 for *_, status in self.answers)

    def starts(self) -> int:
        """Runs that were started through it."""
        asked = ("POST", "/api/workflow", 200)
        return sum((method, path, status) == asked for _, method, path, status in self.answers)

    def most_within(self, seconds: float) -> int:
        """The most requests that came within any such time."""
        times = [at for at, *_ in self.answers]
        return max((sum(begin <= at < begin + seconds for at in times) for begin in times), default=0)

    async def _pass(self, request: web.Request) -> web.StreamResponse:
        came = time.monotonic()
        answer = await self._guard(request)
        self.answers.append((came, request.method, request.path, answer.status))
        return answer

    async def _guard(self, request: web.Request) -> web.StreamResponse:
        if any(request.headers.get(name) != value for name, value in self.wanted_headers.items()):
            return web.json_response({"message": "who are you?"}, status=401)
        if not self.keys:
            return await super()._pass(request)
        if request.path == "/api/token":
            body = await request.json()
            if request.method != "POST" or self.keys.get(body["keyId"]) != body["keySecret"]:
                return web.json_response({"message": "no such key"}, status=401)
            token = f"token-{next(self._numbers)}"
            self.tokens.add(token)
            self.issued += 1
            return web.json_response({"token": token})
        if request.headers.get("X-Authorization") not in self.tokens:
            return web.json_response({"message": "expired token"}, status=401)
        return await super()._pass(request)


def serve_with(authority: Authority, name: str, host: str = "127.0.0.1") -> ssl.SSLContext:
    """TLS with a certificate of this authority."""
    pair = authority.issue(name, host, hosts=[host])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(str(pair.certificate), str(pair.key))
    return context


def pem_of(path: Path) -> str:
    """A certificate as a Secret carries it."""
    return path.read_text(encoding="ascii")
