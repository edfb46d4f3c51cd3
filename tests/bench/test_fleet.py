"""Many Devices: what they cost at rest, and when many go away at once. The devices are simulated ones."""

import asyncio
import json
import os
import resource
import time
from collections import Counter

import pytest

from podium.ports import Json
from podium_workers.simulator.manifests import build_manifests
from support.bed import Bed
from support.eventually import eventually
from support.fleets import build_fleet, open_bench
from support.operator_process import cpu_seconds, create, metric, resident, works

pytestmark = [pytest.mark.bench, pytest.mark.timeout(3600)]

# Each simulated device has two sockets, all in this process.
_MOST = (resource.getrlimit(resource.RLIMIT_NOFILE)[1] - 2000) // 2
DEVICES = min(_MOST, int(os.environ.get("PODIUM_BENCH_FLEET", "10000")))
AWAY = DEVICES // 10
REST_SECONDS = 60.0


async def connectivity(bed: Bed) -> Counter[str]:
    counts: Counter[str] = Counter()
    async for page in bed.cluster.pages("Device", bed.namespace):
        counts.update((body.get("status") or {}).get("connectivity", "") for body in page)
    return counts


async def test_fleet(bed: Bed) -> None:
    async with open_bench(build_fleet(count=DEVICES)) as bench:
        made: list[Json] = build_manifests(
            [device.spec for device in bench.fleet.devices],
            ota_port=bench.fleet.world.ota_port,
            health_port=bench.fleet.health_port,
        )
        secrets = [item for item in made if item["kind"] == "Secret"]
        await bed.apply(*secrets)
        process = bed.start_operator_process()
        try:
            await eventually(lambda: works(bed), bool, within=60)
            began = time.monotonic()
            await create(bed, [item for item in made if item["kind"] != "Secret"])
            created = time.monotonic() - began
            await eventually(
                lambda: connectivity(bed), lambda seen: seen["Online"] == DEVICES, within=1200, every=5.0
            )
            online = time.monotonic() - began
            await asyncio.sleep(10.0)

            written, cpu = await metric(bed, "podium_status_writes"), cpu_seconds(process)
            await asyncio.sleep(REST_SECONDS)
            cpu = cpu_seconds(process) - cpu
            writes_at_rest = await metric(bed, "podium_status_writes") - written
            memory = resident(process)

            began = time.monotonic()
            for device in bench.fleet.devices[:AWAY]:
                device.switch_off()
            await eventually(
                lambda: connectivity(bed), lambda seen: seen["Offline"] == AWAY, within=600, every=5.0
            )
            noticed = time.monotonic() - began
            writes_of_outage = await metric(bed, "podium_status_writes") - written - writes_at_rest
        finally:
            process.kill()
            await asyncio.to_thread(process.wait, 30)
    figures = {
        "devices": DEVICES,
        "created_seconds": round(created, 1),
        "all_online_seconds": round(online, 1),
        "resident_mib": memory,
        "at_rest_per_minute": {
            "writes_to_the_api_server": writes_at_rest * 60 / REST_SECONDS,
            "cpu_seconds": round(cpu * 60 / REST_SECONDS, 1),
        },
        "a_tenth_goes_away": {"noticed_seconds": round(noticed, 1), "writes": writes_of_outage},
    }
    print(json.dumps(figures, indent=2))
    print(
        f"fleet: {DEVICES} devices: {memory['now']} MiB resident, {memory['peak']} at most (goal 512), "
        f"at rest {writes_at_rest:.0f} writes a minute (goal 0) and {cpu:.1f} s of CPU; "
        f"{AWAY} switched off: all offline after {noticed:.0f} s (offlineAfter 90), "
        f"{writes_of_outage:.0f} writes"
    )
    assert writes_at_rest == 0
