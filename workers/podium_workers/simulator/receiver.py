"""The TCP side of ArduinoOTA on a device: takes an image, counts aloud, and says how it ended."""

from __future__ import annotations

import asyncio
import hashlib
import random
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from podium_workers.services.esp_image import MAGIC
from podium_workers.simulator.faults import FaultSet
from podium_workers.simulator.invitations import Invitation

if TYPE_CHECKING:
    from asyncio import Transport

WINDOW_BYTES = 5744
"""What lwIP offers: four segments."""
SEGMENT_BYTES = 1460
_SECTOR_BYTES = 4096
_TRIES = 4
_SILENCE_SECONDS = 60.0
_SHORTEST_PAUSE = 0.002


@dataclass(frozen=True)
class Pace:
    """How quickly a device takes an image. Seconds and bytes a second."""

    wait: float = 1.0
    """For data, four times, before it gives up; it says its last count again in between."""
    rate: float = 0.0
    """0: without limit."""
    split: bool = False
    rtt: float = 0.0
    """From a count to what is sent upon it."""


class Bandwidth:
    """What the devices at one access point share, in bytes a second."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._free_at = 0.0

    def reserve(self, size: int, now: float) -> float:
        """Seconds until so many bytes are through."""
        self._free_at = max(self._free_at, now) + size / self._rate
        return self._free_at - now


class Receiver(asyncio.BufferedProtocol):
    """Calls `on_end` once: with the data and nothing if all arrived, else with what it said or felt.

    `install`: takes the image, returns the error text of the real thing, or nothing.
    """

    def __init__(
        self,
        invitation: Invitation,
        faults: FaultSet,
        pace: Pace,
        chance: random.Random,
        *,
        air: Bandwidth | None,
        install: Callable[[bytes], str],
        on_power_loss: Callable[[float], None],
        on_end: Callable[[bool], None],
    ) -> None:
        self._size = invitation.size
        self._md5 = invitation.md5
        self._faults = faults
        self._pace = pace
        self._chance = chance
        self._air = air
        self._install = install
        self._on_power_loss = on_power_loss
        self._on_end = on_end
        self._data = bytearray(invitation.size)
        self._got = 0
        self._last_ack = b""
        self._silences = 0
        self._owed = 0.0
        self._silent = False
        self._ended = False
        self._buffer = bytearray(SEGMENT_BYTES)
        self._timer: asyncio.TimerHandle | None = None
        self._heard_at = 0.0
        self._loop = asyncio.get_running_loop()
        self._marks = self._plan()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("Transport", transport)
        connection: socket.socket = transport.get_extra_info("socket")
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._heard_at = self._loop.time()
        self._timer = self._loop.call_later(self._pace.wait, self._on_silence)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - asyncio's signature
        size = self._chance.randint(1, SEGMENT_BYTES) if self._pace.split else SEGMENT_BYTES
        return memoryview(self._buffer)[: min(size, max(1, self._size - self._got))]

    def buffer_updated(self, nbytes: int) -> None:
        if self._ended or self._silent:
            return
        self._heard_at = self._loop.time()
        self._silences = 0
        self._data[self._got : self._got + nbytes] = self._buffer[:nbytes]
        before, self._got = self._got, self._got + nbytes
        if before < _SECTOR_BYTES <= self._got and self._data[0] != MAGIC:
            self._refuse("Wrong Magic Byte")
            return
        while self._marks and self._got >= self._marks[0][0]:
            if not self._act(self._marks.pop(0)[1]):
                return
        self._last_ack = str(nbytes).encode()
        if self._got < self._size:
            self._say(self._last_ack)
            self._slow_down(nbytes)
        else:
            self._finish()

    def eof_received(self) -> bool:
        self._stop(installed=False)
        return False

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self._stop(installed=False)

    def drop(self) -> None:
        """The device has lost its power: nothing more is said."""
        self._stop(installed=False)
        self._transport.abort()

    def _plan(self) -> list[tuple[int, str]]:
        """What happens after how many bytes."""
        names = ("drop", "stall", "bit-flip", "flash-error", "power-loss")
        found = [fault for name in names if (fault := self._faults.find(name))]
        return sorted(
            (max(1, min(self._size - 1, int(self._size * fault.number("at") / 100))), fault.name)
            for fault in found
        )

    def _act(self, name: str) -> bool:
        """Lets a fault happen. False if this connection is over."""
        fault = self._faults.use(name)
        if fault is None:
            return True  # taken away while the image was coming
        match name:
            case "bit-flip":
                self._data[self._got - 1] ^= 1 << self._chance.randrange(8)
            case "flash-error":
                self._refuse("Flash Write Failed")
                return False
            case "stall":
                self._pause(fault.number("seconds"))
            case "power-loss":
                self._fall_silent()
                self._stop(installed=False)
                self._on_power_loss(fault.number("seconds"))
                return False
            case _:
                self._hang_up(fault.text("how"))
                return False
        return True

    def _hang_up(self, how: str) -> None:
        match how:
            case "silence":
                self._fall_silent()
                # It is free again when it notices.
                self._loop.call_later(self._pace.wait * _TRIES, self._stop, False)
            case "reset":
                self.drop()
            case _:
                self._stop(installed=False)
                # What still comes is read and forgotten: unread data would make a reset of the close.
                self._transport.write_eof()

    def _fall_silent(self) -> None:
        """Nothing reaches the other side any more, not even that the connection is over."""
        self._silent = True
        self._transport.pause_reading()
        self._stop_timer()
        self._loop.call_later(_SILENCE_SECONDS, self._transport.abort)

    def _finish(self) -> None:
        data = bytes(self._data)
        if hashlib.md5(data, usedforsecurity=False).hexdigest() != self._md5:
            self._refuse("MD5 Check Failed")
            return
        if text := self._install(data):
            self._refuse(text)
            return
        if self._faults.use("ok-lost"):
            self._say(self._last_ack, last=True)
        elif self._faults.use("ok-cut"):
            self._say(self._last_ack + b"O", last=True)
        elif self._chance.random() < 0.5:
            self._say(self._last_ack + b"OK", last=True)
        else:
            self._say(self._last_ack)
            self._say(b"OK", last=True)
        self._stop(installed=True)

    def _refuse(self, text: str) -> None:
        glue = self._last_ack if self._chance.random() < 0.5 else b""
        self._say(glue + text.encode() + b"\r\n", last=True)
        self._stop(installed=False)

    def _say(self, words: bytes, *, last: bool = False) -> None:
        """At the other side after a round trip."""
        if self._pace.rtt:
            self._loop.call_later(self._pace.rtt, self._write, words, last)
        else:
            self._write(words, last)

    def _write(self, words: bytes, last: bool) -> None:
        if not self._transport.is_closing():
            self._transport.write(words)
        if last:
            self._transport.close()

    def _slow_down(self, size: int) -> None:
        rate = self._pace.rate
        if self._pace.rtt:
            # No more than a window can be under way.
            most = WINDOW_BYTES / self._pace.rtt
            rate = min(rate or most, most)
        if slow := self._faults.find("slow"):
            rate = slow.number("rate")
        wait = size / rate if rate else 0.0
        if self._air:
            wait = max(wait, self._air.reserve(size, self._loop.time()))
        self._owed += wait
        if self._owed > _SHORTEST_PAUSE:
            owed, self._owed = self._owed, 0.0
            self._pause(owed)

    def _pause(self, seconds: float) -> None:
        self._transport.pause_reading()
        self._heard_at = self._loop.time() + seconds
        self._loop.call_later(seconds, self._go_on)

    def _go_on(self) -> None:
        if not self._ended and not self._silent:
            self._transport.resume_reading()

    def _on_silence(self) -> None:
        """Without data: says its last count again; the fourth time, or before any data, it gives up."""
        left = self._heard_at + self._pace.wait - self._loop.time()
        if left > 0.001:
            self._timer = self._loop.call_later(left, self._on_silence)
            return
        self._silences += 1
        if self._got == 0 or self._silences >= _TRIES:
            self._stop(installed=False)
            self._transport.close()
            return
        self._say(self._last_ack)
        self._heard_at = self._loop.time()
        self._timer = self._loop.call_later(self._pace.wait, self._on_silence)

    def _stop(self, installed: bool) -> None:
        if not self._ended:
            self._ended = True
            self._stop_timer()
            self._data = bytearray()
            self._on_end(installed)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
