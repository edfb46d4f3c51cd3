"""Probes by HTTP, as a kubelet asks them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import aiohttp

Json = dict[str, Any]

_EAGER_SECONDS = 0.25


@dataclass(frozen=True)
class HttpProbe:
    """One probe of a container. Times are seconds; `failures` and `successes` are answers in a row."""

    url: str
    headers: tuple[tuple[str, str], ...]
    delay: float
    period: float
    timeout: float
    failures: int
    successes: int


def parse_probe(container: Json, kind: str, pod_ip: str) -> HttpProbe | None:
    """`kind` is readinessProbe, livenessProbe or startupProbe; None if there is none, or none by HTTP."""
    probe = container.get(kind) or {}
    get = probe.get("httpGet")
    if not get:
        return None
    scheme, host = get.get("scheme", "HTTP").lower(), get.get("host") or pod_ip
    path = "/" + get.get("path", "/").lstrip("/")
    return HttpProbe(
        f"{scheme}://{host}:{_find_port(container, get['port'])}{path}",
        tuple((header["name"], header["value"]) for header in get.get("httpHeaders") or []),
        probe.get("initialDelaySeconds", 0),
        probe.get("periodSeconds", 10),
        probe.get("timeoutSeconds", 1),
        probe.get("failureThreshold", 3),
        probe.get("successThreshold", 1),
    )


async def ask(session: aiohttp.ClientSession, probe: HttpProbe) -> str | None:
    """None if the answer is a good one, else what is wrong."""
    try:
        async with session.get(
            probe.url,
            headers=dict(probe.headers),
            timeout=aiohttp.ClientTimeout(total=probe.timeout),
            ssl=False,
            allow_redirects=False,
        ) as answer:
            return (
                None if 200 <= answer.status < 400 else f"HTTP probe failed with statuscode: {answer.status}"
            )
    except TimeoutError:
        return f"no answer within {probe.timeout} s"
    except (aiohttp.ClientError, ValueError) as error:
        return f"{error}"


async def settle(
    session: aiohttp.ClientSession, probe: HttpProbe, passing: bool | None, period: float
) -> str | None:
    """Asks until enough answers in a row say another thing than `passing`; None if that is a good one."""
    last, in_a_row = None, 0
    while True:
        wrong = await ask(session, probe)
        good = wrong is None
        in_a_row = in_a_row + 1 if good == last else 1
        last = good
        if good != passing and in_a_row >= (probe.successes if good else probe.failures):
            return wrong
        await asyncio.sleep(period)


async def follow(
    session: aiohttp.ClientSession,
    probe: HttpProbe,
    tell: Callable[[bool, str], None],
    *,
    passing: bool,
    eager: bool = False,
) -> None:
    """Asks for ever; tells each change.

    An eager one asks four times a second until it changes for the first time, so that tests wait less.
    """
    await asyncio.sleep(probe.delay)
    while True:
        wrong = await settle(
            session, probe, passing, min(probe.period, _EAGER_SECONDS) if eager else probe.period
        )
        passing, eager = wrong is None, False
        tell(passing, wrong or "")
        await asyncio.sleep(probe.period)


def _find_port(container: Json, port: int | str) -> int:
    if isinstance(port, int):
        return port
    named = {item.get("name"): item["containerPort"] for item in container.get("ports") or []}
    # A name that no port has never answers; a kubelet treats it the same way.
    return int(named.get(port, 0))
