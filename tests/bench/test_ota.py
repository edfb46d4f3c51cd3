"""Updates over the air: whether verdicts are true, and the sender beside the protocol's usual one."""

import asyncio
import collections
import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from statistics import median

import aiohttp
import pytest

from podium_workers.simulator.firmware import build_image
from podium_workers.simulator.spec import DeviceGroup, build_specs
from support.campaign import find_lies, run_campaign, tally

pytestmark = [pytest.mark.bench, pytest.mark.timeout(3600)]

UPDATES = int(os.environ.get("PODIUM_BENCH_UPDATES", "10000"))
PART = 1000
ROUNDS = 3
OTA_PORT, HEALTH_PORT = 15232, 15080
ENVIRONMENT = {**os.environ, "PYTHONPATH": ":".join(path for path in sys.path if path)}


async def test_ota_verdicts() -> None:
    """10,000 updates with faults by chance: no false success, no false failure."""
    seen: collections.Counter[str] = collections.Counter()
    lies: dict[str, list[str]] = collections.defaultdict(list)
    began = time.perf_counter()
    for part in range(UPDATES // PART):
        records = await run_campaign(PART, seed=7000 + part, at_once=150)
        seen.update(tally(records))
        for kind, found in find_lies(records).items():
            lies[kind] += found
    print(f"\n{seen.total()} updates in {time.perf_counter() - began:.0f} s")
    for outcome, count in seen.most_common():
        print(f"  {count:6}  {outcome}")
    print({kind: len(found) for kind, found in lies.items()})
    assert not any(lies.values()), dict(lies)


@contextlib.asynccontextmanager
async def devices(count: int, *more: str) -> AsyncIterator[list[str]]:
    """Simulated devices in a process of their own; their addresses."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "podium_workers.simulator", "devices", "--count", str(count)),
        *("--ota-port", str(OTA_PORT), "--health-port", str(HEALTH_PORT), "--listen", "127.0.0.1:0"),
        *("--password", "glow", "--auth", "md5", "--first-address", "127.81.0.1", "--speed", "100", *more),
        stdout=subprocess.PIPE,
        env=ENVIRONMENT,
    )
    try:
        assert process.stdout is not None
        assert await process.stdout.readline()
        yield [spec.address for spec in build_specs([DeviceGroup(count=count)], "127.81.0.1", 1)]
    finally:
        process.terminate()
        await process.wait()


async def send(way: str, image: Path, addresses: list[str]) -> dict[str, float]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "support.ota_senders", way, str(image), str(OTA_PORT), "glow", *addresses),
        stdout=subprocess.PIPE,
        env=ENVIRONMENT,
    )
    said, _ = await process.communicate()
    result: dict[str, float] = json.loads(said)
    assert result["took"] == len(addresses), f"{way}: {result}"
    return result


async def until_on(addresses: list[str]) -> None:
    """Until all have started their new firmware."""
    async with aiohttp.ClientSession() as session:
        for address in addresses:
            while True:
                with contextlib.suppress(aiohttp.ClientError):
                    async with session.get(f"http://{address}:{HEALTH_PORT}/api/health"):
                        break
                await asyncio.sleep(0.05)


@pytest.mark.parametrize(
    ("name", "count", "size", "more", "ways"),
    [
        ("one device, 10 ms away", 1, 1024 * 1024, ("--rtt", "0.01"), ("stock", "gateway")),
        ("10 ms away", 100, 64 * 1024, ("--rtt", "0.01"), ("stock", "threads", "gateway")),
        ("at 94 kB/s each", 40, 64 * 1024, ("--rate", "94000"), ("stock", "threads", "gateway")),
        # Here the simulator is what takes the time: it shows the cost of the sender only.
        ("as quick as loopback is", 200, 256 * 1024, (), ("stock", "threads", "gateway")),
    ],
    ids=["one-device", "round-trips", "slow-links", "loopback"],
)
async def test_ota_speed(
    name: str, count: int, size: int, more: tuple[str, ...], ways: tuple[str, ...], tmp_path: Path
) -> None:
    """Devices a second and memory of the sender, beside the usual algorithm against the same devices."""
    image = tmp_path / "image.bin"
    image.write_bytes(build_image("9f1c2ab", size=size))
    results: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
    async with devices(count, *more) as addresses:
        for _ in range(ROUNDS):
            for way in ways:
                results[way].append(await send(way, image, addresses))
                await until_on(addresses)
    print(f"\n{count} devices, {size // 1024} KiB, {name}, {ROUNDS} rounds in turn (medians)")
    rates = {way: count / median(result["seconds"] for result in found) for way, found in results.items()}
    for way, found in results.items():
        print(
            f"  {way:8} {rates[way]:7.1f} devices/s ({rates[way] / rates['stock']:.1f} × stock), "
            f"{median(result['kib'] for result in found) / 1024:.0f} MiB, "
            f"{median(result['cpu'] for result in found) / count * 1000:.1f} ms of processor each"
        )
    if more:
        assert rates["gateway"] > rates["stock"]
