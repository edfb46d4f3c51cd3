"""Who we are, said to Conductor: fixed headers, or a token that is fetched, kept and renewed."""

import asyncio
import base64
import binascii
import json
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from podium.ports import Credentials, LoginRefused, NotSent

log = logging.getLogger(__name__)

TOKEN_HEADER = "X-Authorization"  # noqa: S105 - a header's name
# Orkes' tokens live for hours; one whose life is not known is renewed after this long.
_LONGEST_USE = 45 * 60.0
# Part of its life after which a token is renewed.
_USED_UP = 0.75
# What was refused is not tried again sooner: each request would ask for a token otherwise.
_REST = 5.0

Exchange = Callable[[Credentials], Awaitable[str]]


@dataclass(frozen=True)
class _Token:
    text: str
    renew: float
    """Times are seconds of the monotonic clock."""
    expires: float


class Login:
    """The headers of each request; many requests at once fetch one token."""

    def __init__(
        self,
        credentials: Credentials,
        exchange: Exchange,
        *,
        on_refused: Callable[[], None] = lambda: None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """`exchange(credentials)`: a new token for the key. Raises LoginRefused, NotSent.

        `on_refused()`: the server does not take these; told every 5 seconds at most.
        """
        self._credentials = credentials
        self._exchange = exchange
        self._on_refused = on_refused
        self._now = now
        self._token: _Token | None = None
        self._renewal: asyncio.Task[_Token] | None = None
        self._refusal: tuple[float, str] | None = None
        self._tell_at = 0.0
        self._rest_until = 0.0

    def use(self, credentials: Credentials) -> None:
        """Others from now on; a token that was fetched with the old ones is dropped."""
        if credentials != self._credentials:
            self._credentials = credentials
            self._token = self._renewal = self._refusal = None
            self._tell_at = 0.0
            self._rest_until = 0.0

    async def headers(self) -> Mapping[str, str]:
        """What to send. Raises LoginRefused, NotSent if there is no token to be had."""
        if not self._credentials.key_id:
            return self._credentials.headers
        token = self._token
        if token is None or self._now() >= token.renew:
            try:
                token = await self._renew()
            except NotSent:
                if token is None or self._now() >= token.expires:
                    raise
        return {**self._credentials.headers, TOKEN_HEADER: token.text}

    def retry(self, sent: Mapping[str, str]) -> bool:
        """A request with these headers was answered 401: whether another may do better.

        A token may be withdrawn before its time: it is renewed at once, but not for every request anew.
        """
        text = sent.get(TOKEN_HEADER)
        if not self._credentials.key_id or text is None:
            return False
        token = self._token
        if token is not None and token.text == text:
            if self._now() < self._rest_until:
                return False
            self._rest_until = self._now() + _REST
            self._token = None
        return True

    def refused(self) -> None:
        """The server does not let us in, and asking again does not help."""
        if self._now() >= self._tell_at:
            self._tell_at = self._now() + _REST
            self._on_refused()

    async def _renew(self) -> _Token:
        if self._refusal is not None and self._now() < self._refusal[0]:
            raise LoginRefused(self._refusal[1])
        if self._renewal is None or self._renewal.done():
            self._renewal = asyncio.create_task(self._fetch(self._credentials), name="token")
            self._renewal.add_done_callback(_look_at_error)
        return await asyncio.shield(self._renewal)

    async def _fetch(self, credentials: Credentials) -> _Token:
        try:
            text = await self._exchange(credentials)
        except LoginRefused as error:
            if credentials == self._credentials:
                self._refusal = (self._now() + _REST, str(error))
                self.refused()
            raise
        now = self._now()
        life = read_life(text)
        used = min(_LONGEST_USE, life * _USED_UP)
        token = _Token(text, renew=now + used, expires=now + life)
        if credentials == self._credentials:
            self._token, self._refusal = token, None
        return token


def read_life(token: str) -> float:
    """How long a token lives from its issue, in seconds, as a JWT says it; infinite if it does not.

    Its own beginning counts, so that it does not matter whether the two clocks agree.
    """
    parts = token.split(".")
    if len(parts) != 3:
        return float("inf")
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
        end = float(claims["exp"])
        begin = float(claims.get("iat") or time.time())
    except (ValueError, KeyError, TypeError, AttributeError, binascii.Error):
        return float("inf")
    return max(1.0, end - begin)


def _look_at_error(task: "asyncio.Task[_Token]") -> None:
    """Whoever waited was told; if nobody waits any more, nobody needs to be."""
    if not task.cancelled():
        task.exception()
