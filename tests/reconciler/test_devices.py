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
from podium.reconciler.resync import resync
from podium.reconciler.store import Store
from support.eventually import eventually
from support.fakes import FakeClock, FakeCluster, FakeRecorder, run_now

SLOW = {"interval": "24h", "timeout": "1s", "offlineAfter": "24h"}
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

    def settle_model(self) -> None:
        """A pass over the model."""
        run_now(self.parts.models.reconcile(self.model))

    async def resync(self) -> set[Key]:
        """What a list of everything wakes."""
        woken: set[Key] = set()
        await resync(self.cluster, self.store, woken.add, lambda: None, (), first=False)
        return woken

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

    def delete(self, key: Key) -> None:
        """`kubectl delete`, seen."""
        del self.cluster.objects[key]
        (self.store.remove_device if key.kind == "Device" else self.store.remove_model)(key)

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
    world.reconcile(key)
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


async def test_the_first_write_waits_for_the_first_look() -> None:
    world = World(health=QUICK)
    key = world.device("lyon")
    world.boards.pages["lyon"] = {"build": "one"}
    assert world.reconcile(key) == 5.0
    assert world.cluster.objects[key]["status"] == {"observedGeneration": -1}
    async with world.asking():
        await world.looks(1)
    assert key in world.woken
    assert world.reconcile(key) is None
    assert (world.words(key)["Ready"], world.words(key)["Online"]) == ("Accepted", "Answering")


def test_the_first_write_does_not_wait_for_long() -> None:
    world = World()
    key = world.device("lyon")
    assert world.reconcile(key) == 5.0
    world.clock.advance(-86_400)
    assert (world.reconcile(key) or 0) <= 5.0
    world.clock.advance(5)
    assert world.reconcile(key) is None
    assert world.words(key)["Online"] == "NotAsked"


def test_what_is_applied_before_its_model_waits_a_moment_for_it() -> None:
    world = World()
    world.delete(world.model)
    key = world.device("lyon")
    assert world.reconcile(key) == 2.0
    world.clock.advance(2)
    assert world.reconcile(key) is None
    assert world.words(key)["Ready"] == "ModelNotFound"


async def test_one_that_comes_as_another_goes_is_asked_at_once() -> None:
    world = World(health=SLOW)
    old = world.device("old")
    world.reconcile(old)
    async with world.asking():
        await world.looks(1, "old")
        world.delete(old)
        new = world.device("new")
        world.reconcile(old)
        world.reconcile(new)
        await world.looks(1, "new")


@pytest.mark.parametrize("change", ["address", "model", "made anew"])
async def test_what_is_asked_otherwise_is_asked_at_once_and_else_at_its_time(change: str) -> None:
    world = World(health=SLOW)
    key = world.device("lyon")
    world.reconcile(key)
    async with world.asking():
        await world.looks(1)
        if change == "address":
            world.device("lyon", "elsewhere")
        elif change == "model":
            world.cluster.put("DeviceModel", "k1", {"spec": {**MODEL, "health": {**SLOW, "timeout": "2s"}}})
            world.take_in()
        else:
            world.delete(key)
            world.device("lyon")
        for _ in range(3):
            world.reconcile(key)
        await world.looks(1, "elsewhere" if change == "address" else "lyon")
        # And once only, though it is looked at again and again.
        other = world.device("other")
        world.reconcile(other)
        for _ in range(3):
            world.reconcile(key)
        await world.looks(1, "other")
    assert world.boards.asked["lyon"] == (1 if change == "address" else 2)


async def test_what_was_true_before_a_pause_in_asking_says_nothing_after_it() -> None:
    world = World(health=SLOW)
    key = world.device("lyon")
    world.boards.pages["lyon"] = {"build": "one"}
    world.reconcile(key)
    async with world.asking():
        await world.looks(1)
        assert world.settle(key)["Online"] == "Answering"
    world.delete(world.model)
    world.settle(key)
    world.clock.advance(86_400)
    del world.boards.pages["lyon"]
    world.cluster.put("DeviceModel", "k1", {"spec": {**MODEL, "health": SLOW}})
    world.take_in()
    assert world.settle(key)["Online"] == "NotAsked"


async def test_what_a_list_heals_wakes_all_that_depend_on_it() -> None:
    world = World()
    lyon = world.device("lyon", "10.0.0.1")
    world.settle(lyon)
    world.settle_model()
    world.take_in()
    assert await world.resync() == set()
    # Nobody is told that the model changed, or of another device at that address, or of its end.
    world.cluster.put("DeviceModel", "k1", {"spec": {**MODEL, "board": "other"}})
    assert lyon in await world.resync()
    world.settle_model()
    elder = world.cluster.put("Device", "elder", {"spec": {"model": "k1", "address": {"host": "10.0.0.1"}}})
    assert {lyon, world.model} <= await world.resync()
    assert world.settle(lyon)["Ready"] == "DuplicateAddress"
    del world.cluster.objects[elder]
    assert {lyon, world.model} <= await world.resync()
    assert world.settle(lyon)["Ready"] == "Accepted"


async def test_what_a_device_costs_does_not_grow_with_their_number(monkeypatch: pytest.MonkeyPatch) -> None:
    count = 400
    world = World(health=SLOW)
    keys = [
        world.cluster.put("Device", f"d{n}", {"spec": {"model": "k1", "address": {"host": f"d{n}"}}})
        for n in range(count)
    ]
    world.take_in()
    for key in keys:
        world.reconcile(key)
    compare, compared = Key.__eq__, Counter[str]()

    def counted(one: Key, other: object) -> bool:
        compared["keys"] += 1
        return compare(one, other)

    monkeypatch.setattr(Key, "__eq__", counted)
    async with world.asking():
        for key in keys:
            await world.looks(1 - world.boards.asked[key.name], key.name)
    for key in keys:
        world.delete(key)
        world.reconcile(key)
    assert compared["keys"] < 50 * count
