"""One simulated device: power, restarts, its place on the network, and what its firmware does."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Literal

from podium_workers.simulator.board import Board
from podium_workers.simulator.faults import FaultSet
from podium_workers.simulator.invitations import Invitations, Proof, State
from podium_workers.simulator.receiver import WINDOW_BYTES, Bandwidth, Pace, Receiver
from podium_workers.simulator.spec import DeviceSpec

Power = Literal["off", "starting", "on", "hung"]
CONNECT_SECONDS = 3.0
_PACKETS_KEPT = 6
_CRASH_SECONDS = 1.0
_RESTART_SECONDS = 0.11
_CONFIRM_SECONDS = 3.0


@dataclass
class World:
    """What all devices have in common. `speed`: so many simulated seconds pass in one.

    It is applied to what a firmware does (starting, leaking, hanging), not to the protocol's own time-outs.
    """

    ota_port: int = 3232
    speed: float = 1.0
    protocol_wait: float = 1.0
    """Seconds that a device waits for data, four times; the real thing: 1."""
    provers: Executor | None = None
    bandwidths: dict[str, Bandwidth] = field(default_factory=dict)

    def now(self) -> float:
        """Simulated seconds."""
        return asyncio.get_running_loop().time() * self.speed

    def later(self, seconds: float, call: Callable[[], None]) -> asyncio.TimerHandle:
        """Calls in so many simulated seconds."""
        return asyncio.get_running_loop().call_later(seconds / self.speed, call)


class Device(asyncio.DatagramProtocol):
    """Is there from `start` to `stop`. What a test wants to know for certain is in `board`."""

    def __init__(self, spec: DeviceSpec, world: World) -> None:
        self.spec = spec
        self.faults = FaultSet(spec.faults)
        self.board = Board(spec, self.faults)
        self.power: Power = "off"
        self.power_since = 0.0
        """By the loop's clock."""
        self.updates = 0
        """Images that it has taken."""
        self.password = spec.password
        self._world = world
        self._chance = random.Random(spec.seed + 1)
        self._packets: list[tuple[bytes, tuple[str, int]]] = []
        self._handling = False
        self._receiver: Receiver | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._timers: list[asyncio.TimerHandle] = []
        self._transport: asyncio.DatagramTransport | None = None
        self._invitations = self._fresh_invitations()
        self.idle = asyncio.Event()
        """Set while no image comes in: the loop that answers over HTTP is free."""
        self.idle.set()

    async def start(self) -> None:
        """Opens its port and switches it on, unless it is offline. Raises OSError."""
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(
            lambda: self, local_addr=(self.spec.address, self._world.ota_port)
        )
        self.board.boot("power_on", self._world.now() - self._chance.uniform(3600, 30 * 86400))
        self._set_power("on")
        self.apply_power_faults()

    def stop(self) -> None:
        """Ends it."""
        self.switch_off()
        if self._transport is not None:
            self._transport.close()

    def apply_power_faults(self) -> None:
        """To be called when faults were given to a running device."""
        if self.faults.has("offline"):
            self.switch_off()
        elif self.power == "off":
            self.switch_on()
        if self.faults.has("flapping"):
            self._flap()

    def switch_off(self) -> None:
        """No power: whatever it did is over."""
        self._set_power("off")
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
        self._packets.clear()
        if self._connecting is not None:
            self._connecting.cancel()
            self._connecting = None
        if self._receiver is not None:
            receiver, self._receiver = self._receiver, None
            receiver.drop()
        self._invitations = self._fresh_invitations()
        self.idle.set()

    def switch_on(self) -> None:
        """Power again."""
        if self.power == "off":
            self.restart("power_on")

    def restart(self, reason: str) -> None:
        """Begins anew, for a reason of ESP-IDF's list."""
        self.switch_off()
        self._set_power("starting")
        self._later(self.spec.boot_seconds, lambda: self._boot(reason))

    def restart_soon(self) -> None:
        """As its firmware does on request: first the answer gets out."""
        self._later(_RESTART_SECONDS, lambda: self.restart("software"))

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if self.power != "on" or self.faults.use("invitation-lost"):
            return
        if len(self._packets) < _PACKETS_KEPT:
            self._packets.append((data, addr))
            self._handle_soon()

    def _boot(self, reason: str) -> None:
        board = self.board
        board.boot(reason, self._world.now())
        if board.running is None:
            return  # nothing to start; only a cable helps
        if board.firmware is not board.factory and self.faults.use("power-loss-on-first-boot"):
            self.restart("power_on")
            return
        if board.firmware_fault("boot-loop"):
            self._later(_CRASH_SECONDS, lambda: self.restart("panic"))
            return
        self._set_power("on")
        if self.spec.confirm == "self":
            self._later(_CONFIRM_SECONDS, board.confirm)
        if fault := board.firmware_fault("hang"):
            self._later(fault.number("after"), self._hang)
        if self.faults.has("flapping"):
            self._flap()

    def _set_power(self, power: Power) -> None:
        if power != self.power:
            self.power, self.power_since = power, asyncio.get_running_loop().time()

    def _hang(self) -> None:
        self._set_power("hung")

    def _flap(self) -> None:
        fault = self.faults.find("flapping")
        if fault is None:
            return
        up, down = fault.number("up"), fault.number("down")

        def away() -> None:
            if self.faults.has("flapping"):
                self.switch_off()
                self._later(down, lambda: self._boot("power_on"))

        self._later(up, away)

    def _later(self, seconds: float, call: Callable[[], None]) -> None:
        self._timers = [timer for timer in self._timers if timer.when() > asyncio.get_running_loop().time()]
        self._timers.append(self._world.later(seconds, call))

    def _fresh_invitations(self) -> Invitations:
        return Invitations(self.spec.auth, self.password, self._chance)

    def _handle_soon(self) -> None:
        """Packets wait for the next turn of the sketch's loop."""
        if self._handling:
            return
        self._handling = True
        busy = self.faults.find("busy-loop")
        delay = busy.number("seconds") if busy else 0.0
        asyncio.get_running_loop().call_later(delay, self._handle)

    def _handle(self) -> None:
        """One turn of `ArduinoOTA.handle()`: an update that was agreed on, then one packet."""
        self._handling = False
        if self.power != "on" or self._connecting is not None:
            return
        if self._invitations.state is State.RUN_UPDATE:
            self._connecting = asyncio.create_task(self._run_update())
            return
        if not self._packets:
            return
        packet, sender = self._packets.pop(0)
        self._adjust_invitations()
        answer = self._invitations.on_packet(packet, sender[0])
        if isinstance(answer, Proof):
            self._connecting = asyncio.create_task(self._check(answer, sender))
        else:
            self._answer(answer, sender)
            self._after_turn()

    def _after_turn(self) -> None:
        if self._packets or self._invitations.state is State.RUN_UPDATE:
            self._handle_soon()

    def _adjust_invitations(self) -> None:
        changed = self.faults.has("password-changed")
        self._invitations.password = f"{self.password}, changed" if changed else self.password
        odd = self.faults.find("odd-nonce")
        self._invitations.nonce_length = int(odd.number("length")) if odd else None

    def _answer(self, answer: bytes | None, sender: tuple[str, int]) -> None:
        if answer is None or self.faults.use("answer-lost"):
            return
        if self.faults.use("odd-answer"):
            answer = b"HTTP/1.1 400 Bad Request"
        if self._transport is not None and not self._transport.is_closing():
            self._transport.sendto(answer, sender)

    async def _check(self, proof: Proof, sender: tuple[str, int]) -> None:
        """The sketch's loop stands still while it computes."""
        loop = asyncio.get_running_loop()
        if self.spec.auth == "md5":
            expected = self._invitations.expected(proof)
        else:
            expected = await loop.run_in_executor(self._world.provers, self._invitations.expected, proof)
        self._answer(self._invitations.judge(expected == proof.response), sender)
        self._connecting = None
        self._after_turn()

    async def _run_update(self) -> None:
        try:
            await self._connect_back()
        except OSError:
            self._update_over(installed=False)

    async def _connect_back(self) -> None:
        invitation = self._invitations.invitation
        assert invitation is not None
        loop = asyncio.get_running_loop()
        if not self.board.begin(invitation.size) or self.faults.has("no-connection"):
            self._update_over(installed=False)
            return
        if late := self.faults.use("late-connection"):
            await asyncio.sleep(late.number("seconds"))
        self.idle.clear()
        connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, WINDOW_BYTES // 2)
            elsewhere = self.faults.use("connection-from-elsewhere")
            connection.bind(("127.0.0.99" if elsewhere else self.spec.address, 0))
            connection.setblocking(False)
            async with asyncio.timeout(CONNECT_SECONDS):
                await loop.sock_connect(connection, (invitation.host, invitation.port))
            _, receiver = await loop.create_connection(
                lambda: Receiver(
                    invitation,
                    self.faults,
                    Pace(self._world.protocol_wait, self.spec.rate, self.spec.split_reads, self.spec.rtt),
                    self._chance,
                    air=self._world.bandwidths.get(self.spec.access_point),
                    install=self.board.install,
                    on_power_loss=self._lose_power,
                    on_end=self._update_over,
                ),
                sock=connection,
            )
        except BaseException:
            connection.close()
            raise
        self._receiver = receiver

    def _update_over(self, installed: bool) -> None:
        self._receiver = None
        self._connecting = None
        self._invitations.state = State.IDLE
        self.idle.set()
        if installed:
            self.updates += 1
            if self.faults.use("lost-after-update"):
                asyncio.get_running_loop().call_soon(self.switch_off)
            elif not self.faults.use("no-restart"):
                self.restart_soon()
        elif self.power == "on":
            self._after_turn()

    def _lose_power(self, seconds: float) -> None:
        self.switch_off()
        self._later(seconds, self.switch_on)
