"""All simulated devices of a process: started, found and ended together."""

from __future__ import annotations

import asyncio
import os
import resource
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Self

from aiohttp import web

from podium_workers.simulator.device import Device, World
from podium_workers.simulator.faults import Fault
from podium_workers.simulator.receiver import Bandwidth
from podium_workers.simulator.sites import ControlSite, DeviceSite
from podium_workers.simulator.spec import DeviceSpec, hits

_FILES_PER_DEVICE = 4


class Fleet:
    """An asynchronous context manager. Raises OSError on entry if a port cannot be had."""

    def __init__(
        self,
        specs: Iterable[DeviceSpec],
        *,
        ota_port: int = 3232,
        health_port: int = 8080,
        control: tuple[str, int] | None = None,
        speed: float = 1.0,
        protocol_wait: float = 1.0,
        access_point_rate: float = 0.0,
        seed: int = 0,
    ) -> None:
        specs = list(specs)
        self.world = World(ota_port=ota_port, speed=speed, protocol_wait=protocol_wait)
        if access_point_rate:
            points = {spec.access_point for spec in specs if spec.access_point}
            self.world.bandwidths = {point: Bandwidth(access_point_rate) for point in points}
        self.devices = [Device(spec, self.world) for spec in specs]
        self.health_port = health_port
        self.control = control
        self._seed = seed
        self._by_address = {device.spec.address: device for device in self.devices}
        self._by_name = {device.spec.name: device for device in self.devices}
        self._runners: list[web.AppRunner] = []

    def at(self, address: str) -> Device:
        """Raises KeyError."""
        return self._by_address[address]

    def named(self, name: str) -> Device:
        """Raises KeyError, with words."""
        if name not in self._by_name:
            raise KeyError(f"there is no device {name!r}; GET /devices lists them")
        return self._by_name[name]

    def give(self, device: Device, fault: Fault) -> None:
        """From now on it has this fault."""
        device.faults.add(fault)
        device.apply_power_faults()

    def give_some(self, devices: Iterable[Device], fault: Fault) -> list[Device]:
        """Gives it to those that its `percent` and `where` hit; the same seed hits the same ones."""
        hit = [device for device in devices if hits(fault, device.spec.name, device.spec.labels, self._seed)]
        for device in hit:
            self.give(device, fault)
        return hit

    async def __aenter__(self) -> Self:
        _allow_files(len(self.devices) * _FILES_PER_DEVICE + 256)
        self.world.provers = ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="device-password")
        try:
            for device in self.devices:
                await device.start()
            pages = await self._runner(DeviceSite(self).build())
            for device in self.devices:
                await web.TCPSite(pages, device.spec.address, self.health_port).start()
            if self.control is not None:
                control = await self._runner(ControlSite(self).build())
                await web.TCPSite(control, *self.control).start()
                self.control = (self.control[0], int(control.addresses[0][1]))
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._close()

    async def _runner(self, app: web.Application) -> web.AppRunner:
        runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=0.1)
        await runner.setup()
        self._runners.append(runner)
        return runner

    async def _close(self) -> None:
        for device in self.devices:
            device.stop()
        await asyncio.gather(*(runner.cleanup() for runner in self._runners))
        if isinstance(self.world.provers, ThreadPoolExecutor):
            self.world.provers.shutdown(wait=False, cancel_futures=True)


def _allow_files(wanted: int) -> None:
    """A device keeps two sockets open, and one or two more while it is busy."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))
