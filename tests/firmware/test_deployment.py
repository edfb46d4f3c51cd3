"""A stored image goes onto simulated devices by the tasks, and what became of it is said."""

import asyncio
import re
import socket
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from podium_workers import Reject, Retry
from podium_workers.services.artifacts import open_store
from podium_workers.simulator import sites
from podium_workers.simulator.device import Device
from podium_workers.simulator.firmware import build_image
from support.firmware import Run
from support.fleets import COMMIT, OLD, PASSWORD, Bench, build_fleet, open_bench

DEVICES = {"good": [], "low": ["low-heap:free=41984"], "far": ["drop:at=50"]}
CHECK = {"within": "6s", "interval": "100ms"}


pytestmark = pytest.mark.usefixtures("ota_on_loopback")


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    """Three devices: a good one, one that gets little heap with any new firmware, and one with a bad link."""
    specs = [
        replace(spec, name=name, address=f"127.77.9.{number}", mac=f"aa:bb:cc:77:09:0{number}")
        for number, (name, faults) in enumerate(DEVICES.items(), 1)
        for spec in build_fleet(*faults)
    ]
    async with open_bench(specs) as opened:
        yield opened


def stored(run: Run, **more: Any) -> str:
    store = open_store(run.context.data_dir)
    image = build_image(COMMIT[:12], **{"size": 16 * 1024, **more})
    sha256 = store.put(image)
    store.put_artifact(sha256, {"commit": COMMIT, "environment": "s3"})
    return sha256


def about(bench: Bench, device: Device) -> dict[str, Any]:
    return {
        "host": device.spec.address,
        "otaPort": bench.fleet.world.ota_port,
        "healthPort": bench.fleet.health_port,
        "mac": device.spec.mac,
        "chip": "ESP32-S3",
        "health": {"timeout": "1s"},
    }


async def test_a_device_gets_an_artifact_and_is_healthy_with_it(bench: Bench, run: Run) -> None:
    device = about(bench, bench.fleet.named("good"))
    sent = await run("deploy_firmware_ota", device=device, sha256=stored(run), password=PASSWORD)
    assert (sent["verdict"], sent["authScheme"], sent["before"]["build"]) == ("Succeeded", "Md5", OLD)
    assert sent["commit"] == COMMIT
    checked = await run("device_health_check", device=device, commit=COMMIT, deployment=sent, **CHECK)
    assert (checked["verdict"], checked["healthy"], checked["reason"]) == ("Healthy", True, "")
    told = "\n".join(run.lines)
    assert "Sending 50 %" in told
    assert "has taken all" in told
    assert f"Healthy: runs {COMMIT[:12]}" in told
    # Once more: there is nothing to do, and it need not restart to be called healthy.
    again = await run("deploy_firmware_ota", device=device, sha256=stored(run), password=PASSWORD)
    assert again["verdict"] == "Current"
    assert bench.fleet.named("good").updates == 1
    # What it ran before it got that is still known: it may have to go back.
    assert again["before"]["build"] == OLD
    checked = await run("device_health_check", device=device, commit=COMMIT, deployment=again, **CHECK)
    assert checked["healthy"]
    assert open_store(run.context.data_dir).pins() == {stored(run): {f"device/default/{device['host']}"}}


async def test_chip_and_mac_are_the_same_however_they_are_written(
    bench: Bench, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulated = bench.fleet.named("good")
    mac = simulated.spec.mac
    device = about(bench, simulated) | {"mac": mac.upper().replace(":", "-"), "chip": "esp32-s3"}
    shown = sites.health

    def as_the_docs_have_it(shows: Device, now: float) -> dict[str, Any]:
        return shown(shows, now) | {"chip": "ESP32-S3", "mac": mac.replace(":", "")}

    monkeypatch.setattr(sites, "health", as_the_docs_have_it)
    sent = await run("deploy_firmware_ota", device=device, sha256=stored(run), password=PASSWORD)
    assert sent["verdict"] == "Succeeded"
    checked = await run("device_health_check", device=device, commit=COMMIT, deployment=sent, **CHECK)
    assert checked["healthy"], checked


async def test_a_device_with_too_little_heap_is_called_unhealthy(bench: Bench, run: Run) -> None:
    device = about(bench, bench.fleet.named("low"))
    sent = await run("deploy_firmware_ota", device=device, sha256=stored(run), password=PASSWORD)
    checked = await run("device_health_check", device=device, commit=COMMIT, deployment=sent, **CHECK)
    assert (checked["verdict"], checked["reason"]) == ("Unhealthy", "LowHeap")
    assert re.fullmatch(r"free heap 4\d\.\d KiB, want more than 50\.0 KiB", checked["message"])


async def test_a_transfer_that_may_end_better_is_tried_again(bench: Bench, run: Run) -> None:
    device = about(bench, bench.fleet.named("far"))
    sha256 = stored(run, size=2**20)
    with pytest.raises(Retry, match=r"127\.77\.9\.3: Connection") as caught:
        await run("deploy_firmware_ota", device=device, sha256=sha256, password=PASSWORD)
    assert caught.value.output["reason"] in {"ConnectionClosed", "ConnectionReset"}
    assert caught.value.output["before"]["build"] == OLD


@pytest.mark.parametrize(
    ("change", "password", "reason"),
    [
        ({}, "wrong", "PasswordWrong"),
        ({}, None, "PasswordMissing"),
        ({"mac": "aa:bb:cc:00:00:01"}, PASSWORD, "WrongDevice"),
    ],
)
async def test_what_no_attempt_can_mend_fails_for_good(
    bench: Bench, run: Run, change: dict[str, Any], password: str | None, reason: str
) -> None:
    device = {**about(bench, bench.fleet.named("good")), **change}
    with pytest.raises(Reject, match=f": {reason}: ") as caught:
        await run("deploy_firmware_ota", device=device, sha256=stored(run), password=password)
    assert caught.value.output["verdict"] == "Failed"


async def test_an_image_for_another_chip_is_not_sent(bench: Bench, run: Run) -> None:
    device = about(bench, bench.fleet.named("good"))
    with pytest.raises(Reject, match="WrongChip: the image is for ESP32C3"):
        await run("deploy_firmware_ota", device=device, sha256=stored(run, chip="ESP32C3"), password=PASSWORD)


async def test_an_artifact_that_is_gone_or_damaged_is_not_sent(bench: Bench, run: Run) -> None:
    device = about(bench, bench.fleet.named("good"))
    with pytest.raises(Reject, match="build it again"):
        await run("deploy_firmware_ota", device=device, sha256="0" * 64)
    sha256 = stored(run)
    (run.context.data_dir / "artifacts" / "blobs" / sha256).write_bytes(b"damaged")
    with pytest.raises(Reject, match="is damaged"):
        await run("deploy_firmware_ota", device=device, sha256=sha256)
    assert bench.fleet.named("good").board.firmware is bench.fleet.named("good").board.factory


async def test_of_several_images_a_device_gets_that_of_its_board(bench: Bench, run: Run) -> None:
    device = about(bench, bench.fleet.named("good"))
    other, own = ({"environment": name, "sha256": stored(run, seed=seed)} for seed, name in enumerate("ab"))
    given = {"artifacts": [other, own], "password": PASSWORD}
    with pytest.raises(
        Reject, match=r"a, b were built, and the device gets one: say in `device.environment`"
    ):
        await run("deploy_firmware_ota", device=device, **given)
    with pytest.raises(Reject, match=r"device.environment: c is none of what was built: a, b"):
        await run("deploy_firmware_ota", device=device | {"environment": "c"}, **given)
    with pytest.raises(Reject, match="there is nothing to send"):
        await run("deploy_firmware_ota", device=device)
    assert bench.fleet.named("good").updates == 0
    sent = await run("deploy_firmware_ota", device=device | {"environment": "b"}, **given)
    assert (sent["verdict"], sent["sha256"]) == ("Succeeded", own["sha256"])


async def test_many_devices_are_sent_to_at_once_through_one_port(run: Run) -> None:
    async with open_bench(build_fleet(count=20)) as bench:
        devices = [about(bench, device) for device in bench.fleet.devices]
        sha256 = stored(run)
        sent = await asyncio.gather(
            *(
                run("deploy_firmware_ota", device=device, sha256=sha256, password=PASSWORD)
                for device in devices
            )
        )
    assert {item["verdict"] for item in sent} == {"Succeeded"}


async def test_a_port_that_is_taken_says_so(bench: Bench, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    device = about(bench, bench.fleet.named("good"))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setenv("PODIUM_OTA_PORT", str(port))
        with pytest.raises(
            Retry, match=f"port {port} of 127.0.0.1 cannot be had .*PODIUM_OTA_PORT names another"
        ):
            await run("deploy_firmware_ota", device=device, sha256=stored(run), password=PASSWORD)
    sent = await run("deploy_firmware_ota", device=device, sha256=stored(run), password=PASSWORD)
    assert sent["verdict"] == "Succeeded"


@pytest.mark.parametrize(("name", "value"), [("PODIUM_OTA_PORT", "many"), ("PODIUM_OTA_TRANSFERS", "0")])
async def test_a_setting_that_is_none_is_named(
    bench: Bench, run: Run, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(Reject, match=f"{name}: "):
        await run("deploy_firmware_ota", device=about(bench, bench.fleet.devices[0]), sha256=stored(run))


async def test_a_check_that_began_late_still_looks(bench: Bench, run: Run) -> None:
    device = about(bench, bench.fleet.named("good"))
    sent = await run("deploy_firmware_ota", device=device, sha256=stored(run), password=PASSWORD)
    sent = {**sent, "endedAt": sent["endedAt"] - 3600, "beforeAt": sent["beforeAt"] - 3600}
    checked = await run("device_health_check", device=device, commit=COMMIT, deployment=sent, **CHECK)
    assert checked["healthy"], checked


async def test_a_device_that_is_not_there_is_neither_healthy_nor_unhealthy(run: Run) -> None:
    device = {"host": "127.77.9.99", "healthPort": 9}
    checked = await run("device_health_check", device=device, commit=COMMIT, within="1s", interval="100ms")
    assert (checked["verdict"], checked["healthy"]) == ("Undecided", False)
    assert checked["reason"] in {"NeverCameBack", "NoHealthApi"}
