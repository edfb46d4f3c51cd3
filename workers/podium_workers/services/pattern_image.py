"""The light pattern in a firmware image: its frames, and the code that paints them.

The layout is that of `struct pattern_description` in the sample firmware's pattern.h: eight letters, a name
of 16 bytes, LEDs, frames, and three addresses.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass

from podium_workers.services.esp_image import Image

MAGIC = b"PODIUMLP"
BYTES_PER_LED = 3
_DESCRIPTION = struct.Struct("<8s16sIIIII")
_RISC_V = frozenset({"ESP32C2", "ESP32C3", "ESP32C5", "ESP32C6", "ESP32C61", "ESP32H2", "ESP32P4"})


@dataclass(frozen=True)
class PatternImage:
    """What an image shows."""

    name: str
    leds: int
    frames: int
    checksum: str
    """SHA-256 of all frames, LED by LED as red, green, blue; 64 hexadecimal digits."""
    instructions: int | None
    """Of the code that paints a frame. None: not RISC-V, whose instructions are counted here."""


def find_pattern(data: bytes, image: Image) -> PatternImage | None:
    """The pattern in an image. None if it has none, or describes one that is not in it."""
    at = data.find(MAGIC)
    if at < 0 or at + _DESCRIPTION.size > len(data):
        return None
    _, name, leds, frames, first, code, code_end = _DESCRIPTION.unpack_from(data, at)
    colours = _bytes_at(data, image, first, leds * frames * BYTES_PER_LED)
    program = _bytes_at(data, image, code, code_end - code)
    if not colours or not program:
        return None
    return PatternImage(
        name=name.split(b"\0", 1)[0].decode("ascii", "replace"),
        leds=leds,
        frames=frames,
        checksum=hashlib.sha256(colours).hexdigest(),
        instructions=_count_instructions(program) if image.chip in _RISC_V else None,
    )


def _bytes_at(data: bytes, image: Image, address: int, length: int) -> bytes:
    """What lies at an address of the program, or nothing."""
    for segment in image.segments:
        start = address - segment.address
        if length > 0 and start >= 0 and start + length <= segment.length:
            return data[segment.offset + start : segment.offset + start + length]
    return b""


def _count_instructions(program: bytes) -> int:
    """RISC-V: an instruction has four bytes where its lowest two bits are set, else two."""
    at = count = 0
    while at < len(program):
        at += 4 if program[at] & 3 == 3 else 2
        count += 1
    return count
