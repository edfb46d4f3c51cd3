"""One pass over a Device or a DeviceModel: what is known of it, and one status write if that changed."""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from podium.core.devices.allowance import Allowance
from podium.core.devices.decide import SecretSeen, Seen, report_device, report_model, secret_of
from podium.core.effects import Report
from podium.core.objects import Device, DeviceModel, project_device, project_device_model
from podium.ports import Clock, Cluster, Devices, Gone, Json, Key, Recorder
from podium.reconciler.passwords import Passwords
from podium.reconciler.patience import every
from podium.reconciler.probes import Probes
from podium.reconciler.store import Store

# A new device is asked before anything is said of it: one write instead of two.
_FIRST_LOOK = timedelta(seconds=5)
# What is applied together comes in any order.
_BELATED = timedelta(seconds=2)
_COMES = frozenset({"ModelNotFound", "SecretNotFound"})
_LOOK_AT_SECRETS = 10.0
# Seconds. A number of devices that grows is written so often.
_COUNT_INTERVAL = timedelta(seconds=5)


@dataclass(frozen=True)
class DeviceParts:
    """Everything that Devices and DeviceModels need, connected."""

    probes: Probes
    passwords: Passwords
    devices: "DeviceReconciler"
    models: "ModelReconciler"

    @classmethod
    def build(
        cls,
        cluster: Cluster,
        devices: Devices,
        clock: Clock,
        recorder: Recorder,
        store: Store,
        *,
        wake: Callable[[Key], None],
    ) -> "DeviceParts":
        """`wake(key)`: have a device or a model looked at."""
        probes = Probes(store, devices, clock, recorder, wake)
        passwords = Passwords(cluster, store, wake)
        return cls(
            probes,
            passwords,
            DeviceReconciler(cluster, clock, recorder, store, probes, passwords),
            ModelReconciler(cluster, clock, store, passwords),
        )

    def jobs(self) -> dict[str, Coroutine[Any, Any, None]]:
        """What goes on as long as this replica leads."""
        return {
            "probes": self.probes.run(),
            "passwords": every(_LOOK_AT_SECRETS, self.passwords.refresh),
        }


class DeviceReconciler:
    """Writes what is known of each device, seldom."""

    def __init__(
        self,
        cluster: Cluster,
        clock: Clock,
        recorder: Recorder,
        store: Store,
        probes: Probes,
        passwords: Passwords,
    ) -> None:
        self._cluster = cluster
        self._clock = clock
        self._recorder = recorder
        self._store = store
        self._probes = probes
        self._passwords = passwords
        self._allowances: dict[Key, Allowance] = {}
        self._met: dict[Key, datetime] = {}

    async def reconcile(self, key: Key) -> float | None:
        """One pass; seconds until the next one is wanted, if any. Raises PortError to be tried again."""
        device = self._store.devices.get(key)
        if device is None:
            self._allowances.pop(key, None)
            self._met.pop(key, None)
            self._probes.forget(key)
            return None
        if device.deleting_since is not None:
            return None
        self._probes.plan(device)
        now = self._clock.now()
        seen = await self._see(device)
        report = report_device(seen, now)
        assert report.status is not None
        if report.status == device.status:
            return None
        if rest := self._rest(device, report, now):
            return rest.total_seconds()
        return await self._write(device, report, now)

    async def _see(self, device: Device) -> Seen:
        model = self._store.roster.model_of(device)
        secret: SecretSeen | None = None
        if (named := secret_of(device, model)) is not None:
            secret = await self._passwords.read(device.key.namespace, named.name)
        roster = self._store.roster
        return Seen(
            device,
            model,
            self._probes.verdict(device),
            secret,
            same_mac=roster.same(device, "mac"),
            same_address=roster.same(device, "address"),
        )

    def _rest(self, device: Device, report: Report, now: datetime) -> timedelta:
        """How long the write has to wait."""
        # A clock that was set back must not make it wait until that time comes again.
        met = self._met[device.key] = min(now, self._met.get(device.key, now))
        # The server's own default is all that stands in the status of a device not written of yet.
        if device.status.get("observedGeneration", -1) == -1:
            reason = next(word.reason for word in report.words if word.type == "Ready")
            wait = _BELATED if reason in _COMES else timedelta()
            if reason == "Accepted" and not self._probes.looked(device):
                wait = _FIRST_LOOK  # it is woken by its first look
            if now - met < wait:
                return met + wait - now
        if report.urgent:
            return timedelta()
        return self._allowances.setdefault(device.key, Allowance.full(now)).wait(now)

    async def _write(self, device: Device, report: Report, now: datetime) -> float | None:
        assert report.status is not None
        body = await _apply(self._cluster, device, report.status)
        if body is None:
            return None
        # What failed is tried again, and must not have used up what may be written.
        if not report.urgent and (allowance := self._allowances.get(device.key)) is not None:
            self._allowances[device.key] = allowance.spend(now)
        stored = project_device(body)
        here = self._store.devices.get(device.key)
        if here is not None and here.uid == stored.uid:
            self._store.put_device(stored)
        for note in report.notes:
            self._recorder.event(
                device.key, device.uid, kind=note.kind, reason=note.reason, message=note.message
            )
        return None


class ModelReconciler:
    """Says whether a model can be used, and how many devices are of it."""

    def __init__(self, cluster: Cluster, clock: Clock, store: Store, passwords: Passwords) -> None:
        self._cluster = cluster
        self._clock = clock
        self._store = store
        self._passwords = passwords
        self._written: dict[Key, datetime] = {}

    async def reconcile(self, key: Key) -> float | None:
        """One pass; seconds until the next one is wanted, if any. Raises PortError to be tried again."""
        model = self._store.models.get(key)
        if model is None:
            self._written.pop(key, None)
            return None
        now = self._clock.now()
        secret: SecretSeen | None = None
        if model.spec is not None and (named := model.spec.credentials_secret) is not None:
            secret = await self._passwords.read(key.namespace, named.name)
        report = report_model(model, len(self._store.roster.of_model(key)), secret, now)
        again = report.requeue_after.total_seconds() if report.requeue_after else None
        assert report.status is not None
        if report.status == model.status:
            return again
        written = self._written.get(key)
        only_counted = {**report.status, "devices": model.status.get("devices")} == model.status
        if only_counted and written is not None and timedelta() <= now - written < _COUNT_INTERVAL:
            return (written + _COUNT_INTERVAL - now).total_seconds()
        body = await _apply(self._cluster, model, report.status)
        if body is None:
            return None
        self._written[key] = now
        stored = project_device_model(body)
        here = self._store.models.get(key)
        if here is not None and here.uid == stored.uid:
            self._store.put_model(stored)
        return again


async def _apply(cluster: Cluster, thing: Device | DeviceModel, status: Json) -> Json | None:
    """None: it is gone."""
    try:
        return await cluster.apply_status(
            thing.key, status, uid=thing.uid, resource_version=thing.resource_version
        )
    except Gone:
        return None
