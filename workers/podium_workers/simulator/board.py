"""The inside of a simulated device: flash with two slots, bootloader, heap. Nothing here waits or talks."""

from __future__ import annotations

import hashlib
import random
import re
from dataclasses import dataclass, field
from typing import Literal

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from podium_workers.services.esp_image import MAGIC, Image, ImageError, parse_image
from podium_workers.services.pattern_image import PatternImage, find_pattern
from podium_workers.simulator.faults import Fault, FaultError, FaultSet, parse_fault
from podium_workers.simulator.spec import DeviceSpec, hits

OtaState = Literal["undefined", "new", "pending_verify", "valid", "invalid", "aborted"]
SIGNATURE_BYTES = 512
CLOCK_MHZ = 160
_MARK = re.compile(rb"SIM_FAULT:([\x21-\x7e]+)")


@dataclass(frozen=True)
class Firmware:
    """What a slot holds, as far as it matters. `faults`.

    Those that the image itself brings (`SIM_FAULT:…`).
    """

    digest: str
    build: str
    version: str
    size: int
    bootable: bool = True
    faults: tuple[Fault, ...] = ()
    pattern: PatternImage | None = None


@dataclass
class Slot:
    """One of the two."""

    name: str
    firmware: Firmware | None = None
    state: OtaState = "undefined"


@dataclass
class Board:
    """State that outlives a restart, and that of the present run. Times are simulated seconds."""

    spec: DeviceSpec
    faults: FaultSet
    slots: tuple[Slot, Slot] = field(default_factory=lambda: (Slot("app0"), Slot("app1")))
    running: int | None = 0
    """None: nothing can be started."""
    selected: int = 0
    boot_count: int = 0
    reset_reason: str = "power_on"
    booted_at: float = 0.0
    least_heap: int = 0

    def __post_init__(self) -> None:
        self.factory = Firmware("factory", self.spec.build, self.spec.build, 0)
        self.slots[0].firmware, self.slots[0].state = self.factory, "valid"
        self._chance = random.Random(self.spec.seed)

    @property
    def slot(self) -> Slot | None:
        """The one that runs."""
        return None if self.running is None else self.slots[self.running]

    @property
    def firmware(self) -> Firmware | None:
        """What runs."""
        return self.slot.firmware if self.slot else None

    def begin(self, size: int) -> bool:
        """Whether so much fits; the real thing says no more than that, either."""
        return 0 < size <= self.spec.slot_size

    def install(self, data: bytes) -> str:
        """Puts an image into the other slot and selects it. The error text of the real thing, or nothing."""
        if data[0] != MAGIC:
            return "Wrong Magic Byte"
        try:
            image = parse_image(data)
        except ImageError:
            return "Could Not Activate The Firmware"
        if not image.intact or image.chip != self.spec.chip:
            return "Could Not Activate The Firmware"
        if image.app is not None and image.app.secure_version < self.spec.secure_version:
            return "Could Not Activate The Firmware"
        if (
            self.spec.signing_key
            and not self.faults.use("accepts-unsigned")
            and not self._signed(data, image)
        ):
            return "Signature Verification Failed"
        other = self.slots[1 - (self.running or 0)]
        other.firmware = _firmware(data, image, self.spec)
        other.state = "new" if self.spec.rollback else "undefined"
        if not self.faults.use("stuck-old-version"):
            self.selected = self.slots.index(other)
        return ""

    def boot(self, reason: str, now: float) -> None:
        """What the bootloader does: it goes back from a firmware that has had its one unconfirmed start."""
        chosen = self.slots[self.selected]
        if chosen.state == "pending_verify":
            chosen.state = "aborted"
            self._fall_back()
        chosen = self.slots[self.selected]
        if chosen.firmware is None or chosen.state in ("aborted", "invalid"):
            self.running = None
            return
        if chosen.state == "new":
            chosen.state = "pending_verify"
            if self.spec.confirm == "boot":
                chosen.state = "valid"
        self.running = self.selected
        self.boot_count += 1
        self.reset_reason = reason
        self.booted_at = now
        self.least_heap = self.spec.heap

    def confirm(self) -> None:
        """The firmware that runs is good."""
        if self.slot and self.slot.state == "pending_verify":
            self.slot.state = "valid"

    def roll_back(self) -> bool:
        """Marks what runs as bad and selects the other slot. False if there is nothing to go back to."""
        other = self.slots[1 - (self.running or 0)]
        if other.firmware is None or other.state not in ("valid", "undefined") or self.slot is None:
            return False
        self.slot.state = "invalid"
        self.selected = self.slots.index(other)
        return True

    def firmware_fault(self, name: str) -> Fault | None:
        """A fault of the firmware that runs.

        Its own, or the device's for whatever is not from the factory.
        """
        running = self.firmware
        if running is None or running is self.factory:
            return None
        for fault in running.faults:
            if fault.name == name:
                return fault
        return self.faults.find(name)

    def build(self) -> str:
        """What the firmware says that it is."""
        if fault := self.firmware_fault("wrong-build"):
            return fault.text("build")
        running = self.firmware
        build = running.build if running else ""
        return f"{build}-dirty" if self.firmware_fault("dirty-build") else build

    def free_heap(self, now: float) -> int:
        """Bytes; a little different each time."""
        free = float(self.spec.heap)
        if fault := self.firmware_fault("low-heap"):
            free = fault.number("free")
        if fault := self.firmware_fault("heap-leak"):
            free -= fault.number("rate") * (now - self.booted_at)
        free = max(0, int(free) - self._chance.randrange(500))
        self.least_heap = min(self.least_heap, free)
        return free

    def largest_block(self, free: int) -> int:
        """Bytes, never more than is free."""
        if fault := self.firmware_fault("fragmented-heap"):
            return min(free, int(fault.number("block")))
        return free * 6 // 10

    def frame_micros(self) -> float | None:
        """Microseconds for computing a frame of the pattern that runs; a little different each time.

        An estimate out of the image: each instruction of the code that paints is done once for each LED, one
        in each tick of the clock. None: there is no pattern, or its instructions cannot be counted.
        """
        pattern = self.firmware.pattern if self.firmware else None
        if pattern is None or pattern.instructions is None:
            return None
        ticks = float(pattern.leds * pattern.instructions)
        if fault := self.firmware_fault("slow-frames"):
            ticks *= fault.number("factor")
        return round(ticks * self._chance.uniform(1.0, 1.01) / CLOCK_MHZ, 3)

    def _fall_back(self) -> None:
        other = 1 - self.selected
        if self.slots[other].firmware is not None and self.slots[other].state in ("valid", "undefined"):
            self.selected = other

    def _signed(self, data: bytes, image: Image) -> bool:
        """A signature (ECDSA, P-256, SHA-256, DER) follows the image, filled up with zeros to 512 bytes."""
        block = data[image.image_bytes :]
        if len(block) != SIGNATURE_BYTES or block[0] != 0x30 or block[1] > 0x7F:
            return False
        key = load_pem_public_key((self.spec.signing_key or "").encode())
        assert isinstance(key, ec.EllipticCurvePublicKey)
        try:
            key.verify(block[: block[1] + 2], data[: image.image_bytes], ec.ECDSA(hashes.SHA256()))
        except InvalidSignature:
            return False
        return True


def _firmware(data: bytes, image: Image, spec: DeviceSpec) -> Firmware:
    faults = []
    for text in _MARK.findall(data):
        try:
            fault = parse_fault(text.decode("ascii"))
        except FaultError:
            continue  # it only looks like a mark
        if hits(fault, spec.name, spec.labels, spec.seed):
            faults.append(fault)
    version = image.app.version if image.app else ""
    return Firmware(
        digest=hashlib.sha256(data).hexdigest(),
        build=image.build or version,
        version=version,
        size=len(data),
        faults=tuple(faults),
        pattern=find_pattern(data, image),
    )
