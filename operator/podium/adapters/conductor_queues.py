"""Conductor's queues: how deep they are, and who asked for their tasks last."""

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from urllib.parse import quote

from podium.adapters.conductor_facts import ConductorFacts
from podium.adapters.conductor_json import making_sense
from podium.ports import Polled

# Of the line with the method: Conductor refuses 8 kB, and a proxy before it may want less.
_LONGEST_QUERY = 6_000
_SIZES = "/tasks/queue/sizes"


class ConductorQueues(ConductorFacts):
    """The part of the client that reads queues."""

    async def list_pollers(self) -> tuple[Polled, ...]:
        """The last poll of every task type, per domain: one request."""
        found = await self._read("GET", "/tasks/queue/polldata/all")
        with making_sense("who polls"):
            return tuple(
                Polled(
                    task_type=str(item.get("queueName", "")),
                    domain=str(item.get("domain") or ""),
                    at=datetime.fromtimestamp(item.get("lastPollTime", 0) / 1000, UTC),
                )
                for item in found
            )

    async def read_depths(self, queues: Sequence[tuple[str, str]]) -> dict[tuple[str, str], int]:
        """(task type, domain) → tasks in that queue, delayed ones included; for all of them at once."""
        names = {f"{domain}:{name}" if domain else name: (name, domain) for name, domain in queues}
        parts = await asyncio.gather(
            *(self._read("GET", f"{_SIZES}?{query}") for query in build_queries(names))
        )
        depths: dict[tuple[str, str], int] = {}
        with making_sense("the depths of queues"):
            for part in parts:
                depths.update({names[name]: int(depth) for name, depth in part.items()})
            # A queue that nothing was ever put into may be left out.
            return {queue: depths.get(queue, 0) for queue in names.values()}


def build_queries(names: Iterable[str]) -> Iterator[str]:
    """The names of queues → queries that ask for all of them, none longer than a server takes."""
    query = ""
    for name in names:
        part = f"taskType={quote(name, safe='')}"
        if query and len(query) + 1 + len(part) > _LONGEST_QUERY:
            yield query
            query = ""
        query = f"{query}&{part}" if query else part
    if query:
        yield query
