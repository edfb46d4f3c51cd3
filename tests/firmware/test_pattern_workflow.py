"""The pattern workflow, as it ships, on the real servers: real compiler and protocol, a simulated device."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from podium_workers.services.artifacts import open_store
from podium_workers.services.shelves import FolderShelf
from podium_workers.simulator.faults import parse_fault
from support.bed import Bed
from support.eventually import eventually
from support.firmware import SAMPLE, Repository
from support.fleets import PASSWORD, Bench, build_fleet, open_bench
from support.webhook import Webhook
from support.workshop import ended, open_workshop, tasks

MANIFESTS = [SAMPLE.parent / name for name in ("pattern-test.yaml", "firmware-build-failed.yaml")]
SIX = [
    "generate_pattern", "platformio_compile", "deploy_firmware_ota",
    "validate_pattern", "compare_pattern", "report_pattern",
]  # fmt: skip
RAINBOW = {"kind": "rainbow", "frames": 24}


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
async def workshop(bed: Bed, data_dir: Path) -> AsyncIterator[Bed]:
    """The pattern workflow is registered, and a worker with its tasks runs."""
    modules = ("podium_workers.firmware", "podium_workers.patterns")
    async with open_workshop(bed, data_dir, MANIFESTS, *modules) as ready:
        yield ready


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    """One simulated device."""
    async with open_bench(build_fleet(chip="ESP32C3", slot_size=1310720)) as bench:
        yield bench


def given_for(sample: Repository, bench: Bench, **more: Any) -> dict[str, Any]:
    spec = bench.fleet.devices[0].spec
    device = {
        "host": spec.address, "mac": spec.mac, "chip": "ESP32C3",
        "otaPort": bench.fleet.world.ota_port, "healthPort": bench.fleet.health_port,
    }  # fmt: skip
    return {
        "repository": sample.url, "commit": "main", "pattern": RAINBOW, "device": device,
        "otaPassword": PASSWORD, "probeInterval": "100ms", **more,
    }  # fmt: skip


def report_of(data_dir: Path, status: dict[str, Any]) -> dict[str, Any]:
    """The JSON report that the output names; the page is there as well."""
    store = open_store(data_dir, "")
    report = status["output"]["report"]
    page = store.get(report["html"]["sha256"]).decode()
    assert "<svg" in page
    return dict(json.loads(store.get(report["json"]["sha256"])))


async def test_a_pattern_keeps_its_pace_gets_slower_and_loses_its_baseline(
    workshop: Bed, sample: Repository, data_dir: Path, bench: Bench, webhook: Webhook
) -> None:
    device = bench.fleet.devices[0]
    given = given_for(sample, bench, notifyUrl=webhook.url)

    # The first run makes the baseline, of what the device found in the image that it was sent.
    status = await ended(workshop, "first", "pattern-test", **given)
    assert status["phase"] == "Succeeded", status["message"]
    assert [name for name in tasks(status) if name in SIX] == SIX
    output = status["output"]
    assert output["baselineMade"] is True
    shown = device.board.firmware.pattern
    assert (shown.name, shown.leds, shown.checksum) == ("rainbow", 144, output["pattern"]["checksum"])
    per_frame = shown.leds * shown.instructions / 160
    assert output["measured"]["frameMicros"] == pytest.approx(per_frame, rel=0.011)
    assert device.board.build() == output["build"] != output["commit"]
    first = report_of(data_dir, status)
    assert (first["verdict"], first["health"]["verdict"]) == ("pass", "Healthy")

    # The same again: not built, not sent, and held against the baseline.
    status = await ended(workshop, "second", "pattern-test", **given)
    assert status["phase"] == "Succeeded", status["message"]
    assert status["output"]["baselineMade"] is False
    assert device.updates == 1
    second = report_of(data_dir, status)
    assert second["build"] == first["build"]
    assert second["baseline"]["frameMicros"] == first["health"]["measured"]["frameMicros"]

    # The device gets slow: the run fails, behind its report, and people are told.
    device.faults.add(parse_fault("slow-frames:factor=1.5"))
    status = await ended(workshop, "slow", "pattern-test", **given)
    assert status["phase"] == "Failed"
    assert "the pattern has not passed: frame time" in status["message"]
    assert "at most 10 % worse" in status["message"]
    assert tasks(status)["report_pattern"] == "Completed"
    report = report_of(data_dir, status)
    assert [item["passed"] for item in report["comparisons"]] == [False, True]
    assert report["comparisons"][0]["worse_percent"] == pytest.approx(50, abs=2)

    async def told() -> list[dict[str, Any]]:
        return [json.loads(data) for _, data in webhook.got]

    (message,) = await eventually(told, bool)
    assert message["title"].startswith("A pattern test of ")
    assert status["message"] in message["text"]

    # The baseline is damaged: that never passes.
    (record,) = (data_dir / "artifacts" / "records" / "pattern-baseline").iterdir()
    FolderShelf(record).write("baseline.json", b"{")
    status = await ended(workshop, "damaged", "pattern-test", **given)
    assert status["phase"] == "Failed"
    assert "run it again with `newBaseline: true`" in status["message"]


async def test_parameters_that_make_no_sense_stop_before_anything_is_built(
    workshop: Bed, sample: Repository, bench: Bench
) -> None:
    given = given_for(sample, bench, pattern={"kind": "chase", "leds": 10, "width": 11})
    status = await ended(workshop, "wide", "pattern-test", **given)
    assert status["phase"] == "Failed"
    assert "width 11 is more than there are leds (10)" in status["message"]
    assert [name for name in tasks(status) if name in SIX] == ["generate_pattern"]
    status = await ended(workshop, "unknown", "pattern-test", **{**given, "pattern": {"kind": "sparkle"}})
    assert status["phase"] == "Failed"
    assert "sparkle" in status["message"]
    assert bench.fleet.devices[0].updates == 0
