"""What the server at the other end can do: found by asking it, once, and again when it may be another.

Not by its OpenAPI document: a server that has just started takes 9 to 15 s to write that down for the first
time. These questions take milliseconds.
"""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Self, cast
from urllib.parse import quote

import aiohttp

from podium.adapters.conductor_answers import Answer, NoEndpoint, TooLong, answer_of, raise_for
from podium.adapters.conductor_http import ConductorHttp
from podium.adapters.conductor_json import making_sense
from podium.core.definitions import used_settings
from podium.core.servers import (
    BULK_READ,
    DEFINITION_STAMPS,
    DEFINITION_VERSIONS,
    POLLERS,
    SEARCH,
    Abilities,
    Feature,
    detect,
    parse_version,
    tell,
)
from podium.ports import Json, LoginRefused, NotSent, PortError, Refused, RetryLater, ServerFacts

log = logging.getLogger(__name__)

_NOBODY = "00000000-0000-0000-0000-000000000000"
_BESIDE_TIMEOUT = aiohttp.ClientTimeout(total=5.0)
_ANY_CHANGE = {"query": "updateTime>0", "size": "1", "start": "0"}
_NO_CHANGE = {"query": "updateTime>4102444800000", "size": "1", "start": "0"}  # after the year 2100


@dataclass(frozen=True)
class _Question:
    about: Feature
    method: str
    path: str
    params: Mapping[str, str] | None = None
    body: object = None
    member: str = ""
    """What the answer must have; "": it is a list."""


_QUESTIONS = (
    _Question(
        BULK_READ, "POST", "/workflow/bulk/search", {"includeTasks": "false"}, [_NOBODY], "bulkErrorResults"
    ),
    _Question(DEFINITION_VERSIONS, "GET", f"/metadata/workflow/{_NOBODY}/versions"),
    _Question(POLLERS, "GET", "/tasks/queue/polldata/all"),
    _Question(SEARCH, "GET", "/workflow/search", _NO_CHANGE),
    _Question(SEARCH, "GET", "/tasks/search", _NO_CHANGE),
)


@dataclass
class _Known:
    """What was found out so far. One for all copies of a client."""

    asking: asyncio.Lock = field(default_factory=asyncio.Lock)
    marking: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Two at once would mark an empty database twice: whoever saw the first mark would think it lost."""
    version: str = ""
    store: str = ""
    answers: Mapping[Feature, bool] | None = None
    sure: bool = False
    stamps: bool | None = None
    dropped: frozenset[str] = frozenset()

    def forget(self) -> None:
        """The server may be another one."""
        self.answers = self.stamps = None
        self.dropped = frozenset()

    def abilities(self) -> Abilities:
        answers = dict(self.answers or {})
        if self.stamps is not None:
            answers[DEFINITION_STAMPS] = self.stamps
        return detect(answers, self.version)

    def facts(self) -> ServerFacts:
        return tell(self.abilities(), self.version, self.store, self.dropped)


class ConductorFacts(ConductorHttp):
    """The part of `HttpConductor` that knows which server it speaks to."""

    @cached_property
    def _known(self) -> _Known:
        return _Known()

    async def __aenter__(self) -> Self:
        _ = self._known  # before there are copies
        return await super().__aenter__()

    async def describe(self) -> ServerFacts:
        """What server it is; asked with our credentials. Raises LoginRefused."""
        # The version may be told to everyone; what workers poll is not.
        polls, version = await asyncio.gather(
            self._send("GET", "/tasks/queue/polldata", params={"taskType": "podium"}), self._ask_version()
        )
        if polls.status < 500 and polls.status not in (408, 429) and not polls.is_list:
            # Conductor answers with its own user interface to every path that it does not know.
            raise RetryLater(f"{self.url} is not Conductor's API ({polls.told}): should it end in /api?")
        raise_for(polls)
        if version != self._known.version or not version or not self._known.sure:
            self._known.forget()
        await self._abilities()
        return self._known.facts()

    async def _can(self, feature: Feature) -> bool:
        """Whether this server has it. Raises PortError if that cannot be found out now."""
        return feature not in (await self._abilities()).lacks

    async def _read_new(
        self, method: str, path: str, *, params: Mapping[str, str] | None = None, body: object = None
    ) -> Any:
        """Read what only newer servers have: 404 never means that what was asked for is absent."""
        try:
            return await self._read(method, path, params=params, body=body)
        except (NotSent, NoEndpoint):
            self._known.forget()  # it was away, or is another one now
            raise

    async def _abilities(self) -> Abilities:
        known = self._known
        async with known.asking:
            if known.answers is None:
                known.version = await self._ask_version()
                known.store = await self._ask_store()
                known.answers = await self._ask_questions()
                self._log()
        return known.abilities()

    def _log(self) -> None:
        facts = self._known.facts()
        log.info("Conductor %s at %s, on %s", facts.version or "?", self.url, facts.store or "?")
        for words in facts.missing:
            log.warning("Conductor at %s lacks %s", self.url, words)

    async def _ask_questions(self) -> Mapping[Feature, bool]:
        shown = await asyncio.gather(*(self._ask(question) for question in _QUESTIONS))
        answers: dict[Feature, bool] = {}
        for question, there in zip(_QUESTIONS, shown, strict=True):
            if there is not None:
                answers[question.about] = answers.get(question.about, True) and there
        self._known.sure = None not in shown
        if answers.get(SEARCH) and self._known.sure:
            try:
                answers[SEARCH] = not await self._has_runs_but_no_index()
            except PortError:
                self._known.sure = False
        return answers

    async def _ask(self, question: _Question) -> bool | None:
        """None: it does not show, now or to us."""
        method, path = question.method, question.path
        try:
            answer = await self._send(method, path, params=question.params, body=question.body)
        except LoginRefused:
            return None
        if answer.is_no_endpoint:
            return False
        if answer.status != 200:
            return None
        if question.about is SEARCH:
            # A field that a search does not know is dropped from the query: then it finds everything.
            results = answer.find("results")
            return not results if isinstance(results, list) else None
        found = answer.find(question.member) if question.member else answer.body
        return True if isinstance(found, dict if question.member else list) else None

    async def _has_runs_but_no_index(self) -> bool:
        # With its index switched off, a server answers every search with nothing.
        found = await self._read("GET", "/workflow/search", params=_ANY_CHANGE)
        queue = "_deciderQueue"  # it has every open run
        with making_sense("what it has"):
            if found["results"]:
                return False
            sizes = await self._read("GET", "/tasks/queue/sizes", params={"taskType": queue})
            return int(sizes.get(queue) or 0) > 0

    async def _ask_version(self) -> str:
        answer = await self._send("GET", "/version")
        said = answer.text.strip().strip('"') if answer.status == 200 else ""
        if not parse_version(said):
            build = (await self._look_beside("info")).find("build")
            said = str(build.get("version") or "") if isinstance(build, dict) else ""
        return said if parse_version(said) else ""

    async def _ask_store(self) -> str:
        details = (await self._look_beside("health/db")).find("details")
        return str(details.get("database") or "") if isinstance(details, dict) else ""

    async def _look_beside(self, path: str) -> Answer:
        """Spring's own endpoints lie beside the API. No credentials: those are for the API.

        They may be kept from us, or say that something is ill that is no matter of ours: so the gate
        is not told.
        """
        assert self._session is not None
        try:
            async with asyncio.timeout_at(self.until), self.gate.passing():
                await self._budget.take()
                self._traffic.requests += 1
                async with self._session.get(
                    f"{self.url}/../actuator/{path}", allow_redirects=False, timeout=_BESIDE_TIMEOUT
                ) as response:
                    return await answer_of(response)
        except (aiohttp.ClientError, OSError, TooLong):
            return Answer(0, "")

    # --- settings that are dropped -------------------------------------------------------------------

    def _refuse_dropped(self, definition: Json) -> None:
        """Raises Refused for what this server was seen to drop: it is not stored again and again."""
        if lost := used_settings(definition) & self._known.dropped:
            raise self._drops(lost)

    async def _check_kept(self, definition: Json) -> None:
        """An older server drops settings that it does not know, without a word. Raises Refused."""
        if not (await self._abilities()).lacks:
            return
        path = f"/metadata/workflow/{quote(definition['name'], safe='')}"
        stored = await self._read("GET", path, params={"version": str(definition["version"])})
        if lost := used_settings(definition) - used_settings(cast("Json", stored)):
            self._known.dropped |= lost
            raise self._drops(lost)

    def _drops(self, lost: frozenset[str]) -> Refused:
        version = f"Conductor {self._known.version}" if self._known.version else "this Conductor"
        return Refused(f"{version} does not keep {', '.join(sorted(lost))}: leave it out, or use a newer one")
