"""The light patterns that can be had, with their parameters, and the frames that they consist of. Pure."""

from __future__ import annotations

import colorsys
import math
import random
from collections.abc import Callable
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

MOST_BYTES = 128 * 1024
BYTES_PER_LED = 3
Colour = Annotated[str, Field(pattern=r"^#[0-9a-fA-F]{6}$")]
_Rgb = tuple[float, float, float]


class _Pattern(BaseModel):
    """What all have. Frames follow each other for ever: the first one comes after the last."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    leds: int = Field(144, ge=1, le=4096)
    """Of the strip; the firmware must be built for as many."""
    frames: int = Field(32, ge=1, le=1024)
    brightness: float = Field(1.0, ge=0, le=1)

    @model_validator(mode="after")
    def _must_fit(self) -> _Pattern:
        size = self.leds * self.frames * BYTES_PER_LED
        if size > MOST_BYTES:
            raise ValueError(
                f"{self.leds} leds and {self.frames} frames take {size:,} bytes of flash, at most "
                f"{MOST_BYTES:,}: take fewer frames"
            )
        return self


class Solid(_Pattern):
    """One colour."""

    kind: Literal["solid"]
    colour: Colour = "#ff8c28"


class Rainbow(_Pattern):
    """All hues, `turns` times along the strip; they move by once round the circle."""

    kind: Literal["rainbow"]
    turns: float = Field(1.0, gt=0, le=64)


class Chase(_Pattern):
    """A light of `width` LEDs runs along the strip and comes in again at its beginning."""

    kind: Literal["chase"]
    colour: Colour = "#ffffff"
    background: Colour = "#000000"
    width: int = Field(4, ge=1)

    @model_validator(mode="after")
    def _must_have_room(self) -> Chase:
        if self.width > self.leds:
            raise ValueError(f"width {self.width} is more than there are leds ({self.leds})")
        return self


class Breathe(_Pattern):
    """One colour, from `lowest` of its brightness to all of it and back."""

    kind: Literal["breathe"]
    colour: Colour = "#2060ff"
    lowest: float = Field(0.0, ge=0, le=1)


class Twinkle(_Pattern):
    """A share `density` of the LEDs, drawn by `seed`, flashes up and fades, each at a time of its own."""

    kind: Literal["twinkle"]
    colour: Colour = "#ffffff"
    density: float = Field(0.3, ge=0, le=1)
    seed: int = Field(1, ge=0, lt=2**32)


Pattern = Annotated[Solid | Rainbow | Chase | Breathe | Twinkle, Field(discriminator="kind")]
AnyPattern = Solid | Rainbow | Chase | Breathe | Twinkle


def build_frames(pattern: AnyPattern) -> bytes:
    """Frame after frame, LED after LED: red, green, blue. The same parameters give the same bytes."""
    colour_at = _colours(pattern)
    found = bytearray()
    for frame in range(pattern.frames):
        for led in range(pattern.leds):
            found += bytes(round(255 * part * pattern.brightness) for part in colour_at(frame, led))
    return bytes(found)


def _colours(pattern: AnyPattern) -> Callable[[int, int], _Rgb]:
    """The colour of an LED in a frame, each part from 0 to 1."""
    match pattern:
        case Solid():
            colour = _parse(pattern.colour)
            return lambda _frame, _led: colour
        case Rainbow():
            return lambda frame, led: colorsys.hsv_to_rgb(
                (pattern.turns * led / pattern.leds + frame / pattern.frames) % 1.0, 1.0, 1.0
            )
        case Chase():
            light, dark = _parse(pattern.colour), _parse(pattern.background)
            return lambda frame, led: (
                light
                if (led - frame * pattern.leds // pattern.frames) % pattern.leds < pattern.width
                else dark
            )
        case Breathe():
            colour = _parse(pattern.colour)

            def breathe(frame: int, _led: int) -> _Rgb:
                # Out is the same as in, to the last bit.
                phase = 2 * math.pi * min(frame, pattern.frames - frame) / pattern.frames
                return _dimmed(colour, pattern.lowest + (1 - pattern.lowest) * (1 - math.cos(phase)) / 2)

            return breathe
        case Twinkle():
            colour = _parse(pattern.colour)
            chance = random.Random(pattern.seed)
            starts = [
                chance.randrange(pattern.frames) if chance.random() < pattern.density else None
                for _ in range(pattern.leds)
            ]
            fade = max(1, pattern.frames // 4)

            def twinkle(frame: int, led: int) -> _Rgb:
                start = starts[led]
                age = fade if start is None else (frame - start) % pattern.frames
                return _dimmed(colour, max(0.0, 1 - age / fade))

            return twinkle


def _parse(colour: str) -> _Rgb:
    red, green, blue = bytes.fromhex(colour[1:])
    return red / 255, green / 255, blue / 255


def _dimmed(colour: _Rgb, by: float) -> _Rgb:
    return colour[0] * by, colour[1] * by, colour[2] * by
