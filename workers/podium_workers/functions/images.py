"""Functions that make small real pictures: stand-ins for models, for examples that need no graphics card.

Nothing here looks at what a prompt means: its checksum chooses colours. The files are true PNG and APNG
(moving PNG) files, made with the standard library.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from podium_workers.functions.shelf import task
from podium_workers.runtime.context import Reject, TaskContext

SIZE, SMALLEST, LARGEST = 64, 8, 512
MOST_FRAMES = 48
_SIGNATURE = b"\x89PNG\r\n\x1a\n"


@task("generate_image")
def generate_image(context: TaskContext, prompt: str, size: int = SIZE) -> dict[str, Any]:
    """Paints a square PNG in colours that the prompt's checksum chooses (no model, no meaning).

    `size` is in pixels, 8 to 512; others are brought into that range. The same prompt gives the same file.
    """
    if not prompt.strip():
        raise Reject("prompt: empty")
    size = min(max(size, SMALLEST), LARGEST)
    digest = hashlib.sha256(prompt.encode()).digest()
    pixels = bytearray()
    for y in range(size):
        for x in range(size):
            share, band = (x + y) * 255 // max(1, 2 * size - 2), ((x * 8 // size) ^ (y * 8 // size)) & 1
            pixels += bytes(
                (digest[channel] * (255 - share) + digest[channel + 3] * share) // 255 ^ (band * 16)
                for channel in range(3)
            )
    return _saved(context, "image", _png(size, size, bytes(pixels)), size, size, {"prompt": prompt})


@task("resize")
def resize(
    context: TaskContext,
    imageUrl: str | None = None,  # noqa: N803
    image: str | None = None,
    width: int = 100,
) -> dict[str, Any]:
    """Scales a picture made by these functions to `width` pixels (8 to 512), nearest neighbour.

    The picture is `imageUrl`, or `image`; without either, a grey test card.
    """
    source_width, source_height, pixels = _open(context, imageUrl or image)
    width = min(max(width, SMALLEST), LARGEST)
    height = max(1, source_height * width // source_width)
    scaled = bytearray()
    for y in range(height):
        row = (y * source_height // height) * source_width
        for x in range(width):
            at = (row + x * source_width // width) * 3
            scaled += pixels[at : at + 3]
    return _saved(context, "resized", _png(width, height, bytes(scaled)), width, height)


@task("image_to_video")
def image_to_video(context: TaskContext, imageUrl: str, frames: int = 8) -> dict[str, Any]:  # noqa: N803
    """Makes a moving picture (APNG, not a video codec) that lets the image roll sideways once in a second."""
    width, height, pixels = _open(context, imageUrl)
    frames = min(max(frames, 2), MOST_FRAMES)
    rolled = [_rolled(pixels, width, width * frame // frames) for frame in range(frames)]
    saved = _saved(context, "video", _apng(width, height, rolled), width, height)
    return {**saved, "videoUrl": saved["url"], "frames": frames, "format": "image/apng"}


@task("caption")
def caption(context: TaskContext, imageUrl: str | None = None, image: str | None = None) -> dict[str, Any]:  # noqa: N803
    """Says size and mean colour of a picture made by these functions; it recognises nothing.

    The picture is `imageUrl`, or `image`; without either, a grey test card.
    """
    width, height, pixels = _open(context, imageUrl or image)
    mean = [sum(pixels[channel::3]) // (width * height) for channel in range(3)]
    name = ("reddish", "greenish", "bluish")[mean.index(max(mean))]
    colour = "#" + "".join(f"{value:02x}" for value in mean)
    return {"caption": f"a {name} picture of {width} x {height} pixels", "colour": colour}


@task("publish")
def publish(context: TaskContext, image: str, caption: str = "", name: str | None = None) -> dict[str, Any]:
    """Copies a picture into the data folder's `published`, with its caption in a text file beside it."""
    data = _read(context, image)
    stem = "".join(c if c.isalnum() or c in "-_" else "-" for c in name or "")[:80] or _stem(data)
    path = _write(context.data_dir / "published" / f"{stem}.png", data)
    if caption:
        _write(path.with_suffix(".txt"), caption.encode())
    return {"url": path.as_uri(), "size": len(data), "caption": caption}


def _saved(
    context: TaskContext,
    folder: str,
    data: bytes,
    width: int,
    height: int,
    more: dict[str, Any] | None = None,
) -> dict[str, Any]:
    path = _write(context.data_dir / "images" / f"{folder}-{_stem(data)}.png", data)
    url = path.as_uri()
    return {"imageUrl": url, "url": url, "width": width, "height": height, "size": len(data), **(more or {})}


def _write(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{id(data)}.part")
    part.write_bytes(data)
    part.replace(path)
    return path


def _stem(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def _read(context: TaskContext, url: str) -> bytes:
    parts = urlsplit(url)
    path = Path(unquote(parts.path)).resolve()
    # A workflow's input must not be a way to read other files of the worker.
    if parts.scheme != "file" or not path.is_relative_to(context.data_dir.resolve()):
        raise Reject(
            "only pictures in this worker's data folder can be read (a file: URL that a task returned)"
        )
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise Reject("the picture is not there; do the workers share their --data-dir?") from None


def _open(context: TaskContext, url: str | None) -> tuple[int, int, bytes]:
    """(width, height, RGB bytes) of a PNG as `_png` writes them."""
    if not url:
        return SIZE, SIZE, bytes((128,) * 3 * SIZE * SIZE)
    data = _read(context, url)
    chunks = dict(_chunks(data)) if data.startswith(_SIGNATURE) else {}
    if b"IHDR" not in chunks or b"IDAT" not in chunks or chunks[b"IHDR"][8:] != bytes((8, 2, 0, 0, 0)):
        raise Reject("not a picture that these functions made (PNG, 8 bit, RGB)")
    width, height = struct.unpack(">II", chunks[b"IHDR"][:8])
    raw = zlib.decompress(chunks[b"IDAT"])
    step = width * 3 + 1
    return width, height, b"".join(raw[y * step + 1 : (y + 1) * step] for y in range(height))


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = len(_SIGNATURE)
    while at + 8 <= len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        yield data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        at += length + 12


def _rolled(pixels: bytes, width: int, by: int) -> bytes:
    step, cut = width * 3, by * 3
    return b"".join(
        pixels[at + cut : at + step] + pixels[at : at + cut] for at in range(0, len(pixels), step)
    )


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _packed(width: int, pixels: bytes) -> bytes:
    step = width * 3
    return zlib.compress(b"".join(b"\0" + pixels[at : at + step] for at in range(0, len(pixels), step)))


def _header(width: int, height: int) -> bytes:
    return _SIGNATURE + _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))


def _png(width: int, height: int, pixels: bytes) -> bytes:
    return _header(width, height) + _chunk(b"IDAT", _packed(width, pixels)) + _chunk(b"IEND", b"")


def _apng(width: int, height: int, frames: list[bytes]) -> bytes:
    """The frames follow each other within a second, for ever."""
    parts = [_header(width, height), _chunk(b"acTL", struct.pack(">II", len(frames), 0))]
    number = 0
    for index, pixels in enumerate(frames):
        control = struct.pack(">IIIIIHHBB", number, width, height, 0, 0, 1, len(frames), 0, 0)
        parts.append(_chunk(b"fcTL", control))
        number += 1
        if index == 0:
            parts.append(_chunk(b"IDAT", _packed(width, pixels)))
        else:
            parts.append(_chunk(b"fdAT", struct.pack(">I", number) + _packed(width, pixels)))
            number += 1
    return b"".join([*parts, _chunk(b"IEND", b"")])
