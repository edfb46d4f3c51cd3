"""The gate before a server: nothing storms, nothing hangs, and what stands between is not believed."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from aiohttp import web

from podium.adapters import gate
from podium.adapters.conductor import HttpConductor
from podium.core.outage import MOST_BROKEN, Outcome
from podium.ports import (
    LoginRefused,
    NotRegistered,
    NotSent,
    OutcomeUnknown,
    PortError,
    Refused,
    RetryLater,
    StartRequest,
)
from support.eventually import eventually

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]
START = StartRequest("n", 1, "c", {})


class Server:
    """Answers everything as it is told to; `seen` are the paths that were asked for."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.answer: Answer = fine

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.seen.append(request.path)
        return await self.answer(request)


async def fine(_: web.Request) -> web.StreamResponse:
    return web.json_response({})


async def silent(_: web.Request) -> web.StreamResponse:
    await asyncio.sleep(60)
    return web.Response()


def always(status: int, text: str, kind: str = "application/json") -> Answer:
    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(status=status, text=text, content_type=kind)

    return answer


@pytest.fixture
async def server(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Server, HttpConductor]]:
    monkeypatch.setattr(gate, "_REST", (0.1, 0.2))
    monkeypatch.setattr(gate, "_SHORT_REST", (0.01, 0.02))
    monkeypatch.setattr(gate, "_QUIET", 0.2)
    monkeypatch.setattr(gate, "_LOOK", 0.05)
    monkeypatch.setattr(gate, "_GRACE", 0.2)
    monkeypatch.setattr("podium.adapters.conductor_http._PROBE_TIMEOUT", 0.1)
    server = Server()
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", server.handle)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    async with HttpConductor(f"http://127.0.0.1:{runner.addresses[0][1]}/api", timeout=30) as http:
        yield server, http
    await runner.cleanup()


async def away(http: HttpConductor) -> None:
    for _ in range(MOST_BROKEN):
        with contextlib.suppress(PortError):
            await http.list_task_types()
    assert http.outage is not None


async def until_back(http: HttpConductor) -> None:
    async def look() -> bool:
        return http.outage is None

    await eventually(look, bool, within=5, every=0.01)


async def test_while_it_is_away_only_probes_are_sent_and_starts_are_certain(
    server: tuple[Server, HttpConductor],
) -> None:
    answers, http = server
    answers.answer = always(500, '{"message": "out of order"}')
    await away(http)
    answers.seen.clear()
    for _ in range(50):
        with pytest.raises(NotSent, match=r"HTTP 500, since \d\d:\d\d:\d\dZ"):
            await http.start(START)
    await asyncio.sleep(0.5)
    assert set(answers.seen) == {"/api/metadata/taskdefs/podium"}
    assert len(answers.seen) <= 6
    answers.answer = fine
    await until_back(http)


async def test_a_silent_server_is_found_out_long_before_the_time_for_an_answer(
    server: tuple[Server, HttpConductor],
) -> None:
    answers, http = server
    answers.answer = silent
    begun = time.monotonic()
    starting = asyncio.create_task(http.start(START))
    with pytest.raises(RetryLater, match="did not answer in time, since"):
        await http.list_task_types()
    assert time.monotonic() - begun < 3
    # Whether a start was carried out matters too much to give it up, as long as it may be answered.
    assert not starting.done()
    answers.answer = fine
    with pytest.raises(OutcomeUnknown):
        await starting
    assert time.monotonic() - begun < 5


async def test_a_slow_answer_is_no_outage_while_others_come(server: tuple[Server, HttpConductor]) -> None:
    answers, http = server

    async def slow_start(request: web.Request) -> web.StreamResponse:
        if request.path == "/api/workflow":
            await asyncio.sleep(1.0)
            return web.Response(text="w1")
        return web.json_response({})

    answers.answer = slow_start
    assert await http.start(START) == "w1"
    assert http.outage is None
    assert "/api/metadata/taskdefs/podium" in answers.seen  # it was asked whether it is there


async def test_a_deletion_has_its_own_patience(server: tuple[Server, HttpConductor]) -> None:
    answers, http = server
    answers.answer = silent
    begun = time.monotonic()
    with pytest.raises(RetryLater):
        await http.within(0.1).terminate("w1", "why")
    assert time.monotonic() - begun < 1


HTML = "<html>default backend</html>"


@pytest.mark.parametrize(
    ("answer", "wanted"),
    [
        (always(200, HTML, "text/html"), OutcomeUnknown),
        (always(404, HTML, "text/html"), OutcomeUnknown),
        (always(403, HTML, "text/html"), LoginRefused),
        (always(400, "no", "text/plain"), OutcomeUnknown),
        (always(502, HTML, "text/html"), OutcomeUnknown),
        (always(400, '{"message": "no input"}'), Refused),
        (always(404, '{"message": "no such workflow"}'), NotRegistered),
        (always(429, "slow down", "text/plain"), NotSent),
    ],
)
async def test_only_conductor_itself_can_refuse_a_start(
    server: tuple[Server, HttpConductor], answer: Answer, wanted: type[PortError]
) -> None:
    answers, http = server
    answers.answer = answer
    with pytest.raises(wanted) as raised:
        await http.start(START)
    assert type(raised.value) is wanted


@pytest.mark.parametrize("body", ["[]", "{}", '{"results": 1}', "null", '"x"', HTML])
async def test_what_makes_no_sense_is_not_taken_for_absence(
    server: tuple[Server, HttpConductor], body: str
) -> None:
    answers, http = server
    answers.answer = always(200, body)
    with pytest.raises(RetryLater):
        await http.find_runs("n", "c")
    with pytest.raises(RetryLater):
        await http.get_definition("n", 1)
    with pytest.raises(RetryLater):
        await http.list_moved(0, most=500)
    with contextlib.suppress(RetryLater):
        assert "w1" not in await http.get_runs(["w1"])


async def test_a_404_of_something_else_is_not_taken_for_absence(server: tuple[Server, HttpConductor]) -> None:
    answers, http = server
    answers.answer = always(404, HTML, "text/html")
    with pytest.raises(RetryLater):
        await http.get_definition("n", 1)
    with pytest.raises(RetryLater):
        await http.terminate("w1", "why")


async def test_a_closed_client_probes_no_more() -> None:
    async with HttpConductor("http://127.0.0.1:1/api"):
        assert any(task.get_name().startswith("probe Conductor") for task in asyncio.all_tasks())
    assert not any(task.get_name().startswith("probe Conductor") for task in asyncio.all_tasks())


async def test_a_probe_that_nobody_foresaw_does_not_leave_the_gate_shut(
    server: tuple[Server, HttpConductor],
) -> None:
    answers, http = server
    answers.answer = always(500, '{"message": "out of order"}')
    await away(http)
    probe, bugs = http.gate._probe, [KeyError("a bug")]

    async def odd() -> tuple[Outcome, str]:
        if bugs:
            raise bugs.pop()
        return await probe()

    http.gate._probe = odd
    answers.answer = fine
    await until_back(http)
    assert bugs == []
