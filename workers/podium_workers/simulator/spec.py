"""What simulated devices there are: from the command line, or from a file."""

from __future__ import annotations

import ipaddress
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from podium_workers.services.esp_image import CHIPS
from podium_workers.simulator.faults import Fault, FaultError, parse_fault

Auth = Literal["none", "md5", "pbkdf2", "pbkdf2-md5"]
Confirm = Literal["boot", "self", "api"]
SLOT_BYTES = 0x330000
"""Of the usual partition table for 8 MB of flash."""


class SpecError(ValueError):
    """A file or an option that makes no sense. The message says where."""


@dataclass(frozen=True)
class DeviceSpec:
    """One device as it leaves the factory."""

    name: str
    address: str
    mac: str
    chip: str = "ESP32S3"
    board: str = "esp32-s3-devkitc-1"
    build: str = "0000001"
    slot_size: int = SLOT_BYTES
    auth: Auth = "none"
    password: str = field(default="", repr=False)
    rollback: bool = True
    """Whether its bootloader goes back from a firmware that was not confirmed."""
    confirm: Confirm = "self"
    """Who confirms a new firmware: its start (as Arduino does), itself after a while, `POST /api/confirm`."""
    secure_version: int = 0
    """It takes no image with a lower one."""
    signing_key: str | None = None
    """PEM of the public key whose signature an image must carry."""
    boot_seconds: float = 4.0
    heap: int = 180_000
    rate: float = 0.0
    """Bytes a second that it takes; 0: as many as come."""
    rtt: float = 0.0
    """Seconds of a round trip to it. Only the protocol's own counts are slowed down, not TCP."""
    split_reads: bool = False
    """It reads in pieces of 1 to 1,460 bytes, by chance."""
    labels: tuple[tuple[str, str], ...] = ()
    access_point: str = ""
    """Devices at the same one share its bandwidth."""
    faults: tuple[Fault, ...] = ()
    seed: int = 0


class DeviceGroup(BaseModel):
    """Devices that are alike, as an entry of a file."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(default="sim", pattern=r"^[a-z0-9]([-a-z0-9]{0,40}[a-z0-9])?$")
    count: int = Field(default=1, ge=1, le=60_000)
    chip: str = "ESP32S3"
    board: str = "esp32-s3-devkitc-1"
    build: str = "0000001"
    slot_size: int = Field(default=SLOT_BYTES, ge=4096)
    auth: Auth | None = None
    password: str = ""
    rollback: bool = True
    confirm: Confirm = "self"
    secure_version: int = 0
    signing_key: str | None = None
    boot_seconds: float = Field(default=4.0, ge=0)
    heap: int = Field(default=180_000, ge=0)
    rate: float = Field(default=0.0, ge=0)
    rtt: float = Field(default=0.0, ge=0, le=10)
    split_reads: bool = False
    labels: dict[str, str] = Field(default_factory=dict)
    access_points: int = Field(default=0, ge=0)
    faults: list[str] = Field(default_factory=list)


class FleetFile(BaseModel):
    """The whole file."""

    model_config = ConfigDict(extra="forbid")

    devices: list[DeviceGroup]


def read_file(path: Path) -> list[DeviceGroup]:
    """The groups in a YAML file. Raises SpecError."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SpecError(f"{path}: {error.strerror or error}") from error
    except yaml.YAMLError as error:
        raise SpecError(f"{path}: no YAML: {' '.join(str(error).split())}") from error
    try:
        return FleetFile.model_validate(content).devices
    except ValidationError as error:
        raise SpecError(f"{path}: {_first_problem(error)}") from None


def check_group(values: dict[str, object]) -> DeviceGroup:
    """A group of options. Raises SpecError."""
    try:
        return DeviceGroup.model_validate(values)
    except ValidationError as error:
        raise SpecError(_first_problem(error)) from None


def build_specs(groups: list[DeviceGroup], first_address: str, seed: int) -> list[DeviceSpec]:
    """All devices, each on an address of its own from `first_address` on. Raises SpecError."""
    addresses = _addresses(first_address)
    specs: list[DeviceSpec] = []
    names: set[str] = set()
    for group in groups:
        if group.chip not in CHIPS.values():
            raise SpecError(
                f"{group.name}: chip {group.chip} is not known; there are {', '.join(CHIPS.values())}"
            )
        if group.auth not in (None, "none") and not group.password:
            raise SpecError(f"{group.name}: auth {group.auth} needs a password")
        try:
            faults = [parse_fault(text) for text in group.faults]
        except FaultError as error:
            raise SpecError(f"{group.name}: {error}") from None
        width = len(str(group.count))
        for number in range(1, group.count + 1):
            name = group.name if group.count == 1 else f"{group.name}-{number:0{width}}"
            if name in names:
                raise SpecError(f"two devices would be called {name}: give each group its own name")
            names.add(name)
            specs.append(_build_spec(group, name, number, next(addresses), faults, seed))
    return specs


def hits(fault: Fault, name: str, labels: tuple[tuple[str, str], ...], seed: int) -> bool:
    """Whether a fault that only some devices have is one of this device's.

    The same seed, the same devices.
    """
    where = fault.text("where")
    if where and tuple(where.split("/", 1)) not in labels:
        return False
    percent = fault.number("percent")
    return percent >= 100 or random.Random(f"{seed} {fault.name} {name}").random() * 100 < percent


def _first_problem(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_context=False)[0]
    where = ".".join(str(part) for part in first["loc"]) or "the file"
    return f"{where}: {first['msg'][0].lower()}{first['msg'][1:]}"


def _build_spec(
    group: DeviceGroup, name: str, number: int, address: str, faults: list[Fault], seed: int
) -> DeviceSpec:
    chance = random.Random(f"{seed} {name}")
    labels = dict(group.labels)
    point = ""
    if group.access_points:
        point = f"{group.name}-ap-{number % group.access_points + 1}"
        labels["access-point"] = point
    marked = tuple(labels.items())
    values = group.model_dump(exclude={"name", "count", "auth", "labels", "access_points", "faults"})
    return DeviceSpec(
        name=name,
        address=address,
        mac="02:" + ":".join(f"{byte:02x}" for byte in chance.randbytes(5)),
        auth=group.auth or ("pbkdf2" if group.password else "none"),
        labels=marked,
        access_point=point,
        faults=tuple(fault for fault in faults if hits(fault, name, marked, seed)),
        seed=chance.getrandbits(32),
        **values,
    )


def _addresses(first: str) -> Iterator[str]:
    try:
        address = ipaddress.IPv4Address(first)
    except ValueError:
        raise SpecError(f"{first} is no IPv4 address") from None
    while True:
        # Some programs take .0 and .255 for something special.
        if address.packed[3] not in (0, 255):
            if not address.is_loopback:
                raise SpecError(f"{address} is not in 127.0.0.0/8: begin lower, or simulate fewer devices")
            yield str(address)
        address += 1
