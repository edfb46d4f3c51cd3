"""Tasks: a stored image onto a device, and whether the device runs it well.

The transfer's end is never the verdict. `deploy_firmware_ota` fails only where it is certain that the device
did not take the image; otherwise `device_health_check` finds out: Healthy, Unhealthy or Undecided.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import re
import time
from collections.abc import AsyncIterator
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from podium_workers.firmware.device_update import (
    Deployment,
    Subject,
    bring_back,
    check_device,
    look_at,
    send_image,
)
from podium_workers.firmware.health import Expectation, Healthy
from podium_workers.firmware.inputs import Artifact, parse_bytes, parse_seconds
from podium_workers.runtime.context import Reject, Retry, TaskContext
from podium_workers.runtime.registry import task
from podium_workers.services.artifacts import open_store
from podium_workers.services.device_api import DeviceApi, Health, HealthPage, normal_chip, normal_mac
from podium_workers.services.ota import Failed, Gateway, GatewaySettings, Progress, Succeeded, Target, Unknown
from podium_workers.services.ota.verdicts import AuthScheme

LONGEST_CHECK = 3600.0
_LATE_SECONDS = 20.0
_QUARTERS = 4


class HealthAt(BaseModel):
    """`spec.health` of a DeviceModel, as far as it says how to ask."""

    model_config = ConfigDict(extra="ignore")

    path: str = "/api/health"
    timeout: str = "3s"
    fields: dict[str, str] = Field(default_factory=dict)


class DeviceInput(BaseModel):
    """The device, as a Device and its DeviceModel describe it; what it says itself goes over that."""

    model_config = ConfigDict(extra="ignore")

    name: str = ""
    """Of the Device; by default its host. The artifact store keeps what it runs under this name."""
    host: str = Field(min_length=1)
    otaPort: int = Field(3232, ge=1, le=65535)  # noqa: N815 - as in the task's input
    healthPort: int = Field(80, ge=1, le=65535)  # noqa: N815
    mac: Annotated[str | None, AfterValidator(normal_mac)] = None
    chip: Annotated[str | None, AfterValidator(normal_chip)] = None
    slotSize: str | int | None = None  # noqa: N815
    authScheme: AuthScheme | None = None  # noqa: N815
    environment: str = ""
    """Of platformio.ini: which one of several images is for its board."""
    health: HealthAt = Field(default_factory=HealthAt)

    def holder(self, context: TaskContext) -> str:
        """Its name in the artifact store."""
        name = re.sub(r"[^a-z0-9.-]+", "-", (self.name or self.host).lower()).strip("-.")
        return f"device/{context.domain or 'default'}/{name or 'unnamed'}"

    def page(self) -> HealthPage:
        """Where it says how it is."""
        timeout = parse_seconds("device.health.timeout", self.health.timeout, 60.0)
        return HealthPage(self.host, self.healthPort, self.health.path, timeout, self.health.fields)

    def subject(self, password: str | None) -> Subject:
        """For a transfer."""
        return Subject(
            page=self.page(),
            target=Target(self.host, self.otaPort, password or None, self.authScheme),
            mac=self.mac,
            chip=self.chip,
            slot_size=parse_bytes("device.slotSize", self.slotSize),
        )


@task("deploy_firmware_ota")
async def deploy_firmware_ota(
    context: TaskContext,
    device: DeviceInput,
    sha256: str = "",
    password: str | None = None,
    commit: str = "",
    artifacts: list[Artifact] | None = None,
    rollback: bool = False,
) -> dict[str, Any]:
    """Sends an artifact over the air, after a look at the device; what it ran before is in `before`.

    `sha256` names it, or it is the one of `artifacts` that is for the device's board. `rollback`: what the
    device runs now is bad; if it was not confirmed, the device is told to go back by itself first.
    """
    store = open_store(context.data_dir)
    sha256 = sha256 or _choose(device, artifacts or [])
    commit = commit or str((await asyncio.to_thread(store.artifact, sha256)).get("commit", ""))
    image = await asyncio.to_thread(store.get, sha256)
    subject = device.subject(password)
    about = {"host": device.host, "sha256": sha256, "commit": commit}
    async with _gateway.opened() as gateway, DeviceApi() as api:
        seen = await look_at(api, subject.page)
        if rollback:
            seen = await bring_back(api, subject, seen)
        current = seen.runs(commit)
        # Noted before it is sent: if this worker dies meanwhile, the next attempt sees the new build only.
        # What it is brought back from is nothing to go back to.
        before = None if current or rollback else _plain(seen.health)
        held = await asyncio.to_thread(store.hold, sha256, device.holder(context), runs=False, before=before)
        if current:
            context.log(f"{device.host} runs {commit[:12]} already: nothing was sent")
            return {**about, "verdict": "Current", "before": held["before"]}
        sent = await send_image(
            gateway, image, subject, seen, rollback=rollback, on_progress=_Telling(context)
        )
    return _deployed(context, sent, about)


@task("device_health_check")
async def device_health_check(
    context: TaskContext,
    device: DeviceInput,
    commit: str,
    deployment: dict[str, Any] | None = None,
    minFreeHeap: str | int = "50Ki",  # noqa: N803
    minLargestBlock: str | int | None = None,  # noqa: N803
    consecutive: int = 3,
    within: str = "3m",
    interval: str = "5s",
) -> dict[str, Any]:
    """Asks the device until it is decided whether it runs the commit, and runs it well."""
    wanted = _expectation(
        deployment or {},
        commit=commit,
        mac=device.mac,
        min_free_heap=parse_bytes("minFreeHeap", minFreeHeap) or 0,
        min_largest_block=parse_bytes("minLargestBlock", minLargestBlock),
        consecutive=max(1, consecutive),
        within=parse_seconds("within", within, LONGEST_CHECK),
    )
    async with DeviceApi() as api:
        decided = await check_device(
            api, device.page(), wanted, interval=parse_seconds("interval", interval, 300.0)
        )
    reason = "" if isinstance(decided, Healthy) else decided.reason
    context.log(f"{type(decided).__name__}{f' ({reason})' if reason else ''}: {decided.message}")
    sha256 = (deployment or {}).get("sha256")
    if isinstance(decided, Healthy) and isinstance(sha256, str):
        try:
            store = open_store(context.data_dir)
            await asyncio.to_thread(store.hold, sha256, device.holder(context), runs=True)
        except (Reject, Retry) as error:
            # It is healthy all the same. What it ran before stays pinned; only the order is not noted.
            context.log(f"not noted in the artifact store: {error}")
    return {
        "verdict": type(decided).__name__,
        "healthy": isinstance(decided, Healthy),
        "reason": reason,
        "message": decided.message,
        "host": device.host,
        "commit": commit,
    }


def _choose(device: DeviceInput, artifacts: list[Artifact]) -> str:
    """Never just the first one: two boards may have the same chip."""
    if not artifacts:
        raise Reject("there is nothing to send: give `sha256`, or `artifacts`")
    found = [item.sha256 for item in artifacts if device.environment in ("", item.environment)]
    if len(found) == 1:
        return found[0]
    names = ", ".join(item.environment for item in artifacts)
    if device.environment:
        raise Reject(f"device.environment: {device.environment} is none of what was built: {names}")
    raise Reject(
        f"{names} were built, and the device gets one: say in `device.environment` which is its board's"
    )


def _deployed(context: TaskContext, sent: Deployment, about: dict[str, Any]) -> dict[str, Any]:
    verdict = sent.verdict
    output = {
        **about,
        "verdict": type(verdict).__name__,
        "sent": verdict.sent,
        "authScheme": verdict.auth,
        "before": _plain(sent.before),
        "beforeAt": sent.before_at,
        "endedAt": sent.ended_at,
    }
    match verdict:
        case Succeeded(seconds, size, _):
            context.log(f"{about['host']} has taken all {size:,} bytes in {seconds:.1f} s, and restarts")
            return output
        case Unknown(reason, message):
            context.log(f"{about['host']}: {message}; its health will tell")
            return {**output, "reason": reason, "message": message}
        case Failed(reason, message):
            output |= {"reason": reason, "message": message}
            words = f"{about['host']}: {reason}: {message}"
            raise Retry(words, output) if verdict.retryable else Reject(words, output)


def _expectation(deployment: dict[str, Any], **wanted: Any) -> Expectation:
    now = time.time()
    ended = float(deployment.get("endedAt") or now)
    before = None
    # A device that ran the commit already was sent nothing: it need not have restarted.
    if deployment.get("verdict") in {"Succeeded", "Unknown"}:
        before = _health(deployment.get("before"))
    return Expectation(
        # A check that waited in its queue begins now: it is given time to look, not time that is over.
        sent_at=ended if 0 <= now - ended < _LATE_SECONDS else now,
        before=before,
        before_at=float(deployment.get("beforeAt") or 0.0),
        taken=deployment.get("verdict") != "Unknown",
        **wanted,
    )


def _health(data: object) -> Health | None:
    if not isinstance(data, dict):
        return None
    names = {field.name for field in dataclasses.fields(Health)}
    known = {name: value for name, value in data.items() if name in names}
    if not isinstance(known.get("build"), str):
        return None
    return Health(**{**known, "failed_checks": tuple(known.get("failed_checks") or ())})


def _plain(health: Health | None) -> dict[str, Any] | None:
    return dataclasses.asdict(health) if health else None


class _Telling:
    """Says each stage once, and each quarter of the image."""

    def __init__(self, context: TaskContext) -> None:
        self._context = context
        self._said: set[str] = set()

    def __call__(self, progress: Progress) -> None:
        quarter = progress.sent * _QUARTERS // max(1, progress.total)
        words = f"{progress.stage}" + (
            f" {quarter * 100 // _QUARTERS} %" if progress.stage == "Sending" and quarter else ""
        )
        if words not in self._said:
            self._said.add(words)
            self._context.log(words)


class _GatewaySettings(BaseModel):
    """Out of the environment."""

    host: str = "0.0.0.0"
    port: int = Field(3233, ge=0, le=65535)
    advertised_port: int | None = Field(None, ge=1, le=65535)
    most_transfers: int = Field(50, ge=1, le=1000)

    @classmethod
    def read(cls) -> GatewaySettings:
        """Raises Reject, naming the variable."""
        given = {
            name: value
            for name, variable in _VARIABLES.items()
            if (value := os.environ.get(variable, "")) != ""
        }
        try:
            return GatewaySettings(**dict(cls.model_validate(given)))
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            raise Reject(f"{_VARIABLES[str(first['loc'][0])]}: {first['msg'].lower()}") from None


_VARIABLES = {
    "host": "PODIUM_OTA_HOST",
    "port": "PODIUM_OTA_PORT",
    "advertised_port": "PODIUM_OTA_ADVERTISED_PORT",
    "most_transfers": "PODIUM_OTA_TRANSFERS",
}


class _SharedGateway:
    """One gateway for all transfers of this process: one port, and devices are told apart by address.

    It listens while a transfer needs it.
    """

    def __init__(self) -> None:
        self._users = 0
        self._gateway: Gateway | None = None
        self._opening = asyncio.Lock()

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator[Gateway]:
        gateway = await self._join()
        try:
            yield gateway
        finally:
            self._users -= 1
            if not self._users:
                self._gateway = None
                await gateway.__aexit__(None, None, None)

    async def _join(self) -> Gateway:
        async with self._opening:
            if self._gateway is None:
                settings = _GatewaySettings.read()
                gateway = Gateway(settings)
                try:
                    await gateway.__aenter__()
                except OSError as error:
                    raise Retry(
                        f"devices cannot connect back: port {settings.port} of {settings.host} cannot be "
                        f"had ({error.strerror or error}); is another OTA worker on this host? "
                        "PODIUM_OTA_PORT names another port"
                    ) from None
                self._gateway = gateway
            self._users += 1
            return self._gateway


_gateway = _SharedGateway()
"""Module-level on purpose: two gateways in one process would fight for the port that devices connect to."""
