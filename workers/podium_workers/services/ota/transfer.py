"""One image to one device: invite, prove the password, wait for the connection back, send, hear the end."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from podium_workers.services.ota.handshake import (
    CANCELLED,
    Channel,
    Handshake,
    Payload,
    Prover,
    Target,
    Timing,
    Token,
)
from podium_workers.services.ota.link import Link
from podium_workers.services.ota.verdicts import AuthScheme, Failed, Succeeded, Unknown, Verdict
from podium_workers.services.ota.words import Answer, build_invitation

Stage = Literal["Inviting", "Authenticating", "Connecting", "Sending", "Finishing"]


@dataclass(frozen=True)
class Progress:
    """How far it is, in bytes."""

    stage: Stage
    sent: int
    total: int


class Transfer:
    """Used once: `run` returns the verdict. The gateway hands it the device's connection with `admit`."""

    def __init__(
        self,
        payload: Payload,
        target: Target,
        address: str,
        *,
        bind_host: str | None,
        listen_port: int,
        timing: Timing,
        prove: Prover,
        on_progress: Callable[[Progress], None],
    ) -> None:
        self._payload = payload
        self._target = target
        self._address = address
        self._local = (bind_host, 0) if bind_host else None
        self._listen_port = listen_port
        self._timing = timing
        self._prove = prove
        self._on_progress = on_progress
        self._inbox: asyncio.Queue[Answer | Token] = asyncio.Queue()
        self._link: Link | None = None
        self._cancelled = False
        self.awaits_connection = False
        self.strangers: dict[str, bool] = {}
        """Unexpected addresses that connected while this one waited; True: nothing else waited then."""

    async def run(self) -> Verdict:
        """Carries it out. A cancelled task drops the connection."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            transport, channel = await loop.create_datagram_endpoint(
                lambda: Channel(self._inbox),
                local_addr=self._local,
                remote_addr=(self._address, self._target.port),
            )
        except OSError as error:
            return Failed("Unreachable", f"{self._address} cannot be reached: {error}")
        try:
            handshake = Handshake(
                self._target,
                self._address,
                build_invitation(self._listen_port, len(self._payload.image), self._payload.md5),
                inbox=self._inbox,
                timing=self._timing,
                prove=self._prove,
                on_stage=lambda stage: self._tell(stage, 0),
            )
            agreed = await handshake.run(transport, channel)
            if isinstance(agreed, Failed):
                return agreed
            verdict = await self._follow(agreed)
            if isinstance(verdict, Succeeded):
                return replace(verdict, seconds=loop.time() - began, auth=agreed)
            return replace(verdict, auth=agreed)
        finally:
            transport.close()
            if self._link is not None:
                self._link.end(Failed("Cancelled", "the worker stopped", self._link.sent))

    def admit(self, link: Link) -> bool:
        """Takes the device's connection. False if there is one already, or none is wanted any more."""
        if self._link is not None or self._cancelled:
            return False
        self._link = link
        link.begin(self._payload.image, self._on_chunk)
        self._inbox.put_nowait(Token.CONNECTED)
        return True

    def cancel(self) -> None:
        """Stops at the next chunk; without effect when all of the image is out."""
        if self._link is None or self._link.cancel():
            self._cancelled = True
            self._inbox.put_nowait(Token.CANCELLED)

    async def _follow(self, scheme: AuthScheme) -> Verdict:
        """From the device's consent to its last word."""
        loop = asyncio.get_running_loop()
        if self._link is None:
            self._tell("Connecting", 0)
            self.awaits_connection = True
            until = loop.time() + self._timing.connect
            while self._link is None:
                if self._cancelled:
                    return CANCELLED
                if (left := until - loop.time()) <= 0:
                    return self._no_connection()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(left):
                        await self._inbox.get()
            self.awaits_connection = False
        link = self._link
        link.auth = scheme
        while not link.ended.done():
            patience = self._timing.finish if link.all_sent else self._timing.stall
            left = link.heard_at + patience - loop.time()
            if left <= 0:
                link.end(self._silent(link))
            await asyncio.wait([link.ended], timeout=max(0.0, left))
        return link.ended.result()

    def _silent(self, link: Link) -> Verdict:
        if link.all_sent:
            words = f"the device has got the whole image, and said nothing for {self._timing.finish:g} s"
            return Unknown("NoFinalAnswer", words, link.sent)
        words = (
            f"the device fell silent after {link.sent} of {len(self._payload.image)} bytes, for "
            f"{self._timing.stall:g} s: did it lose its power or its Wi-Fi?"
        )
        return Failed("Stalled", words, link.sent)

    def _no_connection(self) -> Failed:
        back = f"TCP port {self._listen_port} of this worker"
        certain = [address for address, alone in self.strangers.items() if alone]
        if certain:
            return Failed(
                "ConnectionFromElsewhere",
                f"{self._address} accepted, and then {', '.join(certain)} connected, which nobody "
                "expected: does "
                "the device send by another address, or through a NAT?",
            )
        others = f" (others tried: {', '.join(self.strangers)})" if self.strangers else ""
        return Failed(
            "NoConnection",
            f"the device accepted, and did not connect to {back} within {self._timing.connect:g} "
            f"s{others}: the "
            "image may be too large for its slot, or a firewall or NAT lies between",
        )

    def _on_chunk(self, sent: int) -> None:
        self._tell("Finishing" if sent == len(self._payload.image) else "Sending", sent)

    def _tell(self, stage: Stage, sent: int) -> None:
        self._on_progress(Progress(stage, sent, len(self._payload.image)))
