"""One connection from a device: the image goes out, words come in."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from podium_workers.services.ota.verdicts import AuthScheme, Failed, Succeeded, Unknown, Verdict
from podium_workers.services.ota.words import Stream, classify_error

if TYPE_CHECKING:
    from asyncio import Transport

CHUNK_BYTES = 4096
_CHUNKS_IN_A_ROW = 8
"""Then others have their turn: a quick device must not hold up the rest."""
_SEND_BUFFER = 16 * 1024
"""More than a board can have on its way, and little enough that progress is true and a stop is quick."""


class Link(asyncio.Protocol):
    """Resolves `ended` with a verdict. `seconds` of a success are filled in by the transfer.

    The last chunk goes out only when the system has taken everything before it. So a connection that breaks
    earlier means with certainty that the device does not have the image.
    """

    def __init__(self, admit: Callable[[Link], bool]) -> None:
        self._admit = admit
        self._image = memoryview(b"")
        self._stream = Stream()
        self._paused = False
        self._on_chunk: Callable[[int], None] = lambda _: None
        self.peer = ""
        self.sent = 0
        self.all_sent = False
        self.auth: AuthScheme = "None"
        self.heard_at = 0.0
        """When the device last showed itself, by the loop's clock."""
        self.ended: asyncio.Future[Verdict] = asyncio.get_running_loop().create_future()

    def begin(self, image: bytes, on_chunk: Callable[[int], None]) -> None:
        """Sends. To be called from within `admit`: a device goes away if it gets nothing for a second."""
        self._image, self._on_chunk = memoryview(image), on_chunk
        self.heard_at = asyncio.get_running_loop().time()
        self._pump()

    def cancel(self) -> bool:
        """Stops at the next chunk. False if the whole image is out: stopping would decide nothing."""
        if self.all_sent:
            return False
        self.end(Failed("Cancelled", f"stopped after {self.sent} of {len(self._image)} bytes", self.sent))
        return True

    def end(self, verdict: Verdict) -> None:
        """Settles the verdict, if it is not, and drops the connection."""
        if not self.ended.done():
            self.ended.set_result(verdict)
        if isinstance(verdict, Succeeded):
            self._transport.close()
        else:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("Transport", transport)
        self.peer = str(transport.get_extra_info("peername")[0])
        self._transport.set_write_buffer_limits(high=0)
        connection: socket.socket = transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
        if not self._admit(self):
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self.heard_at = asyncio.get_running_loop().time()
        state = self._stream.feed(data)
        if state == "accepted":
            if self.all_sent:
                self.end(Succeeded(0.0, self.sent, self.auth))
            else:
                self.end(
                    Unknown(
                        "EarlyAnswer", f"the device said OK after {self.sent} bytes, too early", self.sent
                    )
                )
        elif state == "error":
            self.end(self._refusal())

    def eof_received(self) -> bool:
        # Nobody is there to take the rest, or to say more.
        self._lost(None)
        self._transport.abort()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is not None and not self.ended.done():
            self._hear_last_words()
        self._lost(exc)

    def _lost(self, exc: Exception | None) -> None:
        """Settles the verdict, if it is not, by what is known when the connection ends."""
        if self.ended.done():
            return
        share = f"{self.sent} of {len(self._image)} bytes"
        verdict: Verdict
        if self._stream.is_error:
            verdict = self._refusal()
        elif not self.all_sent and exc is None:
            verdict = Failed("ConnectionClosed", f"the device closed the connection after {share}", self.sent)
        elif not self.all_sent:
            words = f"the connection broke after {share}: did the device restart, or lose its Wi-Fi?"
            verdict = Failed("ConnectionReset", words, self.sent)
        else:
            verdict = Unknown(
                "FinalAnswerCutOff" if self._stream.text else "NoFinalAnswer",
                "the device has got the whole image, and the connection ended before its last word",
                self.sent,
            )
        self.ended.set_result(verdict)

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._pump()

    def _pump(self) -> None:
        for _ in range(_CHUNKS_IN_A_ROW):
            if self._paused or self.all_sent or self._transport.is_closing():
                return
            chunk = self._image[self.sent : self.sent + CHUNK_BYTES]
            self.sent += len(chunk)
            self.all_sent = self.sent == len(self._image)
            self._transport.write(chunk)
            self._on_chunk(self.sent)
        asyncio.get_running_loop().call_soon(self._pump)

    def _hear_last_words(self) -> None:
        """What the device said before it closed is still there, when it was writing that failed."""
        with contextlib.suppress(OSError):
            while data := os.read(self._transport.get_extra_info("socket").fileno(), 4096):
                self.data_received(data)

    def _refusal(self) -> Failed:
        text = self._stream.text.strip()
        return Failed(classify_error(text), f'the device said: "{text}"', self.sent)
