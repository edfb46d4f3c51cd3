"""The passes over Devices, on a cluster, a clock and boards in memory."""

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest

from podium.core.devices.allowance import MOST
from podium.core.objects import project_device, project_device_model
from podium.ports import DevicePage, Json, Key, NoAnswer, NotSent, OutcomeUnknown, Refused, RetryLater
from podium.reconciler.devices import DeviceParts
from podium.reconciler.store import Store
from support.eventually import eventually
from support.fakes import FakeClock, FakeCluster, FakeRecorder, run_now

# Asked at each turn of the loop.
QUICK = {"interval": "10ms", "timeout": "5ms", "offlineAfter": "1s"}
MODEL: Json = {"chip": "ESP32S3", "board": "devkit", "slotSize": "3264Ki"}


class FakeBoards:
    """Boards in memory, by host; a host without one is silent."""

    def __init__(self) -> None:
        self.pages: dict[str, Json] = {}
        self.asked: Counter[str] = Counter()

    async def ask(self, page: DevicePage) -> bytes | NoAnswer:
        """What is there, at once."""
        host = page.url.split("/")[2].split(":")[0]
        self.asked[host] += 1
        if host not in self.pages:
            return NoAnswer("Nobody", f"{page.url}: no connection")
        return json.dumps(self.pages[host]).encode()


class MoodyCluster(FakeCluster):
    """Its Secrets cannot be read, or no status be written, while these say why."""

    no_secrets: Exception | None = None
    no_writes: Exception | None = None

    async def get_secret(self, namespace: str, name: str) -> dict[str, bytes]:
        """By its name."""
        if self.no_secrets is not None:
            raise self.no_secrets
        return await super().get_secret(namespace, name)

    async def apply_status(self, key: Key, status: Json, **how: Any) -> Json:
        """Replace it."""
        if self.no_writes is not None:
            raise self.no_writes
        return await super().apply_status(key, status, **how)


class World:
    """A namespace with a model; `reconcile` is one pass."""

    def __init__(self, **model: Any) -> None:
        self.clock = FakeClock()
        self.cluster = MoodyCluster()
        self.boards = FakeBoards()
        self.store = Store()
        self.woken: list[Key] = []
        self.parts = DeviceParts.build(
            self.cluster, self.boards, self.clock, FakeRecorder(), self.store, wake=self.woken.append
        )
        self.model = self.cluster.put("DeviceModel", "k1", {"spec": {**MODEL, **model}})
        self.take_in()

    def device(self, name: str, host: str = "", **spec: Any) -> Key:
        """`kubectl apply` of one."""
        body = {"spec": {"model": "k1", "address": {"host": host or name}, **spec}}
        key = self.cluster.put("Device", name, body)
        self.take_in()
        return key

    def take_in(self) -> None:
        """What the watch would tell."""
        for key, body in self.cluster.objects.items():
            if key.kind == "Device":
                self.store.put_device(project_device(body))
            else:
                self.store.put_model(project_device_model(body))

    def reconcile(self, key: Key) -> float | None:
        """One pass."""
        return run_now(self.parts.devices.reconcile(key))

    def settle(self, key: Key) -> dict[str, str]:
        """Passes until one is content; the words then."""
        for _ in range(5):
            if (rest := self.reconcile(key)) is None:
                break
            self.clock.advance(rest)
        return self.words(key)

    @contextlib.asynccontextmanager
    async def asking(self) -> AsyncIterator[None]:
        """While devices are asked."""
        job = asyncio.create_task(self.parts.probes.run())
        try:
            yield
        finally:
            job.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await job

    async def looks(self, count: int, host: str = "lyon", *, within: float = 5.0) -> None:
        """Until a board was asked so many times more."""
        wanted = self.boards.asked[host] + count

        async def asked() -> int:
            return self.boards.asked[host]

        await eventually(asked, lambda seen: seen >= wanted, within=within, every=0.01)

    def words(self, key: Key) -> dict[str, str]:
        """Type → reason of the conditions that stand in the cluster."""
        found = self.cluster.objects[key]["status"].get("conditions", [])
        return {item["type"]: item["reason"] for item in found}


@pytest.mark.parametrize("error", [RetryLater("503"), NotSent("no connection"), OutcomeUnknown("lost")])
def test_a_secret_that_was_read_once_is_not_doubted_for_a_failed_read(error: RetryLater) -> None:
    world = World(credentialsSecret={"name": "ota"})
    world.cluster.secrets["ota"] = {"password": b"x"}
    key = world.device("lyon")
    world.clock.advance(60)
    assert world.settle(key)["Ready"] == "Accepted"
    world.woken.clear()
    world.cluster.no_secrets = error
    run_now(world.parts.passwords.refresh())
    assert not world.woken
    assert world.settle(key)["Ready"] == "Accepted"
    # What is known for sure is news.
    world.cluster.no_secrets = Refused("403")
    run_now(world.parts.passwords.refresh())
    assert key in world.woken
    assert world.settle(key)["Ready"] == "SecretUnreadable"


def test_nothing_is_said_of_a_secret_that_could_not_be_read_yet() -> None:
    world = World(credentialsSecret={"name": "ota"})
    world.cluster.secrets["ota"] = {"password": b"x"}
    world.cluster.no_secrets = RetryLater("503")
    key = world.device("lyon")
    with pytest.raises(RetryLater):
        world.reconcile(key)
    world.cluster.no_secrets = None
    assert world.settle(key)["Ready"] == "Accepted"


async def test_a_write_that_failed_uses_up_nothing() -> None:
    world = World(health=QUICK)
    key = world.device("lyon")
    world.boards.pages["lyon"] = {"build": "one"}
    async with world.asking():
        await world.looks(1)
        assert world.settle(key)["Online"] == "Answering"
        world.boards.pages["lyon"] = {"build": "two"}
        await world.looks(1)
    world.cluster.no_writes = RetryLater("503")
    for _ in range(MOST + 2):
        with pytest.raises(RetryLater):
            world.reconcile(key)
    world.cluster.no_writes = None
    assert world.reconcile(key) is None
    assert world.cluster.objects[key]["status"]["firmware"]["reported"]["build"] == "two"
