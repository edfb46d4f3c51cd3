"""A watch that ends by itself is begun again; it never ends the operator."""

import asyncio
from typing import Any

import pytest

from podium.informers import watching
from support.eventually import eventually


async def test_kopf_is_begun_again_when_it_ends_and_when_it_is_deaf(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "_SHORTEST_PAUSE", 0.01)
    monkeypatch.setattr(watching, "_LONGEST_PAUSE", 0.02)
    begun: list[Any] = []

    async def operator(*, stop_flag: Any, **_: Any) -> None:
        begun.append(stop_flag)
        waiting = asyncio.create_task(asyncio.to_thread(stop_flag.wait))
        if len(begun) < 4:
            await asyncio.sleep(0.05)
            raise RuntimeError("out of credentials")
        await waiting

    monkeypatch.setattr(watching.kopf, "operator", operator)
    restarts: list[int] = []
    restart = asyncio.Event()

    async def nowhere() -> Any:
        raise AssertionError

    watch = watching.watch(
        lambda _key, _body: None,
        lambda _key: None,
        connection=nowhere,
        namespaces=(),
        restart=restart,
        on_restart=lambda: restarts.append(1),
    )
    working = asyncio.create_task(watch)

    async def count() -> int:
        return len(begun)

    await eventually(count, lambda seen: seen == 4, within=5)
    assert len(restarts) == 3
    restart.set()
    await eventually(count, lambda seen: seen == 5, within=5)
    assert begun[3].is_set()
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)
    assert begun[4].is_set()
