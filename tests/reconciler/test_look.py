"""The one look for all pools, and what is known of their pods: nobody's trouble is another's."""

import asyncio
import contextlib
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from podium.core.effects import Unknown
from podium.core.objects import project_worker_pool
from podium.core.pools.decide import Depths
from podium.ports import Json, Key
from podium.reconciler import look
from podium.reconciler.connections import Link
from podium.reconciler.fleet import Fleet
from podium.reconciler.look import Look
from podium.reconciler.store import Store
from support.eventually import eventually
from support.fake_pods import FakeWorkloads
from support.fakes import FakeClock, FakeCluster, FakeConductor, FakeTracker


class Hanging(FakeConductor):
    """Its queues are never told."""

    async def read_depths(self, queues: Sequence[tuple[str, str]]) -> dict[tuple[str, str], int]:
        await asyncio.Event().wait()
        raise AssertionError(queues)


async def test_a_conductor_that_hangs_holds_up_its_own_pools_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(look, "_LONGEST_READ", 0.5)
    clock, cluster, store = FakeClock(), FakeCluster(), Store()
    links: dict[str, Any] = {}
    for name, kind in (("well", FakeConductor), ("hangs", Hanging)):
        conductor = kind(clock)
        links[name] = Link(conductor, FakeTracker(conductor), url="http://c/api")  # type: ignore[arg-type]
        template = {"spec": {"containers": [{"name": "worker", "image": "w:1"}]}}
        cluster.put("WorkerPool", name, {"spec": {"taskTypes": ["resize"], "template": template}})
    pools = [project_worker_pool(body) for body in cluster.objects.values()]
    connections: Any = SimpleNamespace(of_pool=lambda pool: links[pool.key.name])
    workloads = FakeWorkloads(clock, seed=1)
    woken: list[str] = []
    fleet = Fleet(workloads, lambda _: None)
    looker = Look(store, connections, fleet, workloads, clock, lambda key: woken.append(key.name))
    looking = asyncio.create_task(looker.look(pools))

    async def names() -> list[str]:
        return woken

    await eventually(names, lambda seen: seen == ["well"], within=5)
    assert not looking.done()
    await looking
    assert woken == ["well", "hangs"]
    depths = {pool.key.name: looker.depths(pool) for pool in pools}
    assert isinstance(depths["well"], Depths)
    assert depths["hangs"] == Unknown("no answer within 0 s")


def pod(namespace: str, name: str, version: str = "1") -> Json:
    return {
        "kind": "Pod",
        "metadata": {
            "namespace": namespace,
            "name": name,
            "uid": f"uid-{namespace}-{name}",
            "resourceVersion": version,
            "labels": {"podium.dev/pool": "media"},
        },
        "spec": {},
        "status": {"phase": "Running"},
    }


async def test_a_namespace_that_is_listed_again_says_nothing_of_the_others() -> None:
    workloads = FakeWorkloads(FakeClock(), seed=1)
    workloads.namespaces = ("a", "b")
    fleet = Fleet(workloads, lambda _: None)
    following = asyncio.create_task(fleet.run())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    try:
        on_pods, on_pod, on_gone = workloads._following["Pod"]

        def names(namespace: str) -> list[str]:
            return [item.name for item in fleet.pods(Key("WorkerPool", namespace, "media"))]

        for kind, (on_list, _, _) in workloads._following.items():
            on_list([pod("a", "first")] if kind == "Pod" else [], "a")
        assert not fleet.listed.is_set(), "of b nothing is known yet"
        for kind, (on_list, _, _) in workloads._following.items():
            on_list([pod("b", "old")] if kind == "Pod" else [], "b")
        assert fleet.listed.is_set()
        on_pod(pod("b", "new"))
        on_gone(pod("b", "old", "2"))
        on_pods([pod("a", "second")], "a")
        assert (names("a"), names("b")) == (["second"], ["new"])
    finally:
        following.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await following
