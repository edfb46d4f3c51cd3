"""Simulated devices, and an OTA worker's parts to update them: quick, on loopback, all in one process."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any

from podium_workers.firmware.device_update import (
    Deployment,
    Subject,
    check_device,
    look_at,
    send_image,
)
from podium_workers.firmware.health import Healthy, Undecided, Unhealthy
from podium_workers.services.device_api import DeviceApi, HealthPage
from podium_workers.services.ota import Failed, Gateway, GatewaySettings, Target, Timing
from podium_workers.simulator.device import Device
from podium_workers.simulator.faults import parse_fault
from podium_workers.simulator.firmware import build_image
from podium_workers.simulator.fleet import Fleet
from podium_workers.simulator.spec import DeviceGroup as Group
from podium_workers.simulator.spec import DeviceSpec, build_specs

COMMIT = "9f1c2ab0c3d4e5f60718293a4b5c6d7e8f901234"
OLD = "71be003"
PASSWORD = "glow-worm"
QUICK = Timing(invite_every=0.25, invitations=6, proof=1.5, connect=1.5, stall=2.0, finish=2.0)
SPEED = 20.0
_ports = itertools.count(20_000 + os.getpid() % 20_000)


@dataclass(frozen=True)
class Outcome:
    """What came of an update, beside what is true of the device."""

    verdict: str
    """Succeeded, Failed or Unknown."""
    reason: str
    message: str
    runs_new: bool
    well: bool
    """It runs the new firmware, and nothing that was done to it makes it bad."""
    device: str = ""
    deployment: Deployment | None = None

    def __str__(self) -> str:
        return f"{self.verdict}/{self.reason}" if self.reason else self.verdict


class Bench:
    """A fleet, a gateway and the means to ask about health."""

    def __init__(self, fleet: Fleet, gateway: Gateway, api: DeviceApi) -> None:
        self.fleet = fleet
        self.gateway = gateway
        self.api = api

    def subject(self, device: Device, password: str | None = PASSWORD) -> Subject:
        spec = device.spec
        return Subject(
            page=HealthPage(spec.address, self.fleet.health_port, timeout=2.0),
            target=Target(spec.address, self.fleet.world.ota_port, password if spec.auth != "none" else None),
            mac=spec.mac,
            chip=spec.chip,
        )

    async def update(
        self,
        device: Device,
        image: bytes,
        *,
        within: float = 6.0,
        subject: Subject | None = None,
        **wanted: Any,
    ) -> Outcome:
        """Sends it, waits until it is decided, and says what is true."""
        subject = subject or self.subject(device)
        sent = await send_image(self.gateway, image, subject, await look_at(self.api, subject.page))
        if isinstance(sent.verdict, Failed):
            return self._outcome(device, "Failed", sent.verdict.reason, sent.verdict.message, sent)
        expected = replace(
            sent.expectation(COMMIT, subject.mac),
            **{"within": within, "restart_within": within / 2, "min_largest_block": 16 * 1024, **wanted},
        )
        decided = await check_device(self.api, subject.page, expected, interval=0.1)
        match decided:
            case Healthy(message):
                return self._outcome(device, "Succeeded", "", message, sent)
            case Unhealthy(reason, message):
                return self._outcome(device, "Failed", reason, message, sent)
            case Undecided(reason, message):
                return self._outcome(device, "Unknown", reason, message, sent)

    def _outcome(self, device: Device, verdict: str, reason: str, message: str, sent: Deployment) -> Outcome:
        board = device.board
        new = board.firmware is not None and board.firmware is not board.factory
        bad = ("boot-loop", "low-heap", "fragmented-heap", "wrong-build", "dirty-build", "failed-check")
        # What it did in the last moment could not be seen.
        lately = asyncio.get_running_loop().time() - device.power_since < 0.5
        there = device.power == "on" or lately
        well = new and there and not any(board.firmware_fault(name) for name in bad)
        return Outcome(verdict, reason, message, new, well, device.spec.name, sent)


def build_fleet(*faults: str, count: int = 1, seed: int = 1, **group: Any) -> list[DeviceSpec]:
    """Devices with a password, the old build and these faults, on addresses of this process's own."""
    values: dict[str, Any] = {"auth": "md5", "password": PASSWORD, "build": OLD, "boot_seconds": 4.0, **group}
    if values["auth"] == "none":
        values["password"] = ""
    return build_specs([Group(count=count, faults=list(faults), **values)], "127.77.0.1", seed)


@contextlib.asynccontextmanager
async def open_bench(
    specs: list[DeviceSpec], *, speed: float = SPEED, timing: Timing = QUICK, most: int = 50, **fleet: Any
) -> AsyncIterator[Bench]:
    """A bench whose ports nobody else has."""
    for _ in range(50):
        ota, health = next(_ports), next(_ports)
        chosen = Fleet(specs, ota_port=ota, health_port=health, speed=speed, **fleet)
        try:
            await chosen.__aenter__()
        except OSError:
            continue
        break
    else:
        raise AssertionError("no free ports")
    try:
        settings = GatewaySettings("127.0.0.1", 0, most_transfers=most, timing=timing)
        async with Gateway(settings) as gateway, DeviceApi() as api:
            yield Bench(chosen, gateway, api)
    finally:
        await chosen.__aexit__(None, None, None)
        await asyncio.sleep(0)


def new_image(**more: Any) -> bytes:
    """The firmware that is sent."""
    return build_image(COMMIT[:10], **{"size": 16 * 1024, **more})


def fault(text: str) -> Any:
    return parse_fault(text)
