"""Simulated devices as Devices: what is seen of them stands in their status, and is written seldom."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import yaml

from podium.local.errors import LocalError
from podium.ports import Json
from podium_workers.simulator.faults import parse_fault
from podium_workers.simulator.manifests import build_manifests
from support.bed import Bed, condition, is_ready
from support.eventually import eventually
from support.fleets import Bench, build_fleet, open_bench

pytestmark = pytest.mark.slow

QUICK = {"path": "/api/health", "interval": "1s", "timeout": "500ms", "offlineAfter": "2s"}


@contextlib.asynccontextmanager
async def fleet(*faults: str, count: int = 1, **group: Any) -> AsyncIterator[Bench]:
    async with open_bench(build_fleet(*faults, count=count, **group)) as bench:
        yield bench


def manifests_of(bench: Bench, **health: Any) -> list[Json]:
    """As `podium simulate devices --manifests` prints them, but asked more often."""
    specs = [device.spec for device in bench.fleet.devices]
    made: list[Any] = build_manifests(
        specs, ota_port=bench.fleet.world.ota_port, health_port=bench.fleet.health_port
    )
    for item in made:
        if item["kind"] == "DeviceModel":
            item["spec"]["health"] = {**QUICK, **health}
    return made


def words(body: Json) -> dict[str, tuple[str, str]]:
    found = (body.get("status") or {}).get("conditions") or []
    return {item["type"]: (item["status"], item["reason"]) for item in found}


def says(kind: str, status: str, reason: str) -> Any:
    return lambda body: words(body).get(kind) == (status, reason)


async def test_devices_are_seen_and_lost_and_seen_again(bed: Bed) -> None:
    async with fleet(count=3) as bench:
        await bed.start_operator()
        await bed.apply(*manifests_of(bench))
        first, second, _ = bench.fleet.devices
        for device in bench.fleet.devices:
            body = await bed.until("Device", device.spec.name, says("Online", "True", "Answering"))
            assert is_ready(body)
            assert words(body)["Healthy"] == ("True", "Healthy")
            assert body["status"]["connectivity"] == "Online"
            assert body["status"]["firmware"]["reported"]["build"] == device.spec.build
        model = (await bed.get("Device", first.spec.name))["spec"]["model"]
        await bed.until("DeviceModel", model, lambda body: body.get("status", {}).get("devices") == 3)

        first.switch_off()
        body = await bed.until("Device", first.spec.name, says("Online", "False", "NoAnswer"))
        assert body["status"]["connectivity"] == "Offline"
        assert is_ready(body), "Ready means accepted, not online"
        assert body["status"]["firmware"]["reported"]["build"] == first.spec.build
        assert f"{first.spec.address}:{bench.fleet.health_port}" in condition(body, "Online")["message"]
        await eventually(lambda: bed.events("DeviceOffline"), bool)

        first.switch_on()
        await bed.until("Device", first.spec.name, says("Online", "True", "Answering"))
        assert (await bed.get("Device", second.spec.name))["status"]["connectivity"] == "Online"


@pytest.mark.parametrize(
    ("fault", "kind", "status", "reason"),
    [
        ("other-device", "Online", "False", "AnotherDevice"),
        ("health-absent", "Online", "False", "NoAnswer"),
        ("health-error", "Online", "Unknown", "HealthRefused"),
        ("health-garbage", "Online", "Unknown", "AnswerUnreadable"),
        ("health-slow:seconds=5", "Online", "False", "NoAnswer"),
    ],
)
async def test_answers_that_are_none_are_told_apart(
    bed: Bed, fault: str, kind: str, status: str, reason: str
) -> None:
    async with fleet() as bench:
        await bed.start_operator()
        await bed.apply(*manifests_of(bench))
        [device] = bench.fleet.devices
        await bed.until("Device", device.spec.name, says("Online", "True", "Answering"))
        bench.fleet.give(device, parse_fault(fault))
        body = await bed.until("Device", device.spec.name, says(kind, status, reason))
        assert words(body)["Healthy"] == ("Unknown", "NotSeen")
        assert is_ready(body)


async def test_a_device_with_little_heap_is_not_healthy(bed: Bed) -> None:
    async with fleet(heap=40 * 1024) as bench:
        await bed.start_operator()
        await bed.apply(*manifests_of(bench, minFreeHeap="50Ki"))
        [device] = bench.fleet.devices
        body = await bed.until("Device", device.spec.name, says("Healthy", "False", "LowHeap"))
        assert "want 50 KiB" in condition(body, "Healthy")["message"]


async def test_a_device_that_is_another_chip_is_not_healthy(bed: Bed) -> None:
    async with fleet() as bench:
        made = manifests_of(bench)
        for item in made:
            if item["kind"] == "DeviceModel":
                item["spec"]["chip"] = "ESP32-C3"
        await bed.start_operator()
        await bed.apply(*made)
        [device] = bench.fleet.devices
        await bed.until("Device", device.spec.name, says("Healthy", "False", "WrongChip"))


async def test_what_a_device_names_must_be_there(bed: Bed) -> None:
    async with fleet() as bench:
        made = manifests_of(bench)
        secret, model, device = made
        name = device["metadata"]["name"]
        await bed.start_operator()
        await bed.apply(device)
        body = await bed.until("Device", name, says("Ready", "False", "ModelNotFound"))
        assert (
            f"there is no DeviceModel {device['spec']['model']} here" in condition(body, "Ready")["message"]
        )
        assert words(body)["Online"] == ("Unknown", "NotAsked")
        await bed.apply(model)
        await bed.until("Device", name, says("Ready", "False", "SecretNotFound"))
        await bed.apply(secret)
        await bed.until("Device", name, is_ready, within=45)


async def test_two_devices_cannot_be_one_board_or_in_one_place(bed: Bed) -> None:
    async with fleet(count=2) as bench:
        made = manifests_of(bench)
        first, second = (item for item in made if item["kind"] == "Device")
        await bed.start_operator()
        await bed.apply(*made)
        await bed.until("Device", first["metadata"]["name"], is_ready)
        board = json.loads(json.dumps(first))
        board["metadata"]["name"] = "same-board"
        board["spec"]["address"]["host"] = "127.77.9.9"
        place = json.loads(json.dumps(second))
        place["metadata"]["name"] = "same-place"
        del place["spec"]["mac"]
        await asyncio.sleep(1.1)  # creation times are whole seconds: who is older must be plain
        await bed.apply(board, place)
        body = await bed.until("Device", "same-board", says("Ready", "False", "DuplicateMac"))
        assert first["metadata"]["name"] in condition(body, "Ready")["message"]
        assert words(body)["Stalled"] == ("True", "DuplicateMac")
        await bed.until("Device", "same-place", says("Ready", "False", "DuplicateAddress"))
        # The older ones go: the younger ones take their places.
        await bed.kubectl("delete", "device", first["metadata"]["name"], "-n", bed.namespace)
        await bed.until("Device", "same-board", is_ready)


async def test_a_window_that_means_nothing_is_told_with_its_field(bed: Bed) -> None:
    async with fleet() as bench:
        made = manifests_of(bench)
        made[-1]["spec"]["maintenanceWindows"] = [
            {"cron": "0 1 * * *", "duration": "3h"},
            {"cron": "0 1 * *", "duration": "3h"},
        ]
        await bed.start_operator()
        await bed.apply(*made)
        body = await bed.until(
            "Device", made[-1]["metadata"]["name"], says("Ready", "False", "InvalidSchedule")
        )
        assert condition(body, "Ready")["message"].startswith("spec.maintenanceWindows[1].cron: ")


async def test_a_device_at_rest_and_one_that_flaps_are_written_seldom(bed: Bed) -> None:
    async with fleet(count=2) as bench:
        await bed.start_operator()
        await bed.apply(*manifests_of(bench))
        calm, restless = bench.fleet.devices
        for device in (calm, restless):
            await bed.until("Device", device.spec.name, says("Online", "True", "Answering"))
        before = (await bed.get("Device", calm.spec.name))["metadata"]["resourceVersion"]
        versions = set()
        for _ in range(3):
            for power in (restless.switch_off, restless.switch_on):
                power()
                connectivity = "Offline" if power == restless.switch_off else "Online"
                with contextlib.suppress(TimeoutError, AssertionError):
                    await bed.until(
                        "Device",
                        restless.spec.name,
                        lambda body, want=connectivity: body["status"]["connectivity"] == want,
                        within=4,
                    )
                versions.add((await bed.get("Device", restless.spec.name))["metadata"]["resourceVersion"])
        assert len(versions) <= 3, "three writes at once, and then one in ten minutes"
        assert (await bed.get("Device", calm.spec.name))["metadata"]["resourceVersion"] == before


async def test_a_restart_writes_nothing_of_devices_that_are_as_before(bed: Bed) -> None:
    async with fleet(count=3) as bench:
        calm, lost, other = bench.fleet.devices
        await bed.start_operator()
        lost.switch_off()
        other.switch_off()
        await bed.apply(*manifests_of(bench))
        await bed.until("Device", calm.spec.name, says("Online", "True", "Answering"))
        for device in (lost, other):
            await bed.until("Device", device.spec.name, says("Online", "False", "NoAnswer"))

        async def versions() -> list[str]:
            bodies = [await bed.get("Device", device.spec.name) for device in (calm, lost)]
            return [body["metadata"]["resourceVersion"] for body in bodies]

        before = await versions()
        await bed.stop_operator()
        await bed.start_operator()
        other.switch_on()
        await bed.until("Device", other.spec.name, says("Online", "True", "Answering"))
        assert await versions() == before


async def test_what_the_simulator_prints_is_taken_as_it_is(bed: Bed) -> None:
    async with fleet(count=2, auth="pbkdf2") as bench:
        specs = [device.spec for device in bench.fleet.devices]
        made = build_manifests(specs, ota_port=3232, health_port=bench.fleet.health_port)
        text = yaml.safe_dump_all(made, explicit_start=True)
        await bed.kubectl(
            "apply", "--server-side", "--validate=strict", "-n", bed.namespace, "-f", "-", stdin=text
        )
        await bed.start_operator()
        for device in bench.fleet.devices:
            await bed.until("Device", device.spec.name, says("Online", "True", "Answering"))


async def test_a_board_stays_the_board_that_it_is(bed: Bed) -> None:
    model = {
        "apiVersion": "podium.dev/v1alpha1",
        "kind": "DeviceModel",
        "metadata": {"name": "m"},
        "spec": {"chip": "ESP32S3", "board": "b", "slotSize": "3264Ki"},
    }
    device = {
        "apiVersion": "podium.dev/v1alpha1",
        "kind": "Device",
        "metadata": {"name": "d"},
        "spec": {"model": "m", "address": {"host": "127.77.9.8"}, "mac": "aa:bb:cc:00:04:21"},
    }
    await bed.apply(model, device)
    for kind, patch, message in (
        ("device/d", '{"spec":{"mac":"aa:bb:cc:00:04:22"}}', "mac cannot be changed or removed"),
        ("device/d", '{"spec":{"mac":null}}', "mac cannot be changed or removed"),
        ("devicemodel/m", '{"spec":{"chip":"ESP32"}}', "chip cannot be changed"),
    ):
        with pytest.raises(LocalError, match=message):
            await bed.kubectl("patch", kind, "-n", bed.namespace, "--type=merge", "-p", patch)
    await bed.kubectl(
        "patch",
        "device/d",
        "-n",
        bed.namespace,
        "--type=merge",
        "-p",
        '{"spec":{"address":{"host":"127.77.9.7"}}}',
    )
