"""The words of the protocol: what is sent, what answers mean, and how a password is proved. Pure.

There are three ways to prove a password, because the protocol changed in version 3.3.1 of the ESP32's
Arduino core: the device's challenge (nonce) tells the old one from the new one, but not which hash of the
password it keeps.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Literal

from podium_workers.services.ota.verdicts import AuthScheme, FailureReason

ITERATIONS = 10_000
_KEPT_TEXT = 200

_SAID: dict[str, FailureReason] = {
    "MD5 Check Failed": "ChecksumMismatch",
    "Wrong Magic Byte": "WrongMagic",
    "Could Not Activate The Firmware": "ActivationRefused",
    "Signature Verification Failed": "SignatureRefused",
    "Not Enough Space": "NotEnoughSpace",
    "Flash Write Failed": "FlashFailed",
    "Flash Erase Failed": "FlashFailed",
    "Flash Read Failed": "FlashFailed",
    "Partition Could Not be Found": "NoPartition",
    "Bad Size Given": "BadRequest",
    "Bad Argument": "BadRequest",
    "Decryption error": "DecryptionFailed",
    "Stream Read Timeout": "DeviceTimedOut",
    "Receive Failed": "DeviceTimedOut",
    "Aborted": "AbortedByDevice",
}


def build_invitation(listen_port: int, size: int, md5: str) -> bytes:
    """Asks a device to fetch its program (command 0) from that port of the sender."""
    return f"0 {listen_port} {size} {md5}\n".encode("ascii")


def build_proof(response: str, cnonce: str) -> bytes:
    """The answer to a challenge, command 200."""
    return f"200 {cnonce} {response}\n".encode("ascii")


@dataclass(frozen=True)
class Accepted:
    """The device will connect."""


@dataclass(frozen=True)
class Challenged:
    """The device wants proof of the password.

    The nonce has 32 or 64 hexadecimal digits, or is of no known kind.
    """

    nonce: str


@dataclass(frozen=True)
class Rejected:
    """The proof was wrong."""


@dataclass(frozen=True)
class Odd:
    """Something else."""

    text: str


Answer = Accepted | Challenged | Rejected | Odd


def parse_answer(packet: bytes) -> Answer:
    """What a device answers to an invitation or a proof."""
    text = packet.decode("ascii", errors="replace").strip("\0\r\n ")
    if text == "OK":
        return Accepted()
    if text == "Authentication Failed":
        return Rejected()
    if text.startswith("AUTH"):
        return Challenged(text.removeprefix("AUTH").strip())
    return Odd(text[:_KEPT_TEXT])


def schemes_for(nonce: str, known: AuthScheme | None = None) -> tuple[AuthScheme, ...]:
    """Ways that fit the challenge, the likeliest first; `known`: what worked the last time. Empty.

    None fits.
    """
    if set(nonce) <= set("0123456789abcdefABCDEF"):
        if len(nonce) == 32:
            return ("Md5",)
        if len(nonce) == 64:
            later: AuthScheme = "Pbkdf2Sha256OfMd5"
            return (later, "Pbkdf2Sha256") if known == later else ("Pbkdf2Sha256", later)
    return ()


def compute_response(scheme: AuthScheme, password: str, nonce: str, cnonce: str) -> str:
    """The proof of a password, hexadecimal. With PBKDF2 it takes milliseconds: not in an event loop."""
    if scheme == "Md5":
        return _md5(f"{_md5(password)}:{nonce}:{cnonce}")
    kept = _md5(password) if scheme == "Pbkdf2Sha256OfMd5" else _sha256(password)
    salt = f"{nonce}:{cnonce}".encode()
    key = hashlib.pbkdf2_hmac("sha256", kept.encode(), salt, ITERATIONS).hex()
    return _sha256(f"{key}:{nonce}:{cnonce}")


def _md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass
class Stream:
    """What a device says over the connection while it takes an image, piece by piece.

    First come counts of bytes, without anything between them, so they only show that it is alive; then
    `OK` or an error text. Pieces may be split and glued at any place: `1024392OK`.
    """

    text: str = ""
    """What came behind the counts."""
    _begun: bool = field(default=False, repr=False)

    def feed(self, piece: bytes) -> Literal["alive", "accepted", "error", "unfinished"]:
        """`unfinished`: words have begun, and their end has not come."""
        words = piece.decode("ascii", errors="replace")
        if not self._begun:
            words = words.lstrip("0123456789\r\n ")
            if not words:
                return "alive"
            self._begun = True
        self.text = (self.text + words)[:_KEPT_TEXT]
        return self.state

    @property
    def state(self) -> Literal["alive", "accepted", "error", "unfinished"]:
        """As far as is known. A text counts as an error when its line has ended."""
        if not self.text:
            return "alive"
        if self.text.startswith("OK"):
            return "accepted"
        return "error" if "\n" in self.text else "unfinished"

    @property
    def is_error(self) -> bool:
        """Whether the text can only be an error, even if its line has not ended."""
        return bool(self.text) and not "OK".startswith(self.text[:2])


def classify_error(text: str) -> FailureReason:
    """The reason for an error text of a device: of the ESP32's core, or of the ESP8266's (`ERROR[4]: …`)."""
    lowered = text.lower()
    for words, reason in _SAID.items():
        if words.lower() in lowered:
            return reason
    return "DeviceError"
