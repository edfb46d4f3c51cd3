"""The place that devices connect to: one port for all transfers, which are told apart by address."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import ipaddress
import logging
import os
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from podium_workers.services.ota.handshake import Payload, Target, Timing
from podium_workers.services.ota.link import Link
from podium_workers.services.ota.transfer import Progress, Transfer
from podium_workers.services.ota.verdicts import AuthScheme, Failed, Verdict
from podium_workers.services.ota.words import compute_response

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class GatewaySettings:
    """Where devices connect to. They use the address that the invitation comes from.

    So in a cluster it needs the host's network, or a port that keeps addresses in both directions.
    """

    host: str = "0.0.0.0"
    """An IPv4 address of this machine, or 0.0.0.0."""
    port: int = 3233
    """0: a free one."""
    advertised_port: int | None = None
    """What devices are told, where a NodePort stands before it."""
    most_transfers: int = 50
    """At once; more wait for their turn."""
    timing: Timing = field(default_factory=Timing)


class Gateway:
    """An asynchronous context manager. Raises OSError on entry if the port cannot be had."""

    def __init__(self, settings: GatewaySettings) -> None:
        self._settings = settings
        self._slots = asyncio.Semaphore(settings.most_transfers)
        self._claimed: set[str] = set()
        self._invited: set[str] = set()
        self._transfers: dict[str, Transfer] = {}
        self._server: asyncio.Server | None = None
        self._provers: ThreadPoolExecutor | None = None
        self.port = settings.port

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: Link(self._admit), self._settings.host, self._settings.port, backlog=1024
        )
        self.port = self._server.sockets[0].getsockname()[1]
        # As many as there are processors: PBKDF2 on more threads only delays the transfers.
        self._provers = ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="ota-password")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        assert self._provers is not None
        self._server.close()
        for transfer in self._transfers.values():
            transfer.cancel()
        self._provers.shutdown(wait=False, cancel_futures=True)

    async def send(
        self,
        image: bytes,
        target: Target,
        *,
        on_progress: Callable[[Progress], None] = lambda _: None,
        cancel: asyncio.Event | None = None,
    ) -> Verdict:
        """Sends `image`, when its turn comes. Never raises for what a device or the network does.

        `on_progress` is called in the event loop, up to once for each 4 KiB. `cancel`: when set, nothing
        more is sent from the next chunk on; without effect once the whole image is out.
        """
        if not image:
            return Failed("NotAnImage", "there is nothing to send: it is empty")
        try:
            address = await _resolve(target.host)
        except OSError as error:
            return Failed("AddressUnknown", f"{target.host} has no address: {error.strerror or error}")
        if address in self._claimed:
            return Failed(
                "AddressBusy", f"{address} is being updated already: do two Devices have the same address?"
            )
        self._claimed.add(address)
        working = asyncio.create_task(self._take_turn(image, target, address, on_progress))
        stopping = asyncio.create_task(cancel.wait()) if cancel else None
        try:
            if stopping:
                await asyncio.wait([working, stopping], return_when=asyncio.FIRST_COMPLETED)
                if transfer := self._transfers.get(address):
                    transfer.cancel()
                elif not working.done():
                    return Failed("Cancelled", "stopped before its turn came")
            return await working
        finally:
            self._claimed.discard(address)
            for task in (working, stopping):
                if task is not None:
                    task.cancel()

    async def _take_turn(
        self, image: bytes, target: Target, address: str, on_progress: Callable[[Progress], None]
    ) -> Verdict:
        async with self._slots:
            return await self._transfer(image, target, address, on_progress)

    async def _transfer(
        self,
        image: bytes,
        target: Target,
        address: str,
        on_progress: Callable[[Progress], None],
    ) -> Verdict:
        host = self._settings.host
        transfer = Transfer(
            Payload(image, _md5(image)),
            target,
            address,
            bind_host=None if host == "0.0.0.0" else host,
            listen_port=self._settings.advertised_port or self.port,
            timing=self._settings.timing,
            prove=self._prove,
            on_progress=on_progress,
        )
        self._transfers[address] = transfer
        self._invited.add(address)
        try:
            verdict = await transfer.run()
        finally:
            del self._transfers[address]
        log.debug("%s: %s", address, verdict)
        return verdict

    async def _prove(self, scheme: AuthScheme, password: str, nonce: str, cnonce: str) -> str:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._provers, compute_response, scheme, password, nonce, cnonce)

    def _admit(self, link: Link) -> bool:
        if transfer := self._transfers.get(link.peer):
            return transfer.admit(link)
        if link.peer in self._invited:
            return False  # late: its transfer is over
        waiting = [transfer for transfer in self._transfers.values() if transfer.awaits_connection]
        for transfer in waiting:
            transfer.strangers[link.peer] = len(waiting) == 1
        log.info("%s connected, and no transfer waits for it", link.peer)
        return False


async def _resolve(host: str) -> str:
    with contextlib.suppress(ValueError):
        return str(ipaddress.IPv4Address(host))
    found = await asyncio.get_running_loop().getaddrinfo(host, None, family=socket.AF_INET)
    return str(found[0][4][0])


@functools.lru_cache(maxsize=4)
def _md5(image: bytes) -> str:
    return hashlib.md5(image, usedforsecurity=False).hexdigest()
