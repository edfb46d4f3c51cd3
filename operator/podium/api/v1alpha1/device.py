"""The kind Device: one board somewhere in the network."""

from typing import Annotated, Literal

from pydantic import Field

from podium.api.v1alpha1.device_model import CredentialsSecret
from podium.api.v1alpha1.meta import (
    Atomic,
    Column,
    Conditions,
    Duration,
    Kind,
    Model,
    Name,
    Rule,
    Timestamp,
)

MAC_PATTERN = r"^([0-9a-f]{2}:){5}[0-9a-f]{2}$"
MOST_HISTORY = 10

Port = Annotated[int, Field(ge=1, le=65535)]
Build = Annotated[str, Field(max_length=128)]
Release = Annotated[str, Field(max_length=253)]


class Address(Model):
    """Where a device is."""

    host: str = Field(
        min_length=1,
        max_length=253,
        pattern=r"^[A-Za-z0-9]([A-Za-z0-9.:-]*[A-Za-z0-9])?$",
        description="An IP address or a host name.",
    )
    ota_port: Port = Field(default=3232, description="Where it listens for updates, UDP.")
    health_port: Port = Field(default=80, description="Where its health is, HTTP.")


class MaintenanceWindow(Model):
    """A time in which it may be updated."""

    cron: str = Field(min_length=1, max_length=128, description="When it opens.")
    duration: Duration = Field(description="How long it stays open.")
    time_zone: str = Field(default="UTC", min_length=1, max_length=64, description="The zone of cron.")


class DeviceSpec(Model):
    """One board: its model, where it is, and when it may be updated."""

    rules = (
        Rule(
            "!has(oldSelf.mac) || (has(self.mac) && self.mac == oldSelf.mac)",
            "mac cannot be changed or removed: another board is another Device",
        ),
    )

    model: Name = Field(description="Its DeviceModel, in the same namespace.")
    address: Address = Field(description="Where it is.")
    mac: str | None = Field(
        default=None,
        max_length=17,
        pattern=MAC_PATTERN,
        description="Its hardware address, in lower case: tells it from another one at the same address.",
    )
    credentials_secret: CredentialsSecret | None = Field(
        default=None, description="The password for its updates; default: that of its model."
    )
    maintenance_windows: Annotated[list[MaintenanceWindow], Atomic()] = Field(
        default_factory=list, max_length=16, description="When it may be updated; default: at any time."
    )
    update_policy: Literal["Automatic", "Manual", "Locked"] = Field(
        default="Automatic",
        description=(
            "Automatic: releases update it. Manual: only an update that names it. Locked: nothing does. "
            "Not heeded yet: it is for firmware releases, which are not there."
        ),
    )


class Desired(Model):
    """What it shall run."""

    release: Release = Field(description="The FirmwareRelease.")
    build: Build = Field(default="", description="Its build.")


class Reported(Model):
    """What it says that it runs."""

    build: Build = Field(description="The build, in its own words.")
    ota_state: str | None = Field(default=None, max_length=32, description="What its bootloader thinks.")
    partition: str | None = Field(default=None, max_length=32, description="The slot that it runs from.")
    observed_at: Timestamp = Field(description="Since when that is known.")


class Previous(Model):
    """What it ran before, and what a rollback sends."""

    build: Build = Field(description="The build.")
    sha256: str | None = Field(default=None, max_length=64, description="The image.")


class Firmware(Model):
    """What it shall run, runs and ran."""

    desired: Desired | None = Field(default=None, description="What it shall run.")
    reported: Reported | None = Field(default=None, description="What it says that it runs.")
    previous: Previous | None = Field(default=None, description="What it ran before.")


class Update(Model):
    """The update that is under way, or was last."""

    phase: str = Field(max_length=32, description="How far it is.")
    release: Release = Field(default="", description="The release that it is of.")
    attempt: int = Field(default=0, ge=0, description="Which attempt this is.")
    reason: str = Field(default="", max_length=64, description="The reason as one word.")
    message: str = Field(default="", max_length=256, description="The reason in words.")


class Ota(Model):
    """What is known of how it takes updates."""

    auth_scheme: str = Field(max_length=32, description="How it asked for the password last.")


class Quarantine(Model):
    """It failed too often, and is left alone for a while."""

    until: Timestamp = Field(description="When it is tried again.")
    reason: str = Field(max_length=64, description="Why it failed last.")
    failures: int = Field(default=0, ge=0, description="How often.")


class PastUpdate(Model):
    """An update that is over."""

    release: Release = Field(description="The release.")
    build: Build = Field(default="", description="Its build.")
    result: str = Field(max_length=32, description="How it ended.")
    finished_at: Timestamp = Field(description="When.")


class DeviceStatus(Model):
    """What Podium sees. Times of answers are not in it: they are in the metrics."""

    observed_generation: int = Field(default=-1, description="The generation this status speaks of.")
    connectivity: Literal["Online", "Offline", "Unknown"] | None = Field(
        default=None, description="Whether it answers."
    )
    firmware: Firmware | None = Field(default=None, description="What it shall run, runs and ran.")
    update: Update | None = Field(default=None, description="The update that is under way.")
    ota: Ota | None = Field(default=None, description="How it takes updates.")
    quarantine: Quarantine | None = Field(default=None, description="Why it is left alone.")
    history: Annotated[list[PastUpdate], Atomic()] = Field(
        default_factory=list, max_length=MOST_HISTORY, description="The last ten updates, the newest first."
    )
    conditions: Conditions = Field(
        default_factory=list, description="Ready, Online, Healthy, UpToDate, Reconciling, Stalled."
    )


def _condition(kind: str, part: str) -> str:
    return f'.status.conditions[?(@.type=="{kind}")].{part}'


DEVICE = Kind(
    kind="Device",
    plural="devices",
    singular="device",
    short_names=("pdev",),
    description="One board somewhere in the network: where it is, what it runs, how it is.",
    spec=DeviceSpec,
    status=DeviceStatus,
    columns=(
        Column("Model", ".spec.model", description="Its DeviceModel."),
        Column("Address", ".spec.address.host", description="Where it is."),
        Column("Online", ".status.connectivity", description="Whether it answers."),
        Column("Healthy", _condition("Healthy", "status"), description="Whether it is well."),
        Column("Build", ".status.firmware.reported.build", description="What it says that it runs."),
        Column("Ready", _condition("Ready", "status"), description="It is known and in order."),
        Column("Reason", _condition("Ready", "reason"), description="Why it is (not) ready."),
        Column("Message", _condition("Ready", "message"), description="The reason in words.", priority=1),
        Column("Age", ".metadata.creationTimestamp", "date"),
    ),
    selectable_fields=(".spec.model", ".status.update.release"),
)
