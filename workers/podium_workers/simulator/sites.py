"""What simulated devices and the simulator itself say over HTTP."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from podium_workers.simulator.device import Device
from podium_workers.simulator.faults import KINDS, FaultError, parse_fault

if TYPE_CHECKING:
    from podium_workers.simulator.fleet import Fleet

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_DEVICE: web.RequestKey[Device] = web.RequestKey("device", Device)
_PROMETHEUS = {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}


def health(device: Device, now: float) -> dict[str, object]:
    """`GET /api/health` of a device; `now`: simulated seconds."""
    board, spec = device.board, device.spec
    slot = board.slot
    assert slot is not None
    free = board.free_heap(now)
    uptime = max(0, int(now - board.booted_at))
    other = device.faults.has("other-device")
    failed = board.firmware_fault("failed-check")
    checks = [{"name": "wifi", "ok": True}]
    if failed:
        checks.append({"name": failed.text("name"), "ok": False})
    return {
        "device_id": "another" if other else spec.name,
        "mac": "02:00:00:00:00:99" if other else spec.mac,
        "board": spec.board,
        "chip": spec.chip,
        "build": board.build(),
        "version": slot.firmware.version if slot.firmware else "",
        "uptime_s": uptime % 20 if device.faults.has("uptime-wrap") else uptime,
        "boot_count": board.boot_count,
        "reset_reason": board.reset_reason,
        "heap_free": free,
        "heap_min_free": board.least_heap,
        "heap_max_block": board.largest_block(free),
        "rssi": -60,
        "partition": slot.name,
        "ota_state": slot.state,
        "slot_size": spec.slot_size,
        "secure_version": spec.secure_version,
        "rollback_capable": spec.rollback,
        "checks": checks,
        **_pattern(device),
    }


def _pattern(device: Device) -> dict[str, object]:
    """What the image that runs shows; nothing of it where there is no pattern in it."""
    running = device.board.firmware
    if running is None or running.pattern is None:
        return {}
    pattern = running.pattern
    return {
        "pattern": {
            "name": pattern.name,
            "checksum": pattern.checksum,
            "leds": pattern.leds,
            "frames": pattern.frames,
            "frame_us": device.board.frame_micros(),
        }
    }


def describe(device: Device, now: float) -> dict[str, object]:
    """What is true of a device, whatever it says itself."""
    board = device.board
    return {
        "name": device.spec.name,
        "address": device.spec.address,
        "mac": device.spec.mac,
        "labels": dict(device.spec.labels),
        "power": device.power,
        "build": board.firmware.build if board.firmware else None,
        "digest": board.firmware.digest if board.firmware else None,
        "slots": [{"name": slot.name, "state": slot.state} for slot in board.slots],
        "boots": board.boot_count,
        "updates": device.updates,
        "freeHeap": board.free_heap(now),
        "faults": [str(fault) for fault in device.faults],
    }


class DeviceSite:
    """The pages of all devices, told apart by the address that was asked."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    def build(self) -> web.Application:
        """`/api/health`, `/api/confirm`, `/api/rollback`, `/api/reboot`, `/metrics`."""
        app = web.Application(middlewares=[self._as_the_device_is])
        app.router.add_get("/api/health", self._health)
        app.router.add_post("/api/confirm", self._confirm)
        app.router.add_post("/api/rollback", self._roll_back)
        app.router.add_post("/api/reboot", self._reboot)
        app.router.add_get("/metrics", self._metrics)
        return app

    @web.middleware
    async def _as_the_device_is(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        if request.transport is None:
            return web.Response(status=503)  # whoever asked is gone
        device = self._fleet.at(str(request.transport.get_extra_info("sockname")[0]))
        request[_DEVICE] = device
        if device.power in ("off", "starting") or device.faults.has("health-absent"):
            return _hang_up(request)
        if device.power == "hung":
            await asyncio.sleep(3600)
        # A sketch that takes an image answers nobody else.
        await device.idle.wait()
        if slow := device.faults.find("health-slow"):
            await asyncio.sleep(slow.number("seconds"))
        if error := device.faults.find("health-error"):
            return web.Response(status=int(error.number("status")), text="internal error")
        if device.faults.has("health-garbage"):
            return web.Response(text="<html>it works!</html>", content_type="text/html")
        if device.power != "on":
            return _hang_up(request)
        return await handler(request)

    async def _health(self, request: web.Request) -> web.Response:
        return web.json_response(health(request[_DEVICE], self._fleet.world.now()))

    async def _confirm(self, request: web.Request) -> web.Response:
        device = request[_DEVICE]
        device.board.confirm()
        return web.json_response({"ok": True})

    async def _roll_back(self, request: web.Request) -> web.Response:
        device = request[_DEVICE]
        if not device.board.roll_back():
            return web.json_response({"error": "there is nothing to go back to"}, status=409)
        device.restart_soon()
        return web.json_response({"ok": True})

    async def _reboot(self, request: web.Request) -> web.Response:
        request[_DEVICE].restart_soon()
        return web.json_response({"ok": True})

    async def _metrics(self, request: web.Request) -> web.Response:
        page = _exposition(_DeviceMetrics(request[_DEVICE], self._fleet.world.now()))
        return web.Response(body=page, headers=_PROMETHEUS)


class ControlSite:
    """Where faults are given and taken while it runs, and where one sees what is true."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    def build(self) -> web.Application:
        """`/devices`, `/devices/NAME[/faults|/power|/password]`, `/faults`, `/power`, `/metrics`."""
        app = web.Application(middlewares=[_told])
        app.router.add_get("/devices", self._list)
        app.router.add_get("/devices/{name}", self._show)
        app.router.add_post("/devices/{name}/faults", self._give)
        app.router.add_delete("/devices/{name}/faults/{fault}", self._take)
        app.router.add_post("/devices/{name}/power", self._power)
        app.router.add_post("/devices/{name}/password", self._password)
        app.router.add_get("/faults", self._kinds)
        app.router.add_post("/faults", self._give_some)
        app.router.add_post("/power", self._power_some)
        app.router.add_get("/metrics", self._metrics)
        return app

    async def _list(self, _: web.Request) -> web.Response:
        now = self._fleet.world.now()
        return web.json_response([describe(device, now) for device in self._fleet.devices])

    async def _show(self, request: web.Request) -> web.Response:
        return self._answer(self._named(request))

    async def _give(self, request: web.Request) -> web.Response:
        device = self._named(request)
        self._fleet.give(device, parse_fault(_text(await _body(request), "fault")))
        return self._answer(device)

    async def _take(self, request: web.Request) -> web.Response:
        device = self._named(request)
        name = request.match_info["fault"]
        if not device.faults.remove(name):
            raise FaultError(f"{device.spec.name} has no fault {name!r}")
        device.apply_power_faults()
        return self._answer(device)

    async def _power(self, request: web.Request) -> web.Response:
        device = self._named(request)
        _switch(device, await _body(request))
        return self._answer(device)

    async def _password(self, request: web.Request) -> web.Response:
        device = self._named(request)
        device.password = _text(await _body(request), "password")
        return self._answer(device)

    async def _kinds(self, _: web.Request) -> web.Response:
        return web.json_response(
            [
                {"name": kind.name, "of": kind.of, "words": kind.words, "parameters": dict(kind.parameters)}
                for kind in KINDS.values()
            ]
        )

    async def _give_some(self, request: web.Request) -> web.Response:
        body = await _body(request)
        fault = parse_fault(_text(body, "fault"))
        hit = self._fleet.give_some(self._selected(body), fault)
        return web.json_response({"devices": [device.spec.name for device in hit]})

    async def _power_some(self, request: web.Request) -> web.Response:
        body = await _body(request)
        chosen = self._selected(body)
        for device in chosen:
            _switch(device, body)
        return web.json_response({"devices": [device.spec.name for device in chosen]})

    async def _metrics(self, _: web.Request) -> web.Response:
        return web.Response(body=_exposition(_FleetMetrics(self._fleet.devices)), headers=_PROMETHEUS)

    def _selected(self, body: dict[str, object]) -> list[Device]:
        labels = body.get("select", {})
        if not isinstance(labels, dict):
            raise FaultError('"select" must be an object of labels, as {"site": "lyon"}')
        wanted = {(str(key), str(value)) for key, value in labels.items()}
        return [device for device in self._fleet.devices if wanted <= set(device.spec.labels)]

    def _named(self, request: web.Request) -> Device:
        return self._fleet.named(request.match_info["name"])

    def _answer(self, device: Device) -> web.Response:
        return web.json_response(describe(device, self._fleet.world.now()))


def _hang_up(request: web.Request) -> web.Response:
    """As nobody there: the connection breaks without an answer."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=503)


@web.middleware
async def _told(request: web.Request, handler: _Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except FaultError as error:
        return web.json_response({"error": str(error)}, status=400)
    except KeyError as error:
        return web.json_response({"error": str(error.args[0])}, status=404)


async def _body(request: web.Request) -> dict[str, object]:
    try:
        body = await request.json()
    except json.JSONDecodeError:
        body = None
    if not isinstance(body, dict):
        raise FaultError('send a JSON object, as {"fault": "drop:at=50"}')
    return body


def _text(body: dict[str, object], key: str) -> str:
    value = body.get(key)
    if not isinstance(value, str):
        raise FaultError(f'"{key}" is missing, or no text')
    return value


def _switch(device: Device, body: dict[str, object]) -> None:
    match body.get("on"):
        case True:
            device.switch_on()
        case False:
            device.switch_off()
        case _:
            raise FaultError('"on" must be true or false')


def _exposition(collector: Collector) -> bytes:
    registry = CollectorRegistry()
    registry.register(collector)
    return generate_latest(registry)


class _DeviceMetrics(Collector):
    def __init__(self, device: Device, now: float) -> None:
        self._device = device
        self._seen = health(device, now)

    def collect(self) -> Iterable[Metric]:
        for name, key, words in (
            ("esp_uptime_seconds", "uptime_s", "Since it started."),
            ("esp_heap_free_bytes", "heap_free", "Free heap."),
            ("esp_heap_min_free_bytes", "heap_min_free", "Least free heap since it started."),
            ("esp_heap_max_block_bytes", "heap_max_block", "Largest free block."),
            ("esp_wifi_rssi_dbm", "rssi", "Strength of the Wi-Fi."),
            ("esp_boots", "boot_count", "Starts since it was made."),
        ):
            value = self._seen[key]
            assert isinstance(value, int)
            yield GaugeMetricFamily(name, words, value=value)
        build = GaugeMetricFamily("esp_build_info", "What runs.", labels=["build", "partition", "ota_state"])
        build.add_metric([str(self._seen[key]) for key in ("build", "partition", "ota_state")], 1)
        yield build


class _FleetMetrics(Collector):
    def __init__(self, devices: Iterable[Device]) -> None:
        self._devices = list(devices)

    def collect(self) -> Iterator[Metric]:
        power = GaugeMetricFamily("podium_simulator_devices", "Devices by power.", labels=["power"])
        for state in ("off", "starting", "on", "hung"):
            power.add_metric([state], sum(device.power == state for device in self._devices))
        yield power
        taken = CounterMetricFamily("podium_simulator_updates", "Images that were taken.")
        taken.add_metric([], sum(device.updates for device in self._devices))
        yield taken
