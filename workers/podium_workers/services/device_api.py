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
_LARGEST = 2**63 - 1
_HEX = frozenset("0123456789abcdef")
_PENDING = "pending_verify"


@dataclass(frozen=True)
class Health:
    """An answer. Sizes in bytes, times in seconds; None: the device does not say.

    `mac`, `chip` and `ota_state` are in one form, however the device writes them.
    """

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
    """As ESP-IDF has it, in small letters: new, pending_verify, valid, invalid, aborted, undefined."""
    slot_size: int | None = None
    secure_version: int | None = None
    failed_checks: tuple[str, ...] = ()
    pattern: str | None = None
    """The light pattern that it shows, and the SHA-256 of its frames."""
    pattern_checksum: str | None = None
    frame_micros: float | None = None
    """Microseconds for computing a frame of it."""

    @property
    def pending(self) -> bool:
        """Whether its firmware waits to be confirmed: without that, its next restart goes back."""
        return self.ota_state == _PENDING


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
                body = await _read(response)
                if response.status != 200:
                    return NoHealth("HttpError", f"{page.url} answered with status {response.status}")
        except TimeoutError:
            if not connected:
                return NoHealth("Nobody", f"{page.url}: no connection within {page.timeout:g} s")
            return NoHealth("TooSlow", f"{page.url}: connected, and no answer within {page.timeout:g} s")
        except (aiohttp.ClientConnectionError, OSError) as error:
            return NoHealth("Nobody", f"{page.url}: {str(error) or type(error).__name__}")
        except (aiohttp.ClientError, ValueError) as error:
            return NoHealth("Unreadable", f"{page.url}: this is no HTTP: {type(error).__name__}")
        return parse_health(body, page.fields)

    async def confirm(self, page: HealthPage) -> bool:
        """Tells the device that its new firmware is good. False if it did not take that in."""
        return await self._post(page, "/api/confirm")

    async def roll_back(self, page: HealthPage) -> bool:
        """Tells the device to restart into its old firmware. False if it did not take that in."""
        return await self._post(page, "/api/rollback")

    async def _post(self, page: HealthPage, path: str) -> bool:
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

    def size(name: str) -> int | None:
        return _whole(find(name, int, float))

    build = find("build", str)
    if not build:
        return NoHealth("Unreadable", f"the health page names no build at {paths['build']}")
    checks = find("checks", list) or []
    return Health(
        build=build,
        mac=normal_mac(find("mac", str)),
        chip=normal_chip(find("chip", str)),
        free_heap=size("freeHeap"),
        largest_block=size("largestBlock"),
        uptime=_floor(find("uptime", int, float)),
        boot_count=size("bootCount"),
        reset_reason=find("resetReason", str),
        partition=find("partition", str),
        ota_state=_normal_state(find("otaState", str)),
        slot_size=size("slotSize"),
        secure_version=size("secureVersion"),
        failed_checks=tuple(
            str(check.get("name")) for check in checks if isinstance(check, dict) and check.get("ok") is False
        ),
        pattern=find("pattern", str),
        pattern_checksum=find("patternChecksum", str),
        frame_micros=_finite(find("frameMicros", int, float)),
    )


async def _read(response: aiohttp.ClientResponse) -> bytes:
    """The body, up to a limit: one chunk is what came so far, not all."""
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) >= _MOST_BYTES:
            break
    return bytes(body[:_MOST_BYTES])


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


def normal_mac(mac: str | None) -> str | None:
    """AABBCC000421, AA-BB-CC-00-04-21, aabb.cc00.0421 → aa:bb:cc:00:04:21. What is no mac stays."""
    if not mac:
        return None
    digits = "".join(letter for letter in mac.lower() if letter not in ":-. ")
    if len(digits) == 12 and _HEX.issuperset(digits):
        return ":".join(digits[at : at + 2] for at in range(0, 12, 2))
    return mac.lower().replace("-", ":")


def normal_chip(chip: str | None) -> str | None:
    """ESP32-S3, esp32s3 → ESP32S3."""
    return chip.upper().replace("-", "") if chip else None


def _normal_state(state: str | None) -> str | None:
    """ESP_OTA_IMG_PENDING_VERIFY, PendingVerify, pending-verify → pending_verify; Valid → valid."""
    if not state:
        return None
    letters = "".join(letter for letter in state.lower() if letter.isalnum()).removeprefix("espotaimg")
    return _PENDING if letters == _PENDING.replace("_", "") else letters


def _finite(number: float | None) -> float | None:
    """What no board can have is as if it were not said: NaN is JSON to Python."""
    return number if number is not None and 0 <= number <= _LARGEST else None


def _whole(number: float | None) -> int | None:
    """A size or a count. Some firmware writes 180000.0."""
    finite = _finite(number)
    return None if finite is None or finite != int(finite) else int(finite)


def _floor(number: float | None) -> int | None:
    finite = _finite(number)
    return None if finite is None else int(finite)
