"""The UDP side of ArduinoOTA on a device: invitation, challenge, consent.

A state machine, without sockets.
"""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass
from enum import Enum, auto

from podium_workers.services.ota.verdicts import AuthScheme
from podium_workers.services.ota.words import compute_response
from podium_workers.simulator.spec import Auth

_SCHEMES: dict[Auth, AuthScheme] = {
    "md5": "Md5",
    "pbkdf2": "Pbkdf2Sha256",
    "pbkdf2-md5": "Pbkdf2Sha256OfMd5",
}
_FLASH, _AUTH = 0, 200


class State(Enum):
    """As in the real thing."""

    IDLE = auto()
    WAIT_AUTH = auto()
    RUN_UPDATE = auto()


@dataclass(frozen=True)
class Invitation:
    """What a host offers."""

    host: str
    port: int
    size: int
    md5: str


@dataclass(frozen=True)
class Proof:
    """A host's proof, to be compared with `verify`."""

    cnonce: str
    response: str


class Invitations:
    """`on_packet` says what to answer; None is silence, and silence is what the real thing mostly does."""

    def __init__(
        self, auth: Auth, password: str, chance: random.Random, nonce_length: int | None = None
    ) -> None:
        self.auth = auth
        self.password = password
        self.state = State.IDLE
        self.invitation: Invitation | None = None
        self._chance = chance
        self._nonce = ""
        self.nonce_length = nonce_length

    def on_packet(self, packet: bytes, host: str) -> bytes | Proof | None:
        """An answer, or a proof whose checking takes a while."""
        words = packet.decode("ascii", errors="replace").split()
        if not words or not words[0].isdigit():
            return None
        command = int(words[0])
        if self.state is State.WAIT_AUTH:
            # Whatever is not a proof ends the waiting, and gets no answer: a repeated invitation too.
            self.state = State.IDLE
            length = len(self._nonce)
            if command != _AUTH or len(words) != 3 or {len(words[1]), len(words[2])} != {length}:
                return None
            return Proof(words[1], words[2])
        if self.state is not State.IDLE or command != _FLASH or len(words) != 4 or len(words[3]) != 32:
            return None
        if not (words[1].isdigit() and words[2].isdigit()):
            return None
        self.invitation = Invitation(host, int(words[1]), int(words[2]), words[3])
        if self.auth == "none":
            self.state = State.RUN_UPDATE
            return b"OK"
        digest = hashlib.sha256(self._chance.randbytes(16)).hexdigest()
        length = self.nonce_length or (32 if self.auth == "md5" else 64)
        self._nonce = (digest * 4)[:length]
        self.state = State.WAIT_AUTH
        return f"AUTH {self._nonce}".encode()

    def expected(self, proof: Proof) -> str:
        """What the proof must be. Takes milliseconds with PBKDF2; safe in a thread."""
        return compute_response(_SCHEMES[self.auth], self.password, self._nonce, proof.cnonce)

    def judge(self, right: bool) -> bytes:
        """The answer to a proof."""
        self.state = State.RUN_UPDATE if right else State.IDLE
        return b"OK" if right else b"Authentication Failed"
