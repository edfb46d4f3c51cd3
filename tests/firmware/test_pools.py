"""The WorkerPools that ship with the firmware workflows serve them, from no pods at all."""

import os
import sys
from typing import Any

import boto3
import yaml

from support.bed import Bed, condition
from support.firmware import SAMPLE, Repository
from support.fleets import PASSWORD, build_fleet, open_bench
from support.workshop import ended

WORKFLOWS = ("firmware-build-failed", "firmware-rollback", "firmware-ci")


def shipped_pools(bed: Bed) -> list[dict[str, Any]]:
    """As they are in the manifest, but for the image."""
    text = (SAMPLE.parent / "pools" / "firmware-pools.yaml").read_text()
    pools = [body for body in yaml.safe_load_all(text) if body]
    for body in pools:
        (container,) = body["spec"]["template"]["spec"]["containers"]
        container["env"] += [
            {"name": "CONDUCTOR_SERVER_URL", "value": bed.conductor_url},
            # What the image has.
            {"name": "WORKER_FUNCTIONS", "value": "podium_workers.firmware"},
            {"name": "WORKER_DATA_DIR", "value": "/tmp/podium-data"},
            {"name": "PYTHONPATH", "value": os.pathsep.join(path for path in sys.path if path)},
            # The stand-in node puts the pod's own address in its place.
            {"name": "PODIUM_OTA_HOST", "value": "0.0.0.0"},
        ]
    return pools


def artifact_store(url: str) -> dict[str, Any]:
    """The bucket that the manifest names, and the Secret for it."""
    keys = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}
    boto3.client(
        "s3", region_name="us-east-1", endpoint_url=url,
        aws_access_key_id=keys["AWS_ACCESS_KEY_ID"], aws_secret_access_key=keys["AWS_SECRET_ACCESS_KEY"],
    ).create_bucket(Bucket="firmware")  # fmt: skip
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "artifact-store"},
        "stringData": {**keys, "AWS_ENDPOINT_URL": url, "AWS_REGION": "us-east-1"},
    }


async def test_a_commit_is_built_and_sent_by_pools_that_wake_for_it(
    bed: Bed, sample: Repository, s3_server: str
) -> None:
    await bed.start_process_node()
    await bed.start_operator()
    await bed.apply(*((SAMPLE.parent / f"{name}.yaml").read_text() for name in WORKFLOWS))
    await bed.apply(artifact_store(s3_server), *shipped_pools(bed))
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
