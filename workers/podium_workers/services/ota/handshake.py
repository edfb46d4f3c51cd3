"""The talk over UDP before a transfer: invitation, challenge, proof, until the device consents."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Literal, Protocol

from podium_workers.services.ota.verdicts import AuthScheme, Failed
from podium_workers.services.ota.words import (
    Accepted,
    Answer,
    Challenged,
    Odd,
    Rejected,
    build_proof,
    parse_answer,
    schemes_for,
)

_PATIENT, _MOST_PATIENT = 3, 10
"""So many times longer is waited for an answer where an invitation that was repeated too soon did harm."""
CANCELLED = Failed("Cancelled", "stopped before anything was sent")


@dataclass(frozen=True)
class Target:
    """A device. `host`: a name or an IPv4 address."""

    host: str
    port: int = 3232
    password: str | None = field(default=None, repr=False)
    known_scheme: AuthScheme | None = None
    """What it let us in with the last time: tried first."""


@dataclass(frozen=True)
class Timing:
    """Seconds. The defaults fit what devices do: they give up a connection after 3, a pause after 4."""

    invite_every: float = 1.0
    invitations: int = 10
    proof: float = 10.0
    """For the answer to a proof: a board takes long over PBKDF2."""
    rounds: int = 5
    """How often the whole of invitation and proof is tried."""
    connect: float = 10.0
    stall: float = 10.0
    """Without any sign of life."""
    finish: float = 30.0
    """From the last byte to the device's last word: it checks the whole image first."""


@dataclass(frozen=True)
class Payload:
    """An image and its MD5 sum, 32 hexadecimal digits."""

    image: bytes = field(repr=False)
    md5: str


class Prover(Protocol):
    """Computes the proof of a password, off the event loop where it takes long."""

    def __call__(self, scheme: AuthScheme, password: str, nonce: str, cnonce: str) -> Awaitable[str]: ...


class Token(Enum):
    CONNECTED = auto()
    CANCELLED = auto()


class Channel(asyncio.DatagramProtocol):
    """The UDP side."""

    def __init__(self, inbox: asyncio.Queue[Answer | Token]) -> None:
        self._inbox = inbox
        self.nothing_listens = False
        self.problem: OSError | None = None

    def datagram_received(self, data: bytes, addr: object) -> None:  # noqa: ARG002 - asyncio's signature
        self.nothing_listens = False
        self._inbox.put_nowait(parse_answer(data))

    def error_received(self, exc: Exception) -> None:
        if isinstance(exc, ConnectionRefusedError):
            self.nothing_listens = True
        elif isinstance(exc, OSError):
            self.problem = exc


class Handshake:
    """Used once. What comes in, from the channel and from whoever sees the device connect, is in `inbox`."""

    def __init__(
        self,
        target: Target,
        address: str,
        invitation: bytes,
        *,
        inbox: asyncio.Queue[Answer | Token],
        timing: Timing,
        prove: Prover,
        on_stage: Callable[[Literal["Inviting", "Authenticating"]], None],
    ) -> None:
        self._target = target
        self._address = address
        self._invitation = invitation
        self._inbox = inbox
        self._timing = timing
        self._prove = prove
        self._on_stage = on_stage
        self._refused: list[AuthScheme] = []
        self._doubtful: list[AuthScheme] = []
        self._scheme: AuthScheme = "None"
        self._wait = timing.invite_every

    async def run(self, transport: asyncio.DatagramTransport, channel: Channel) -> AuthScheme | Failed:
        """Until the device has said that it will connect, or has connected: by what it was persuaded."""
        for _ in range(self._timing.rounds):
            answer, invitations = await self._invite(transport)
            match answer:
                case Accepted() | Token.CONNECTED:
                    return self._scheme
                case Token.CANCELLED:
                    return CANCELLED
                case None:
                    return self._no_answer(channel)
                case Odd(text):
                    words = f'the device answered the invitation with "{text}": is ArduinoOTA on that port?'
                    return Failed("UnexpectedAnswer", words)
                case Rejected():
                    continue  # late, to a proof of an earlier round
                case Challenged(nonce):
                    agreed = await self._meet_challenge(transport, nonce, once=invitations == 1)
                    if agreed is not None:
                        return agreed
        if self._refused or self._doubtful:
            return _password_wrong(self._refused or self._doubtful)
        return self._no_answer(channel)

    async def _meet_challenge(
        self, transport: asyncio.DatagramTransport, nonce: str, *, once: bool
    ) -> AuthScheme | Failed | None:
        """One proof. None: to be tried again. `once`: it took one invitation, so that an answer is to it."""
        choice = self._choose(nonce)
        if isinstance(choice, Failed):
            return choice
        self._scheme = choice
        answer = await self._answer_challenge(transport, choice, nonce)
        match answer:
            case Accepted() | Token.CONNECTED:
                return choice
            case Token.CANCELLED:
                return CANCELLED
            case Rejected() if once or choice in self._doubtful:
                self._refused.append(choice)
                return _password_wrong(self._refused) if not self._left(nonce) else None
            case _:
                # Of two invitations the device may have taken the second for a wrong proof, silently, or have
                # made a new nonce for the third: what it says then does not judge the password.
                self._wait = min(self._wait * _PATIENT, self._timing.invite_every * _MOST_PATIENT)
                if isinstance(answer, Rejected):
                    self._doubtful.append(choice)
                return None

    async def _invite(self, transport: asyncio.DatagramTransport) -> tuple[Answer | Token | None, int]:
        """The first answer, and how many invitations it took."""
        self._on_stage("Inviting")
        while not self._inbox.empty():
            if isinstance(early := self._inbox.get_nowait(), Token):
                return early, 1
        for number in range(1, self._timing.invitations + 1):
            transport.sendto(self._invitation)
            if (answer := await self._hear(self._wait)) is not None:
                return answer, number
        return None, self._timing.invitations

    def _left(self, nonce: str) -> list[AuthScheme]:
        fitting = schemes_for(nonce, self._target.known_scheme)
        return [scheme for scheme in fitting if scheme not in self._refused]

    def _choose(self, nonce: str) -> AuthScheme | Failed:
        if self._target.password is None:
            return Failed(
                "PasswordMissing", "the device wants a password, and none was given: name its Secret"
            )
        if not schemes_for(nonce):
            return Failed(
                "UnknownAuthentication",
                f"the device's challenge has {len(nonce)} characters, known are 32 and 64 hexadecimal "
                "digits: it speaks a newer protocol",
            )
        left = self._left(nonce)
        return left[0] if left else _password_wrong(self._refused)

    async def _answer_challenge(
        self, transport: asyncio.DatagramTransport, scheme: AuthScheme, nonce: str
    ) -> Answer | Token | None:
        self._on_stage("Authenticating")
        assert self._target.password is not None
        cnonce = os.urandom(len(nonce) // 2).hex()
        response = await self._prove(scheme, self._target.password, nonce, cnonce)
        transport.sendto(build_proof(response, cnonce))
        return await self._hear(self._timing.proof)

    async def _hear(self, seconds: float) -> Answer | Token | None:
        try:
            async with asyncio.timeout(seconds):
                return await self._inbox.get()
        except TimeoutError:
            return None

    def _no_answer(self, channel: Channel) -> Failed:
        place = f"{self._address}:{self._target.port}"
        if self._scheme != "None":
            return Failed("NoAnswer", f"{place} asks for the password, and does not answer the proof of it")
        if channel.nothing_listens:
            return Failed(
                "NothingListens",
                f"at {place} (UDP) nothing listens: is OTA in its firmware, and on this port? ESP8266 "
                "uses 8266",
            )
        if channel.problem is not None:
            return Failed("Unreachable", f"{place} cannot be reached: {channel.problem}")
        return Failed(
            "NoAnswer",
            f"{place} (UDP) does not answer {self._timing.invitations} invitations: is it on, is its address "
            "right, does a firewall or a NAT lie between?",
        )


def _password_wrong(refused: list[AuthScheme]) -> Failed:
    ways = " and ".join(refused)
    return Failed(
        "PasswordWrong", f"the device refuses the password ({ways}): was it changed? Compare the Secret"
    )
