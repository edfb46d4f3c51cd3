"""Conductor over HTTP: the dozen endpoints that Podium uses, with their odd answers translated.

What the server really does was tried on 3.32.3; the remarks name the oddities. conductor-python is
for workers: it has no asynchronous client for workflows and definitions.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, cast
from urllib.parse import quote

import aiohttp

from podium.adapters.conductor_json import parse_run
from podium.ports import (
    Conflict,
    Gone,
    Json,
    Moved,
    NotSent,
    OutcomeUnknown,
    Polled,
    PortError,
    Refused,
    RetryLater,
    RunSeen,
    StartRequest,
)

_AT_ONCE = 16
_LONGEST_WORDS = 400
_PAGE = 500


@dataclass(frozen=True)
class _Answer:
    status: int
    text: str

    @property
    def words(self) -> str:
        """What the server says of an error, in its own words."""
        try:
            body = json.loads(self.text)
        except ValueError:
            return f"HTTP {self.status}"
        if not isinstance(body, dict):
            return f"HTTP {self.status}"
        details = [
            f"{item.get('path', '')}: {item.get('message', '')}".strip(": ")
            for item in body.get("validationErrors") or []
        ]
        said = "; ".join(details) or str(body.get("message") or f"HTTP {self.status}")
        return said[:_LONGEST_WORDS]


class HttpConductor:
    """`podium.ports.Conductor` over HTTP. Open it with `async with`."""

    def __init__(self, url: str, *, timeout: float = 60.0, headers: Mapping[str, str] | None = None) -> None:
        """`url`: with /api. `timeout`: seconds for a whole answer; a start may take 12 s and more."""
        self.url = url.rstrip("/")
        self._timeout = aiohttp.ClientTimeout(total=timeout, connect=5.0)
        self._headers = dict(headers or {})
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._session: aiohttp.ClientSession | None = None
        self.requests = 0
        """Requests made so far."""

    async def __aenter__(self) -> "HttpConductor":
        self._session = aiohttp.ClientSession(timeout=self._timeout, headers=self._headers)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    # --- definitions ---------------------------------------------------------------------------------

    async def get_definitions(self, name: str) -> list[Json]:
        """Every version, oldest first; empty if there is none."""
        versions = await self._read("GET", f"/metadata/workflow/{quote(name, safe='')}/versions", absent=[])
        numbers = sorted({int(item["version"]) for item in versions})
        found = await asyncio.gather(*(self.get_definition(name, number) for number in numbers))
        return [definition for definition in found if definition is not None]

    async def get_definition(self, name: str, version: int) -> Json | None:
        """One version, or None."""
        path = f"/metadata/workflow/{quote(name, safe='')}"
        found = await self._read("GET", path, params={"version": str(version)}, absent=None)
        return cast("Json | None", found)

    async def list_definition_stamps(self) -> dict[tuple[str, int], int]:
        """(name, version) → when it was stored last, in milliseconds: one request for all of them."""
        found = await self._read("GET", "/metadata/workflow/names-and-versions")
        return {
            (name, int(item["version"])): int(item.get("updateTime") or item.get("createTime") or 0)
            for name, versions in found.items()
            for item in versions
        }

    async def put_definition(self, definition: Json) -> None:
        """Store one version. Raises Refused with Conductor's own words."""
        answer = await self._send("PUT", "/metadata/workflow", body=[definition])
        _raise_for(answer)
        # A list that was taken answers 200 even where an item failed.
        failed = json.loads(answer.text).get("bulkErrorResults") or {}
        if failed:
            raise Refused("; ".join(f"{name}: {why}" for name, why in failed.items())[:_LONGEST_WORDS])

    async def delete_definition(self, name: str, version: int) -> None:
        """Remove one version; one that is gone already is fine."""
        answer = await self._send("DELETE", f"/metadata/workflow/{quote(name, safe='')}/{version}")
        if answer.status in (404, 500) and await self.get_definition(name, version) is None:
            return  # an absent version answers 500, not 404
        _raise_for(answer)

    async def list_task_types(self) -> frozenset[str]:
        """Names of all registered task definitions."""
        return frozenset(item["name"] for item in await self._read("GET", "/metadata/taskdefs"))

    async def put_task_definition(self, task: Json) -> None:
        """Store a task definition (create or replace)."""
        _raise_for(await self._send("POST", "/metadata/taskdefs", body=[task]))

    async def list_pollers(self) -> tuple[Polled, ...]:
        """The last poll of every task type, per domain: one request."""
        found = await self._read("GET", "/tasks/queue/polldata/all")
        return tuple(
            Polled(
                task_type=str(item.get("queueName", "")),
                domain=item.get("domain") or "",
                at=datetime.fromtimestamp(item.get("lastPollTime", 0) / 1000, UTC),
            )
            for item in found
        )

    # --- runs ----------------------------------------------------------------------------------------

    async def start(self, request: StartRequest) -> str:
        """Start a run; its id. Raises Refused or NotSent (not created), OutcomeUnknown."""
        body: Json = {
            "name": request.name,
            "version": request.version,
            "correlationId": request.correlation_id,
            "input": request.input,
            "priority": request.priority,
        }
        if request.task_to_domain:
            body["taskToDomain"] = dict(request.task_to_domain)
        try:
            answer = await self._send("POST", "/workflow", body=body)
        except NotSent:
            raise
        except RetryLater as error:
            raise OutcomeUnknown(str(error)) from error
        if answer.status == 200 and answer.text:
            return answer.text.strip().strip('"')
        if answer.status == 429:
            raise NotSent("Conductor is busy (429)")
        if answer.status == 404:
            raise NotSent(f"Conductor does not have {request.name} version {request.version}")
        if 400 <= answer.status < 500:
            raise Refused(answer.words)
        raise OutcomeUnknown(f"Conductor answered {answer.status} to the start: {answer.words}")

    async def find_runs(self, name: str, correlation_id: str) -> list[RunSeen]:
        """Top-level runs with this correlation id, oldest first, without tasks."""
        found = await self._read(
            "POST",
            f"/workflow/{quote(name, safe='')}/correlated",
            params={"includeClosed": "true", "includeTasks": "false"},
            body=[correlation_id],
        )
        runs = [parse_run(item) for item in found.get(correlation_id) or []]
        # Sub-workflows and failure workflows inherit the correlation id; they are no duplicates.
        own = [run for run in runs if not run.parent_id and not run.failure_run]
        return sorted(own, key=lambda run: run.create_ms)

    async def get_runs(self, workflow_ids: Sequence[str]) -> dict[str, RunSeen | None]:
        """Many runs with their tasks in one request; None for those that do not exist."""
        if not workflow_ids:
            return {}
        found = await self._read(
            "POST", "/workflow/bulk/search", params={"includeTasks": "true"}, body=list(workflow_ids)
        )
        seen: dict[str, RunSeen | None] = {}
        for item in found.get("bulkSuccessfulResults") or []:
            run = parse_run(item)
            seen[run.workflow_id] = run
        for workflow_id, why in (found.get("bulkErrorResults") or {}).items():
            if "No such workflow" in str(why):
                seen[workflow_id] = None
        return seen

    async def list_moved(self, since_ms: int) -> tuple[Moved, ...]:
        """Runs whose state or tasks changed after `since_ms` (the server's clock): two searches."""
        runs, tasks = await asyncio.gather(
            self._search("/workflow/search", f"updateTime>{since_ms}"),
            self._search("/tasks/search", f"updateTime>{since_ms}"),
        )
        return tuple(
            Moved(
                workflow_id=item["workflowId"],
                correlation_id=item.get("correlationId", ""),
                at_ms=_milliseconds(item.get("updateTime", "")),
            )
            for item in (*runs, *tasks)
        )

    async def pause(self, workflow_id: str) -> None:
        """Pause a run. Conflict if it is not running."""
        _raise_for(await self._send("PUT", f"/workflow/{workflow_id}/pause"))

    async def resume(self, workflow_id: str) -> None:
        """Resume a paused run. Conflict if it is not paused."""
        answer = await self._send("PUT", f"/workflow/{workflow_id}/resume")
        if answer.status == 500:
            raise Conflict(answer.words)  # what a run that is not paused answers
        _raise_for(answer)

    async def terminate(self, workflow_id: str, reason: str) -> None:
        """End an active run. Conflict if it has ended well, Gone if it does not exist.

        A failed run would become TERMINATED and lose its reason: read it before.
        """
        _raise_for(await self._send("DELETE", f"/workflow/{workflow_id}", params={"reason": reason}))

    # --- plumbing ------------------------------------------------------------------------------------

    async def _search(self, path: str, query: str) -> list[Json]:
        rows: list[Json] = []
        while True:
            params = {"query": query, "size": str(_PAGE), "start": str(len(rows)), "sort": "updateTime:ASC"}
            page = (await self._read("GET", path, params=params)).get("results") or []
            rows += page
            if len(page) < _PAGE:
                return rows

    async def _read(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: object = None,
        **absent: object,
    ) -> Any:
        answer = await self._send(method, path, params=params, body=body)
        if answer.status == 404 and "absent" in absent:
            return absent["absent"]
        _raise_for(answer)
        try:
            return json.loads(answer.text)
        except ValueError:
            raise RetryLater(f"Conductor answered {method} {path} with something that is not JSON") from None

    async def _send(
        self, method: str, path: str, *, params: Mapping[str, str] | None = None, body: object = None
    ) -> _Answer:
        assert self._session is not None, "open the client with `async with`"
        async with self._turns:
            self.requests += 1
            async with (
                _translate_errors(self.url),
                self._session.request(
                    method, self.url + path, params=params, json=body if body is not None else None
                ) as response,
            ):
                return _Answer(response.status, await response.text())


def _raise_for(answer: _Answer) -> None:
    """Translate a status once: what it means for whoever asked."""
    if answer.status < 300:
        return
    error: type[PortError]
    match answer.status:
        case 404:
            error = Gone
        case 409:
            error = Conflict
        case 408 | 429:
            error = RetryLater
        case status if status < 500:
            error = Refused
        case _:
            error = RetryLater
    raise error(answer.words)


@contextlib.asynccontextmanager
async def _translate_errors(url: str) -> AsyncIterator[None]:
    try:
        yield
    except aiohttp.ClientConnectorError as error:
        raise NotSent(f"no connection to Conductor at {url}: {error.os_error.strerror or error}") from error
    except TimeoutError as error:
        raise RetryLater(f"Conductor at {url} did not answer in time") from error
    except (aiohttp.ClientError, ConnectionError) as error:
        raise RetryLater(f"Conductor at {url}: {type(error).__name__}: {error}") from error


def _milliseconds(text: str) -> int:
    try:
        return int(datetime.fromisoformat(text).timestamp() * 1000)
    except ValueError:
        return 0
