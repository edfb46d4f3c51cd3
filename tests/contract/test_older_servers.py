"""A server that lacks something is used by a slower way, with the same result; and it is said."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable

import pytest

from contract.test_conductor import definition, started, task
from podium.adapters.conductor import HttpConductor
from podium.local import Conductor
from podium.ports import Key, PortError, Refused, RetryLater
from podium.reconciler.tracker import RunTracker
from support.eventually import eventually
from support.older_proxy import (
    NO_ACTUATOR,
    NO_BULK,
    NO_NAMES,
    NO_POLLERS,
    NO_SEARCH,
    NO_VERSION,
    NO_VERSIONS,
    Lack,
    OlderProxy,
)

pytestmark = pytest.mark.slow

UNKNOWN = "00000000-0000-0000-0000-000000000000"
Connect = Callable[..., "Older"]


class Older:
    """A client of a server that seems older, and the proxy between them."""

    def __init__(self, conductor: Conductor, *lacks: Lack, **more: bool) -> None:
        self.proxy = OlderProxy(conductor.url, *lacks, **more)

    async def __aenter__(self) -> tuple[HttpConductor, OlderProxy]:
        await self.proxy.__aenter__()
        self.http = HttpConductor(self.proxy.url)
        return await self.http.__aenter__(), self.proxy

    async def __aexit__(self, *_: object) -> None:
        await self.http.__aexit__(None, None, None)
        await self.proxy.__aexit__()


@pytest.fixture
def name() -> str:
    return f"older-{secrets.token_hex(4)}"


@pytest.fixture
async def newest(conductor: Conductor) -> AsyncIterator[HttpConductor]:
    async with HttpConductor(conductor.url) as http:
        yield http


# --- what it says of itself -------------------------------------------------------------------------


async def test_the_newest_server_lacks_nothing(newest: HttpConductor, name: str) -> None:
    await newest.put_definition(definition(name))
    await newest.list_definition_stamps()
    facts = await newest.describe()
    assert (facts.version, facts.store, facts.missing) == ("3.32.3", "SQLite", ())
    assert facts.features == ("bulk-read", "definition-versions", "definition-stamps", "search", "pollers")


async def test_once_described_a_server_is_asked_two_things(newest: HttpConductor) -> None:
    await newest.describe()
    before = newest.requests
    await newest.describe()
    assert newest.requests - before == 2


async def test_the_version_is_found_where_older_servers_tell_it(conductor: Conductor) -> None:
    async with Older(conductor, NO_VERSION) as (http, _):
        assert (await http.describe()).version == "3.32.3"
    async with Older(conductor, NO_VERSION, NO_ACTUATOR) as (http, _):
        facts = await http.describe()
        assert (facts.version, facts.store) == ("", "")


async def test_each_thing_it_lacks_is_said_in_words(conductor: Conductor, name: str) -> None:
    async with Older(conductor, NO_VERSIONS, NO_BULK, NO_SEARCH, NO_POLLERS, stamps=False) as (http, _):
        await http.put_definition(definition(name))
        await http.list_definition_stamps()
        facts = await http.describe()
        assert facts.features == ()
        assert [words.partition(":")[0] for words in facts.missing] == [
            "reading many runs in one request",
            "the versions of one definition",
            "when a definition was changed, in the list of their names",
            "a search of runs by the time of their change",
            "who polls which task type",
        ]
        with pytest.raises(RetryLater):
            await http.list_pollers()


async def test_a_server_that_was_exchanged_is_asked_anew(conductor: Conductor, name: str) -> None:
    async with Older(conductor) as (http, proxy):
        workflow_id = await started(http, name)
        assert (await http.get_runs([workflow_id]))[workflow_id] is not None
        proxy.lacks = (NO_VERSIONS, NO_BULK)
        with pytest.raises(PortError):  # unknown, not absent
            await http.get_definitions(name)
        assert [item["version"] for item in await http.get_definitions(name)] == [1]
        assert (await http.get_runs([workflow_id]))[workflow_id] is not None
        proxy.lacks = (NO_VERSION, NO_ACTUATOR)
        assert "bulk-read" in (await http.describe()).features


async def test_while_the_server_is_ill_nothing_is_concluded(conductor: Conductor) -> None:
    async with Older(conductor, ("GET", r"/api/workflow/search", 503)) as (http, proxy):
        assert "search" in (await http.describe()).features  # its version has it
        proxy.lacks = (NO_SEARCH,)
        assert "search" not in (await http.describe()).features


# --- the slower ways --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "lacks", [(NO_VERSIONS,), (NO_NAMES,), (NO_VERSIONS, NO_NAMES)], ids=["versions", "names", "both"]
)
async def test_definitions_are_found_without(
    conductor: Conductor, name: str, lacks: tuple[Lack, ...]
) -> None:
    async with Older(conductor, *lacks) as (http, _):
        assert await http.get_definitions(name) == []
        for version in (2, 1):
            await http.put_definition(definition(name, version=version))
        assert [item["version"] for item in await http.get_definitions(name)] == [1, 2]
        stamps = await http.list_definition_stamps()
        assert {version for known, version in stamps if known == name} == {1, 2}


@pytest.mark.parametrize("lacks", [(), (NO_NAMES,)], ids=["stamps", "names"])
async def test_an_edit_is_seen_without(conductor: Conductor, name: str, lacks: tuple[Lack, ...]) -> None:
    async with Older(conductor, *lacks, stamps=False) as (http, _):
        await http.put_definition(definition(name))
        before = (await http.list_definition_stamps())[name, 1]

        async def again() -> int:
            await http.put_definition(definition(name))
            return (await http.list_definition_stamps())[name, 1]

        await eventually(again, lambda after: after > before > 0)


async def test_a_path_that_is_not_there_is_no_absent_definition(newest: HttpConductor, name: str) -> None:
    await newest.put_definition(definition(name))
    newest.url += "/nowhere"
    with pytest.raises(RetryLater):
        await newest.get_definition(name, 1)
    with pytest.raises(RetryLater):
        await newest.get_definitions(name)


async def test_runs_are_read_one_by_one(conductor: Conductor, name: str) -> None:
    async with Older(conductor, NO_BULK) as (http, proxy):
        ids = [await started(http, name) for _ in range(20)]
        seen = await http.get_runs([*ids, UNKNOWN])
        assert seen.pop(UNKNOWN) is None
        runs = [run for run in seen.values() if run is not None]
        assert {run.workflow_id for run in runs} == set(ids)
        assert {item.state for run in runs for item in run.tasks} == {"SCHEDULED"}
        assert proxy.asked["GET /api/workflow/ID"] == 21


@pytest.mark.parametrize("more", [{}, {"index": False}], ids=["no search", "no index"])
async def test_an_end_is_seen_without_a_search(
    conductor: Conductor, name: str, more: dict[str, bool]
) -> None:
    async with Older(conductor, *([] if more else [NO_SEARCH]), **more) as (http, _):
        workflow_id = await started(http, name)
        assert await http.list_moved(0, most=500) is None
        assert await http.find_last_move() is None
        tracker = RunTracker(http, lambda _: None, sweep_interval=0.2, stranger=lambda *_: None)
        tracker.watch(workflow_id, Key("WorkflowRun", "n", name))

        async def state() -> str:
            view = tracker.view(workflow_id)
            return getattr(view, "state", str(view))

        following = asyncio.create_task(tracker.run())
        try:
            await eventually(state, lambda seen: seen == "RUNNING")
            await http.terminate(workflow_id, "over")
            await eventually(state, lambda seen: seen == "TERMINATED")
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)


async def test_a_setting_that_the_server_drops_is_refused_once_known(conductor: Conductor, name: str) -> None:
    """As `maxRetryDelaySeconds` on 3.21: otherwise it would be stored anew at each look for drift."""
    async with Older(conductor, NO_VERSIONS) as (http, proxy):
        proxy.drop("maxRetryDelaySeconds")
        limited = task(name)
        limited["taskDefinition"]["maxRetryDelaySeconds"] = 7
        for _ in range(2):
            with pytest.raises(Refused, match=r"does not keep taskDefinition\.maxRetryDelaySeconds"):
                await http.put_definition(definition(name, limited))
        assert proxy.asked["PUT /api/metadata/workflow"] == 1
        await http.put_definition(definition(name))
        assert "taskDefinition.maxRetryDelaySeconds" in (await http.describe()).missing[-1]


async def test_a_server_that_demands_an_address_gets_one_that_nobody_sees(
    conductor: Conductor, newest: HttpConductor, name: str
) -> None:
    async with Older(conductor, address=True) as (http, _):
        bare = {key: value for key, value in definition(name).items() if key != "ownerEmail"}
        await http.put_definition(bare)
        assert "ownerEmail" not in (await http.get_definitions(name))[0]
        await http.put_task_definition({"name": name, "retryCount": 0})
        assert name in await http.list_task_types()
        own = definition(name, version=2, ownerEmail="me@example.com")
        await http.put_definition(own)
        assert (await http.get_definitions(name))[1]["ownerEmail"] == "me@example.com"


async def test_no_answer_to_the_first_question_is_not_an_old_server(conductor: Conductor, name: str) -> None:
    async with Older(conductor, ("GET", r"/api/version", 404)) as (http, proxy):
        proxy.cut("POST", "/api/workflow/bulk/search", every=["answer"])
        with pytest.raises(RetryLater):
            await http.get_runs([UNKNOWN])
        proxy.cut("POST", "/api/workflow/bulk/search", every=["none"])
        assert await http.get_runs([UNKNOWN]) == {UNKNOWN: None}
