"""The WorkerPools that ship with the firmware workflows serve them, from no pods at all."""

import os
import sys
from pathlib import Path
from typing import Any

import yaml

from support.bed import Bed, condition
from support.firmware import SAMPLE, Repository
from support.fleets import PASSWORD, build_fleet, open_bench
from support.workshop import ended

WORKFLOWS = ("firmware-build-failed", "firmware-rollback", "firmware-ci")


def shipped_pools(bed: Bed, data_dir: Path) -> list[dict[str, Any]]:
    """As they are in the manifest, but for what is a site's own: image, store, addresses."""
    text = (SAMPLE.parent / "pools" / "firmware-pools.yaml").read_text()
    pools = [body for body in yaml.safe_load_all(text) if body]
    for body in pools:
        (container,) = body["spec"]["template"]["spec"]["containers"]
        container["image"] = "podium-firmware-worker"
        # What the image's own command says.
        container["command"] = [
            "podium-worker", "--no-builtin", "--functions", "podium_workers.firmware",
            "--data-dir", str(data_dir / body["metadata"]["name"]),
        ]  # fmt: skip
        del container["envFrom"]
        container["env"] = [
            {"name": "CONDUCTOR_SERVER_URL", "value": bed.conductor_url},
            {"name": "PODIUM_ARTIFACTS", "value": str(data_dir / "artifacts")},
            # The stand-in node puts the pod's own address in its place.
            {"name": "PODIUM_OTA_HOST", "value": "0.0.0.0"},
            {"name": "PYTHONPATH", "value": os.pathsep.join(path for path in sys.path if path)},
        ]
    return pools


async def test_a_commit_is_built_and_sent_by_pools_that_wake_for_it(
    bed: Bed, sample: Repository, tmp_path: Path
) -> None:
    await bed.start_process_node()
    await bed.start_operator()
    builders, sender = shipped_pools(bed, tmp_path / "data")
    await bed.apply(*((SAMPLE.parent / f"{name}.yaml").read_text() for name in WORKFLOWS))
    await bed.apply(builders, sender)
    for name in WORKFLOWS:
        await bed.until_ready(name)
    body = await bed.until(
        "WorkerPool", "firmware-builders", lambda item: condition(item, "Ready").get("status") == "True"
    )
    assert body["status"]["replicas"] == 0
    await bed.until(
        "Workflow", "firmware-ci", lambda item: condition(item, "WorkersAvailable").get("status") == "True"
    )
    async with open_bench(build_fleet(chip="ESP32C3", slot_size=1310720)) as bench:
        (device,) = bench.fleet.devices
        status = await ended(
            bed, "ci", "firmware-ci",
            repository=sample.url, commit="main", chip="ESP32C3", otaPassword=PASSWORD, probeInterval="200ms",
            device={
                "host": device.spec.address, "otaPort": bench.fleet.world.ota_port,
                "healthPort": bench.fleet.health_port,
            },
        )  # fmt: skip
    assert status["phase"] == "Succeeded", status["message"]
    assert status["output"]["health"]["verdict"] == "Healthy"
    assert {task["attempts"] for task in status["tasks"] if task.get("attempts")} == {1}
    body = await bed.get("WorkerPool", "firmware-builders")
    grown = [item for item in body["status"]["decisions"] if item["from"] == 0]
    assert grown[0]["reason"] in ("NeededSoon", "Backlog")
