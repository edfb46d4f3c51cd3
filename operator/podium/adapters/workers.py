"""Worker processes, asked for their Prometheus page by the address of their pod."""

import asyncio
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from podium.ports import Clock, RetryLater, WorkerLoad

PORT = 9464
BUSY = "podium_worker_busy"
DRAINING = "podium_worker_draining"
RUNNING = "podium_worker_running"
LAST_POLL = "podium_worker_last_poll_timestamp_seconds"
_NAMES = (BUSY, DRAINING, RUNNING, LAST_POLL)
_AT_ONCE = 64
_TIMEOUT = 2.0
_MOST_BYTES = 1 << 20


class HttpWorkers:
    """`podium.ports.Workers` over HTTP. Open it with `async with`."""

    def __init__(self, clock: Clock, *, port: int = PORT) -> None:
        self._clock = clock
        self._port = port
        self._session: aiohttp.ClientSession | None = None
        self._free = asyncio.Semaphore(_AT_ONCE)

    async def __aenter__(self) -> Self:
        # Pods are reached by their own addresses, never through a proxy.
        connector = aiohttp.TCPConnector(limit=_AT_ONCE, keepalive_timeout=15)
        self._session = aiohttp.ClientSession(connector=connector, trust_env=False)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def read_load(self, ip: str) -> WorkerLoad:
        """How busy the worker at this address is. Raises RetryLater."""
        assert self._session is not None
        host = f"[{ip}]" if ":" in ip else ip
        url = f"http://{host}:{self._port}/metrics"
        async with self._free:
            try:
                timeout = aiohttp.ClientTimeout(total=_TIMEOUT)
                async with self._session.get(url, timeout=timeout, allow_redirects=False) as answer:
                    if answer.status != 200:
                        raise RetryLater(f"the worker at {ip} answered HTTP {answer.status}")
                    page = await _read(answer.content)
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                raise RetryLater(f"the worker at {ip} does not answer: {type(error).__name__}") from error
        return parse_load(page, self._clock.now())


async def _read(content: aiohttp.StreamReader) -> str:
    """All of a page; a read of the stream alone is what has arrived so far."""
    parts, size = [], 0
    async for part in content.iter_any():
        parts.append(part)
        size += len(part)
        if size > _MOST_BYTES:
            raise RetryLater(f"a worker's metrics are longer than {_MOST_BYTES} bytes")
    return b"".join(parts).decode("utf-8", "replace")


def parse_load(page: str, now: datetime) -> WorkerLoad:
    """A worker's Prometheus page → what it says of itself. Raises RetryLater for another kind of page."""
    # Histograms of every task type are on the page too: only what is read is parsed.
    wanted = "\n".join(line for line in page.splitlines() if line.startswith(_NAMES))
    busy: int | None = None
    draining, running, last_poll = False, {}, None
    try:
        for family in text_string_to_metric_families(wanted + "\n"):
            for sample in family.samples:
                if sample.name == BUSY:
                    busy = max(0, int(sample.value))
                elif sample.name == DRAINING:
                    draining = sample.value > 0
                elif sample.name == RUNNING and sample.value > 0:
                    running[sample.labels["task_type"]] = int(sample.value)
                elif sample.name == LAST_POLL and sample.value > 0:
                    last_poll = datetime.fromtimestamp(sample.value, UTC)
    except (ValueError, KeyError, OverflowError, OSError) as error:
        raise RetryLater(f"a worker's metrics cannot be read: {error}") from error
    if busy is None:
        raise RetryLater(f"a worker's metrics have no {BUSY}: is it podium-worker?")
    return WorkerLoad(busy, now, draining, running, last_poll)
