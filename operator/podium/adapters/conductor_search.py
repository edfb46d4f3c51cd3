"""Conductor's searches: what moved, and what belongs together."""

import asyncio
from collections.abc import Iterable
from datetime import datetime
from typing import Literal

from podium.adapters.conductor_json import making_sense
from podium.adapters.conductor_queues import ConductorQueues
from podium.core.servers import SEARCH
from podium.ports import Json, Moved

_PAGE = 500
_SEARCHES = ("/workflow/search", "/tasks/search")


class ConductorSearch(ConductorQueues):
    """The part of the client that searches. Its index may be a little behind the runs themselves."""

    async def list_moved(self, since_ms: int, *, most: int) -> tuple[Moved, ...] | None:
        """Runs whose state or tasks changed after `since_ms` (the server's clock): two searches.

        None: this server cannot tell. As soon as there are `most`, it looks no further.
        """
        if not await self._can(SEARCH):
            return None
        runs, tasks = await asyncio.gather(*(self._moved(path, since_ms, most) for path in _SEARCHES))
        return (*runs, *tasks)

    async def find_last_move(self) -> int | None:
        """When anything changed last, in milliseconds by the server's clock; 0: nothing ever did.

        None: this server cannot tell.
        """
        if not await self._can(SEARCH):
            return None
        pages = await asyncio.gather(
            *(self._page(path, "updateTime>0", "DESC", size=1) for path in _SEARCHES)
        )
        with making_sense("what moved last"):
            return max((_move(item).at_ms for page in pages for item in page), default=0)

    async def _moved(self, path: str, since_ms: int, most: int) -> Iterable[Moved]:
        found: dict[Moved, None] = {}
        start = 0
        while len(found) < most:
            page = await self._page(path, f"updateTime>{since_ms}", "ASC", start=start, size=_PAGE)
            with making_sense("the runs that moved"):
                moves = [_move(item) for item in page]
            found |= dict.fromkeys(moves)
            if len(page) < _PAGE:
                break
            # What moves meanwhile loses its place: the next page is found by its time, if there is one.
            last_ms = max(move.at_ms for move in moves) - 1
            since_ms, start = (last_ms, 0) if last_ms > since_ms else (since_ms, start + _PAGE)
        return found

    async def find_related(self, correlation_id: str) -> tuple[str, ...]:
        """Ids of all runs with this correlation id, sub-workflows and failure workflows included."""
        rows = await self._search(
            "/workflow/search", f"correlationId={correlation_id}"
        )  # 3.21 finds nothing in quotes
        with making_sense(f"the runs of {correlation_id}"):
            return tuple(str(item["workflowId"]) for item in rows)

    async def _search(self, path: str, query: str) -> list[Json]:
        rows: list[Json] = []
        while True:
            page = await self._page(path, query, "ASC", start=len(rows), size=_PAGE)
            rows += page
            if len(page) < _PAGE:
                return rows

    async def _page(
        self, path: str, query: str, order: Literal["ASC", "DESC"], *, start: int = 0, size: int
    ) -> list[Json]:
        params = {"query": query, "size": str(size), "start": str(start), "sort": f"updateTime:{order}"}
        found = await self._read_new("GET", path, params=params)
        with making_sense("a search"):
            return list(found["results"])


def _move(row: Json) -> Moved:
    return Moved(
        workflow_id=str(row["workflowId"]),
        correlation_id=str(row.get("correlationId") or ""),
        at_ms=_milliseconds(row.get("updateTime") or ""),
    )


def _milliseconds(text: str) -> int:
    try:
        return int(datetime.fromisoformat(text).timestamp() * 1000)
    except ValueError:
        return 0
