"""What a device says about itself over HTTP, as a value: also that it said nothing, and how."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace, TracebackType
from typing import Any, Literal, Self

import aiohttp

FIELDS: Mapping[str, str] = {
    "build": ".build",
    "mac": ".mac",
    "chip": ".chip",
    "freeHeap": ".heap_free",
    "largestBlock": ".heap_max_block",
    "uptime": ".uptime_s",
    "bootCount": ".boot_count",
    "resetReason": ".reset_reason",
    "partition": ".partition",
    "otaState": ".ota_state",
    "slotSize": ".slot_size",
    "secureVersion": ".secure_version",
    "checks": ".checks",
    "pattern": ".pattern.name",
    "patternChecksum": ".pattern.checksum",
    "frameMicros": ".pattern.frame_us",
}
"""Where in the answer each is. `DeviceModel.spec.health.fields` puts its own over these."""
_STEP = re.compile(r"\.([A-Za-z_][\w-]*)|\[(\d+)\]")
_MOST_BYTES = 64 * 1024


@dataclass(frozen=True)
class Health:
    """An answer. Sizes in bytes, times in seconds; None: the device does not say."""

    build: str
    mac: str | None = None
    chip: str | None = None
    free_heap: int | None = None
    largest_block: int | None = None
    uptime: int | None = None
    boot_count: int | None = None
    reset_reason: str | None = None
    partition: str | None = None
    ota_state: str | None = None
    slot_size: int | None = None
    secure_version: int | None = None
    failed_checks: tuple[str, ...] = ()
    pattern: str | None = None
    """The light pattern that it shows, and the SHA-256 of its frames."""
    pattern_checksum: str | None = None
    frame_micros: float | None = None
    """Microseconds for computing a frame of it."""


@dataclass(frozen=True)
class NoHealth:
    """No usable answer.

    `Nobody`: no connection. `TooSlow`: connected, and no answer came in time. `HttpError`: another status
    than 200. `Unreadable`: no JSON, or not what was agreed.
    """

    kind: Literal["Nobody", "TooSlow", "HttpError", "Unreadable"]
    message: str


Answer = Health | NoHealth


@dataclass(frozen=True)
class HealthPage:
    """Where a device's health is, and how it is to be read; as in a DeviceModel."""

    host: str
    port: int = 80
    path: str = "/api/health"
    timeout: float = 3.0
    fields: Mapping[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """All of it together."""
        return f"http://{self.host}:{self.port}{self.path}"


class DeviceApi:
    """An asynchronous context manager. Nothing here raises for what a device does."""

    async def __aenter__(self) -> Self:
        # A board serves a few connections at once, and forgets them when it restarts: none is kept.
        connector = aiohttp.TCPConnector(limit=0, force_close=True)
        trace = aiohttp.TraceConfig()
        trace.on_connection_create_end.append(_note_connection)
        self._session = aiohttp.ClientSession(connector=connector, trace_configs=[trace])
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def probe(self, page: HealthPage) -> Answer:
        """Asks once."""
        limits = aiohttp.ClientTimeout(total=page.timeout)
        connected: list[bool] = []
        try:
            async with self._session.get(
                page.url, timeout=limits, allow_redirects=False, trace_request_ctx=connected
            ) as response:
                body = await response.content.read(_MOST_BYTES)
                if response.status != 200:
                    return NoHealth("HttpError", f"{page.url} answered with status {response.status}")
        except TimeoutError:
            if not connected:
                return NoHealth("Nobody", f"{page.url}: no connection within {page.timeout:g} s")
            return NoHealth("TooSlow", f"{page.url}: connected, and no answer within {page.timeout:g} s")
        except (aiohttp.ClientError, OSError) as error:
            return NoHealth("Nobody", f"{page.url}: {str(error) or type(error).__name__}")
        return parse_health(body, page.fields)

    async def confirm(self, page: HealthPage, path: str = "/api/confirm") -> bool:
        """Tells the device that its new firmware is good. False if it did not take that in."""
        limits = aiohttp.ClientTimeout(total=page.timeout)
        url = f"http://{page.host}:{page.port}{path}"
        try:
            async with self._session.post(url, timeout=limits, trace_request_ctx=[]) as response:
                return response.status == 200
        except (aiohttp.ClientError, OSError):
            return False


def parse_health(body: bytes, fields: Mapping[str, str]) -> Answer:
    """Reads an answer; `fields` go over FIELDS. A build is all that must be in it."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        start = body[:40].decode("ascii", errors="replace")
        return NoHealth("Unreadable", f'the health page is no JSON; it begins with "{start}"')
    paths = {**FIELDS, **fields}

    def find(name: str, *kind: type) -> Any:
        value = find_value(document, paths[name])
        return value if isinstance(value, kind) and not isinstance(value, bool) else None

    build = find("build", str)
    if not build:
        return NoHealth("Unreadable", f"the health page names no build at {paths['build']}")
    checks = find("checks", list) or []
    return Health(
        build=build,
        mac=_normal_mac(find("mac", str)),
        chip=find("chip", str),
        free_heap=find("freeHeap", int),
        largest_block=find("largestBlock", int),
        uptime=_whole(find("uptime", int, float)),
        boot_count=find("bootCount", int),
        reset_reason=find("resetReason", str),
        partition=find("partition", str),
        ota_state=find("otaState", str),
        slot_size=find("slotSize", int),
        secure_version=find("secureVersion", int),
        failed_checks=tuple(
            str(check.get("name")) for check in checks if isinstance(check, dict) and check.get("ok") is False
        ),
        pattern=find("pattern", str),
        pattern_checksum=find("patternChecksum", str),
        frame_micros=find("frameMicros", int, float),
    )


async def _note_connection(_: object, context: SimpleNamespace, __: object) -> None:
    context.trace_request_ctx.append(True)


def find_value(document: object, path: str) -> object:
    """What is at `.mem.heap[0].free`. None if there is nothing."""
    for key, number in _STEP.findall(path if path.startswith((".", "[")) else f".{path}"):
        if key and isinstance(document, dict):
            document = document.get(key)
        elif number and isinstance(document, list) and int(number) < len(document):
            document = document[int(number)]
        else:
            return None
    return document


def _normal_mac(mac: str | None) -> str | None:
    return mac.lower().replace("-", ":") if mac else None


def _whole(number: float | None) -> int | None:
    return None if number is None else int(number)
