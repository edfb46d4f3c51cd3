"""An application image for an ESP32: read, and taken apart as its bootloader would.

The layout is that of ESP-IDF's `esp_image_header_t`, `esp_image_segment_header_t` and `esp_app_desc_t`: a
header of 24 bytes, segments, padding to a multiple of 16 with a checksum in its last byte, and a SHA-256 hash
if the header says so. What follows behind (a signature) belongs to the file, not to the image.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from pathlib import Path

from podium_workers.services.build_signature import find_builds

MAGIC = 0xE9
MOST_SEGMENTS = 16
APP_MAGIC = 0xABCD5432
CHECKSUM_SEED = 0xEF
HEADER = struct.Struct("<BBBBI B3sHBHH4sB")
SEGMENT = struct.Struct("<II")
APP = struct.Struct("<II8s32s32s16s16s32s32s")
HASH_BYTES = 32
CHIPS = {
    0: "ESP32",
    2: "ESP32S2",
    5: "ESP32C3",
    9: "ESP32S3",
    12: "ESP32C2",
    13: "ESP32C6",
    16: "ESP32H2",
    18: "ESP32P4",
    20: "ESP32C61",
    23: "ESP32C5",
}
"""Names as in `DeviceModel.spec.chip`, by the number in the header."""


class ImageError(ValueError):
    """It is no image, or it ends too early. The message says what was found where, and what was wanted."""


@dataclass(frozen=True)
class Segment:
    """A piece of the program. `offset`: of its data, from the beginning of the file."""

    address: int
    length: int
    offset: int


@dataclass(frozen=True)
class AppDescription:
    """What the build says about itself, `esp_app_desc_t`.

    Builds by Arduino carry that of the precompiled libraries, unless the project defines its own: `version`
    then says nothing about the project.
    """

    version: str
    project: str
    date: str
    time: str
    idf: str
    secure_version: int
    elf_sha256: str
    """64 hexadecimal digits; zeros where the build left it out."""


@dataclass(frozen=True)
class Image:
    """What is in a file. Wrong sums are values here, not errors: who asks decides what they mean."""

    chip: str
    """A name of CHIPS, or `chip id 77` for one that is not known."""
    chip_id: int
    entry: int
    segments: tuple[Segment, ...]
    checksum_ok: bool
    hash_ok: bool | None
    """None: the image has no hash."""
    app: AppDescription | None
    """None: the first segment does not begin with one."""
    builds: tuple[str, ...]
    """Each build signature (BUILD_SIG:…) in it, in order, without repetition."""
    image_bytes: int
    """Length of the image, with its hash."""
    size: int
    """Length of the file, with what follows the image. A slot must hold this."""
    sha256: str
    """Of the file, 64 hexadecimal digits."""

    @property
    def build(self) -> str | None:
        """Its only build signature. None if it has none, or several that contradict each other."""
        return self.builds[0] if len(self.builds) == 1 else None

    @property
    def intact(self) -> bool:
        """Whether a bootloader would start it: the sums that it has are right."""
        return self.checksum_ok and self.hash_ok is not False


def parse_image(source: bytes | Path) -> Image:
    """Takes an image apart. Raises ImageError, for a file that cannot be read too."""
    if isinstance(source, Path):
        try:
            data = source.read_bytes()
        except OSError as error:
            raise ImageError(f"{source}: {error.strerror or error}") from error
        try:
            return parse_image(data)
        except ImageError as error:
            raise ImageError(f"{source}: {error}") from None
    return _parse(source)


def _parse(data: bytes) -> Image:
    if not data:
        raise ImageError("it is empty: the build has written nothing")
    if data[0] != MAGIC:
        raise ImageError(f"it begins with 0x{data[0]:02x}, an image begins with 0xe9{_looks_like(data)}")
    if len(data) < HEADER.size:
        raise ImageError(f"it ends after {len(data)} bytes, within the header of {HEADER.size}")
    _, count, _, _, entry, _, _, chip_id, _, _, _, _, hash_appended = HEADER.unpack_from(data)
    if not 1 <= count <= MOST_SEGMENTS:
        raise ImageError(f"its header counts {count} segments, an image has 1 to {MOST_SEGMENTS}")
    segments, end = _segments(data, count)
    if end > len(data):
        raise ImageError(f"it ends after {len(data)} bytes, before its checksum at {end - 1}: it was cut off")
    checksum = CHECKSUM_SEED
    for segment in segments:
        checksum ^= fold(data[segment.offset : segment.offset + segment.length])
    checksum_ok = checksum == data[end - 1]
    hash_ok = None
    if hash_appended:
        stored = data[end : end + HASH_BYTES]
        if len(stored) < HASH_BYTES:
            raise ImageError(f"it ends after {len(data)} bytes, within the hash at {end}: it was cut off")
        hash_ok = hashlib.sha256(memoryview(data)[:end]).digest() == stored
        end += HASH_BYTES
    return Image(
        chip=CHIPS.get(chip_id, f"chip id {chip_id}"),
        chip_id=chip_id,
        entry=entry,
        segments=segments,
        checksum_ok=checksum_ok,
        hash_ok=hash_ok,
        app=_app(data, segments[0]),
        builds=find_builds(data[:end]),
        image_bytes=end,
        size=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
    )


def fold(data: bytes) -> int:
    """All bytes, combined by exclusive or. In halves, because a loop over a megabyte takes a while."""
    number, size = int.from_bytes(data, "big"), len(data)
    while size > 1:
        half = size // 2
        number, size = (number >> (half * 8)) ^ (number & ((1 << (half * 8)) - 1)), size - half
    return number


def _segments(data: bytes, count: int) -> tuple[tuple[Segment, ...], int]:
    segments, at = [], HEADER.size
    for number in range(count):
        if at + SEGMENT.size > len(data):
            raise ImageError(
                f"it ends after {len(data)} bytes, before the header of segment {number + 1} of {count}: "
                "it was cut off"
            )
        address, length = SEGMENT.unpack_from(data, at)
        at += SEGMENT.size
        if at + length > len(data):
            raise ImageError(
                f"segment {number + 1} of {count} has {length} bytes from {at} on, the file ends at "
                f"{len(data)}: it was cut off"
            )
        segments.append(Segment(address, length, at))
        at += length
    # The checksum is the last byte of a block of 16.
    return tuple(segments), at + 16 - at % 16


def _app(data: bytes, first: Segment) -> AppDescription | None:
    if first.length < APP.size:
        return None
    magic, secure, _, version, project, time, date, idf, elf = APP.unpack_from(data, first.offset)
    if magic != APP_MAGIC:
        return None
    return AppDescription(
        version=_text(version),
        project=_text(project),
        date=_text(date),
        time=_text(time),
        idf=_text(idf),
        secure_version=secure,
        elf_sha256=elf.hex(),
    )


def _text(field: bytes) -> str:
    return field.split(b"\0", 1)[0].decode("utf-8", errors="replace")


def _looks_like(data: bytes) -> str:
    """What people send by mistake, said in a few words."""
    kinds = {
        b"\x7fELF": "this is the ELF file; the image is beside it, firmware.bin",
        b"\x1f\x8b": "this is packed by gzip",
        b"PK": "this is a zip archive",
        b"\xaa\x50": "this is a partition table",
        b"\xff": "this is a whole flash dump, or empty flash; the image begins further on",
        b"<": "this looks like a web page, perhaps an error page instead of the file",
        b"{": "this looks like JSON, perhaps an answer instead of the file",
    }
    return "".join(f": {words}" for start, words in kinds.items() if data.startswith(start))
