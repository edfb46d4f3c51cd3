"""What the status of a Device and of a DeviceModel says."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from podium.api.v1alpha1.device_model import CredentialsSecret
from podium.core.conditions import Word, ready, reconciling, stalled, write_conditions
from podium.core.devices.watch import Verdict
from podium.core.durations import format_time, parse_duration
from podium.core.effects import Note, Report, Unknown
from podium.core.objects import Device, DeviceModel, conditions_of
from podium.core.schedules.cron import InvalidSchedule, parse_cron
from podium.ports import Json

SecretSeen = Mapping[str, bytes] | Unknown | Literal["Absent"]

_LOOK_AGAIN = timedelta(seconds=30)
# What others write into the status of a device, and this does not touch.
_KEPT = ("update", "ota", "quarantine", "history")


@dataclass(frozen=True)
class Seen:
    """Everything known about one Device at one moment."""

    device: Device
    model: DeviceModel | None
    verdict: Verdict
    credentials: SecretSeen | None = None
    """What was read of the Secret that it needs; None: it needs none."""
    same_mac: str = ""
    same_address: str = ""
    """The older Device that has the same one; "": none."""


def secret_of(device: Device, model: DeviceModel | None) -> CredentialsSecret | None:
    """Where the password for its updates is."""
    own = device.spec.credentials_secret if device.spec else None
    return own or (model.spec.credentials_secret if model is not None and model.spec else None)


def restore(device: Device) -> Verdict:
    """What its status says of it: what is known after a restart, before it was asked again."""
    status = device.status
    if status.get("observedGeneration") != device.generation:
        return Verdict()
    said = {item["type"]: item for item in conditions_of(device)}
    if "Online" not in said or "Healthy" not in said:
        return Verdict()
    online, healthy = said["Online"], said["Healthy"]
    reported = (status.get("firmware") or {}).get("reported") or {}
    return Verdict(
        status.get("connectivity", "Unknown"),
        online["status"],
        online["reason"],
        online.get("message", ""),
        healthy["status"],
        healthy["reason"],
        healthy.get("message", ""),
        reported.get("build", ""),
        reported.get("partition"),
        reported.get("otaState"),
    )


def accept(seen: Seen) -> Unknown | None:
    """Why a Device cannot be worked with; None: it can."""
    device = seen.device
    if device.spec is None:
        return Unknown(device.spec_error, "InvalidSpec", stalled=True)
    if seen.model is None or seen.model.deleting_since:
        return Unknown(
            f"spec.model: there is no DeviceModel {device.spec.model} here: make it, or name another",
            "ModelNotFound",
        )
    if seen.model.spec is None:
        return Unknown(f"DeviceModel {device.spec.model}: {seen.model.spec_error}", "ModelNotReady")
    if seen.same_mac:
        return Unknown(
            f"spec.mac: Device {seen.same_mac} has it too, and is older: delete one of the two",
            "DuplicateMac",
            stalled=True,
        )
    if seen.same_address:
        return Unknown(
            f"spec.address: Device {seen.same_address} is there too, and is older: mend one of the two",
            "DuplicateAddress",
            stalled=True,
        )
    return _check_windows(seen) or _check_secret(seen)


def _check_windows(seen: Seen) -> Unknown | None:
    assert seen.device.spec is not None
    for number, window in enumerate(seen.device.spec.maintenance_windows):
        where = f"spec.maintenanceWindows[{number}]"
        try:
            parse_cron(window.cron, window.time_zone)
        except InvalidSchedule as error:
            words = f"{where}.{error.field}: {error}: {error.remedy}"
            return Unknown(words, "InvalidSchedule", stalled=True)
        if not parse_duration(window.duration):
            return Unknown(f"{where}.duration: it never opens", "InvalidSchedule", stalled=True)
    return None


def _check_secret(seen: Seen) -> Unknown | None:
    named = secret_of(seen.device, seen.model)
    if named is None or seen.credentials is None:
        return None
    own = seen.device.spec is not None and seen.device.spec.credentials_secret is not None
    where = "spec.credentialsSecret" if own else "spec.credentialsSecret of its model"
    if isinstance(seen.credentials, Unknown):
        return seen.credentials
    if seen.credentials == "Absent":
        return Unknown(f"{where}: there is no Secret {named.name} here", "SecretNotFound")
    if not seen.credentials.get(named.key):
        words = f"{where}: Secret {named.name} has no {named.key}, or an empty one"
        return Unknown(words, "InvalidSecret", stalled=True)
    return None


def report_device(seen: Seen, now: datetime) -> Report:
    """The status of a Device as it shall be."""
    device, verdict = seen.device, seen.verdict
    problem = accept(seen)
    if problem is None:
        words = ready("Accepted")
    else:
        words = (stalled if problem.stalled else reconciling)(problem.reason, problem.error)
        # Nobody asks it as long as nobody knows what it is.
        if problem.reason not in ("SecretNotFound", "SecretUnreadable", "InvalidSecret", "InvalidSchedule"):
            verdict = Verdict(build=verdict.build)
    words = (
        *words,
        Word("Online", verdict.online, verdict.online_reason, verdict.online_message),
        Word("Healthy", verdict.healthy, verdict.healthy_reason, verdict.healthy_message),
        Word("UpToDate", "Unknown", "NoRelease", "no release is for it"),
    )
    status: Json = {part: device.status[part] for part in _KEPT if part in device.status}
    status["connectivity"] = verdict.connectivity
    if firmware := _firmware(device, verdict, now):
        status["firmware"] = firmware
    status["observedGeneration"] = device.generation
    status["conditions"] = write_conditions(
        words, conditions_of(device), generation=device.generation, now=now
    )
    return Report(status, words, _news(seen, verdict, problem), urgent=is_urgent(device, status))


def _firmware(device: Device, verdict: Verdict, now: datetime) -> Json:
    firmware: Json = dict(device.status.get("firmware") or {})
    if not verdict.build:
        return firmware
    parts = {"build": verdict.build, "partition": verdict.partition, "otaState": verdict.ota_state}
    said = {name: value for name, value in parts.items() if value}
    known = dict(firmware.get("reported") or {})
    at = known.pop("observedAt", None)
    firmware["reported"] = {**said, "observedAt": at if at and known == said else format_time(now)}
    return firmware


def is_urgent(device: Device, status: Json) -> bool:
    """Whether a person waits for it: the answer to what they have just applied."""
    if device.status.get("observedGeneration") != device.generation:
        return True

    def reason(conditions: list[Json]) -> object:
        return next((item["reason"] for item in conditions if item["type"] == "Ready"), None)

    return reason(conditions_of(device)) != reason(status["conditions"])


def _news(seen: Seen, verdict: Verdict, problem: Unknown | None) -> tuple[Note, ...]:
    before = seen.device.status.get("connectivity")
    if problem is not None:
        known = {(item["type"], item["reason"]) for item in conditions_of(seen.device)}
        if ("Ready", problem.reason) not in known:
            return (Note("Warning", problem.reason, problem.error),)
        return ()
    if before == "Online" and verdict.connectivity == "Offline":
        return (Note("Warning", "DeviceOffline", verdict.online_message),)
    if before == "Offline" and verdict.connectivity == "Online":
        return (Note("Normal", "DeviceOnline", f"it answers again, and runs {verdict.build}"),)
    return ()


def report_model(model: DeviceModel, devices: int, credentials: SecretSeen | None, now: datetime) -> Report:
    """The status of a DeviceModel as it shall be; `devices`: how many are of it."""
    words = ready("Accepted")
    again = None
    if model.spec is None:
        words = stalled("InvalidSpec", model.spec_error)
    elif credentials == "Absent" and model.spec.credentials_secret is not None:
        name = model.spec.credentials_secret.name
        words = reconciling("SecretNotFound", f"spec.credentialsSecret: there is no Secret {name} here")
        again = _LOOK_AGAIN
    status: Json = {
        "devices": devices,
        "observedGeneration": model.generation,
        "conditions": write_conditions(words, conditions_of(model), generation=model.generation, now=now),
    }
    return Report(status, words, requeue_after=again)
