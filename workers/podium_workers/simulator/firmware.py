"""Makes images that a device accepts, without a compiler: for simulated devices, demos and tests."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable

from podium_workers.services.build_signature import MARKER
from podium_workers.services.esp_image import (
    APP,
    APP_MAGIC,
    CHECKSUM_SEED,
    CHIPS,
    HEADER,
    MAGIC,
    SEGMENT,
    fold,
)
from podium_workers.simulator.faults import parse_fault

_DROM, _IRAM = 0x3C000020, 0x40374000
_APP_BYTES = 256
_CHIP_IDS = {name: number for number, name in CHIPS.items()}


def build_image(
    build: str,
    *,
    chip: str = "ESP32S3",
    size: int = 16 * 1024,
    version: str | None = None,
    project: str = "simulated",
    secure_version: int = 0,
    hashed: bool = True,
    faults: Iterable[str] = (),
    seed: int = 0,
) -> bytes:
    """An image of about `size` bytes (at least 1,024) with the signature `build`.

    The same arguments give the same bytes. `faults`: what it does to simulated devices, as in faults.py.
    `version`: of the app description, `build` if None. Raises KeyError for a chip that is not known.
    """
    marks = "".join(f"SIM_FAULT:{parse_fault(fault)}\0" for fault in faults)
    text = f"{MARKER}{build}\0{marks}".encode("ascii")
    overhead = HEADER.size + 2 * SEGMENT.size + 16 + (32 if hashed else 0)
    filling = max(size, 1024) - overhead - _APP_BYTES - len(text)
    program = random.Random(f"{build} {seed}").randbytes(filling)
    app = APP.pack(
        APP_MAGIC,
        secure_version,
        bytes(8),
        (version or build).encode()[:31],
        project.encode()[:31],
        b"00:00:00",
        b"Jan  1 2026",
        b"v5.5",
        hashlib.sha256(program).digest(),
    )
    data = app.ljust(_APP_BYTES, b"\0") + text
    data += bytes(-len(data) % 4)
    program = program[: len(program) - len(program) % 4]
    body = b"".join(
        SEGMENT.pack(address, len(piece)) + piece for address, piece in ((_DROM, data), (_IRAM, program))
    )
    header = HEADER.pack(
        MAGIC, 2, 2, 0x2F, _IRAM, 0xEE, bytes(3), _CHIP_IDS[chip], 0, 0, 0xFFFF, bytes(4), int(hashed)
    )
    image = header + body
    image += bytes(15 - len(image) % 16) + bytes([CHECKSUM_SEED ^ fold(data) ^ fold(program)])
    return image + hashlib.sha256(image).digest() if hashed else image
