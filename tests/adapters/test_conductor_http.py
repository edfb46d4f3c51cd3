"""What a door in front of Conductor may do, and that no run fails for it."""

import asyncio
import time

import pytest
from aiohttp import web

from podium.adapters.budget import Traffic
from podium.adapters.conductor import HttpConductor
from podium.ports import Access, Credentials, LoginRefused, NotSent, RetryLater, StartRequest
from support.serving import serve

START = StartRequest("n", 1, "c", {})


@pytest.mark.parametrize("status", [401, 403])
async def test_a_refused_login_is_no_refusal_of_the_run(status: int) -> None:
    told: list[int] = []

    async def no(_: web.Request) -> web.Response:
        return web.json_response({"message": "not you"}, status=status)

    async with serve(no) as url, HttpConductor(url, on_refused=lambda: told.append(1)) as http:
        for call in (http.start(START), http.put_definition({"name": "n"}), http.get_runs(["w"])):
            with pytest.raises(LoginRefused, match=rf"does not let Podium in: HTTP {status}, not you"):
                await call
    assert told == [1]


async def test_a_redirect_is_not_followed_with_our_credentials() -> None:
    seen: list[str] = []

    async def elsewhere(request: web.Request) -> web.Response:
        seen.append(request.path)
        raise web.HTTPFound("/login")

    access = Credentials({"X-Key": "s3cret"})
    async with serve(elsewhere) as url, HttpConductor(Access(url, credentials=access)) as http:
        with pytest.raises(RetryLater, match="sends GET /metadata/taskdefs elsewhere"):
            await http.list_task_types()
    assert seen == ["/api/metadata/taskdefs"]


async def test_a_server_that_takes_no_keys_says_so() -> None:
    async def none(_: web.Request) -> web.Response:
        raise web.HTTPNotFound

    access = Credentials(key_id="me", key_secret="s3cret")
    async with serve(none) as url, HttpConductor(Access(url, credentials=access)) as http:
        with pytest.raises(LoginRefused, match="has no /token: it takes no keys"):
            await http.start(START)


async def test_a_token_that_cannot_be_had_now_is_nothing_sent() -> None:
    async def broken(_: web.Request) -> web.Response:
        raise web.HTTPBadGateway

    access = Credentials(key_id="me", key_secret="s3cret")
    async with serve(broken) as url, HttpConductor(Access(url, credentials=access)) as http:
        with pytest.raises(NotSent, match="no token from Conductor"):
            await http.start(START)


async def test_nothing_at_all_is_what_absence_reads_as() -> None:
    async def silent(_: web.Request) -> web.Response:
        return web.Response(status=204)

    async with serve(silent) as url, HttpConductor(url) as http:
        assert await http._read("GET", "/tasks/t/log", absent=[]) == []


async def test_requests_wait_for_their_budget_and_none_is_lost() -> None:
    came: list[tuple[float, str]] = []

    async def take(request: web.Request) -> web.Response:
        came.append((time.monotonic(), request.query["version"]))
        return web.json_response({"name": "n", "version": request.query["version"]})

    traffic = Traffic()
    async with (
        serve(take) as url,
        HttpConductor(Access(url, requests_per_second=50), traffic=traffic) as http,
    ):
        await asyncio.gather(*(http.get_definition("n", number) for number in range(40)))
    assert sorted(version for _, version in came) == sorted(str(number) for number in range(40))
    assert came[-1][0] - came[0][0] > 0.6
    assert traffic.requests == 40
    assert traffic.waited > 1.0


async def test_what_is_under_way_ends_before_a_replaced_client_does() -> None:
    arrived, go = asyncio.Event(), asyncio.Event()

    async def slow(_: web.Request) -> web.Response:
        arrived.set()
        await go.wait()
        return web.Response(text="w1")

    async with serve(slow) as url:
        http = await HttpConductor(url).__aenter__()
        starting = asyncio.create_task(http.start(START))
        await arrived.wait()
        closing = asyncio.create_task(http.close())
        late = asyncio.create_task(http.start(START))
        go.set()
        assert await starting == "w1"
        await closing
        with pytest.raises(NotSent, match="was replaced"):
            await late


async def test_another_servers_answer_is_not_shown_as_a_version() -> None:
    async def secretive(request: web.Request) -> web.Response:
        if request.path.endswith("/version"):
            return web.Response(text="root:x:0:0")
        return web.json_response([])

    async with serve(secretive) as url, HttpConductor(url) as http:
        assert (await http.describe()).version == ""
