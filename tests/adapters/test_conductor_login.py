"""Tokens: one for many requests, renewed before they end and when they are withdrawn."""

import asyncio
import base64
import json
from collections.abc import Callable
from typing import Any

import pytest

from podium.adapters.conductor_login import TOKEN_HEADER, Login, read_life
from podium.ports import Credentials, LoginRefused, NotSent

KEY = Credentials(key_id="me", key_secret="s3cret")


def jwt(**claims: Any) -> str:
    body = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"e30.{body}.sig"


class Server:
    """Gives out tokens, or does what `fate` says."""

    def __init__(self, token: Callable[[int], str] = lambda number: f"t{number}") -> None:
        self.now = 1000.0
        self.asked = 0
        self.told = 0
        self.fate: Exception | None = None
        self._token = token
        self.login = Login(KEY, self._exchange, on_refused=self._tell, now=lambda: self.now)

    async def token(self) -> str:
        return (await self.login.headers())[TOKEN_HEADER]

    async def _exchange(self, credentials: Credentials) -> str:
        self.asked += 1
        number = self.asked
        await asyncio.sleep(0)
        if self.fate is not None:
            raise self.fate
        return self._token(number) + ("" if credentials == KEY else "-new")

    def _tell(self) -> None:
        self.told += 1


async def test_many_at_once_ask_for_one_token() -> None:
    server = Server()
    assert await asyncio.gather(*(server.token() for _ in range(20))) == ["t1"] * 20
    assert server.asked == 1


async def test_many_at_once_share_a_failure_too() -> None:
    server = Server()
    server.fate = NotSent("away")
    answers = await asyncio.gather(*(server.token() for _ in range(20)), return_exceptions=True)
    assert {str(answer) for answer in answers} == {"away"}
    assert server.asked == 1


@pytest.mark.parametrize(
    ("token", "good_for"),
    [
        (lambda number: f"t{number}", 45 * 60),
        (lambda number: jwt(iat=5, exp=5 + 600, n=number), 450),
        (lambda number: jwt(iat=5, exp=5 + 24 * 3600, n=number), 45 * 60),
    ],
    ids=["unknown life", "ten minutes", "a day"],
)
async def test_it_is_renewed_well_before_its_end(token: Callable[[int], str], good_for: float) -> None:
    server = Server(token)
    first = await server.token()
    server.now += good_for - 1
    assert await server.token() == first
    server.now += 2
    assert await server.token() != first
    assert server.asked == 2


async def test_one_that_cannot_be_renewed_yet_is_used_to_its_end() -> None:
    server = Server(lambda number: jwt(iat=5, exp=5 + 600, n=number))
    first = await server.token()
    server.fate = NotSent("away")
    server.now += 500
    assert await server.token() == first
    server.now += 101
    with pytest.raises(NotSent, match="away"):
        await server.token()


async def test_one_that_was_withdrawn_is_renewed_once_for_all_who_had_it() -> None:
    server = Server()
    sent = [await server.login.headers() for _ in range(5)]
    assert [server.login.retry(headers) for headers in sent] == [True] * 5
    assert await asyncio.gather(*(server.token() for _ in range(5))) == ["t2"] * 5
    # A late answer to the old one needs no third.
    assert server.login.retry(sent[0])
    assert await server.token() == "t2"


async def test_tokens_that_are_never_taken_are_not_fetched_for_every_request() -> None:
    server = Server()
    again = [server.login.retry(await server.login.headers()) for _ in range(10)]
    assert again == [True] + [False] * 9
    assert server.asked == 2
    server.now += 6
    assert server.login.retry(await server.login.headers())


async def test_a_refused_key_is_told_and_rests() -> None:
    server = Server()
    server.fate = LoginRefused("no such key")
    for _ in range(10):
        with pytest.raises(LoginRefused, match="no such key"):
            await server.token()
    assert (server.asked, server.told) == (1, 1)
    server.now += 6
    with pytest.raises(LoginRefused):
        await server.token()
    # Whoever can have new ones may not have had them the first time.
    assert (server.asked, server.told) == (2, 2)


async def test_another_key_is_used_at_once() -> None:
    server = Server()
    server.fate = LoginRefused("no such key")
    with pytest.raises(LoginRefused):
        await server.token()
    server.fate = None
    server.login.use(Credentials(key_id="me", key_secret="new"))
    assert await server.token() == "t2-new"


async def test_a_token_of_the_old_key_that_comes_late_is_not_kept() -> None:
    server = Server()
    late = asyncio.create_task(server.token())
    await asyncio.sleep(0)
    server.login.use(Credentials(key_id="me", key_secret="new"))
    await late
    assert await server.token() == "t2-new"


async def test_headers_are_sent_as_they_are_and_not_tried_twice() -> None:
    server = Server()
    server.login.use(Credentials({"X-Key": "one"}))
    assert await server.login.headers() == {"X-Key": "one"}
    assert not server.login.retry({"X-Key": "one"})
    assert server.asked == 0


@pytest.mark.parametrize("token", ["", "plain", "a.b.c", "a.e30.c", jwt(exp="soon"), jwt(exp=None)])
def test_a_token_that_does_not_tell_its_life_has_no_known_end(token: str) -> None:
    assert read_life(token) == float("inf")
