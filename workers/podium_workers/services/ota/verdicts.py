"""What came of a transfer: one of three verdicts, with a reason from a list that does not change."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

AuthScheme = Literal["None", "Md5", "Pbkdf2Sha256", "Pbkdf2Sha256OfMd5"]
"""How a device lets itself be updated. The last: it keeps the MD5 hash of its password."""

FailureReason = Literal[
    # before anything was sent
    "NotAnImage",
    "ImageBroken",
    "ImageTooLarge",
    "WrongChip",
    "OlderSecureVersion",
    "WrongDevice",
    "Unconfirmed",
    "AddressBusy",
    "AddressUnknown",
    "Cancelled",
    # the invitation
    "Unreachable",
    "NothingListens",
    "NoAnswer",
    "UnexpectedAnswer",
    "PasswordMissing",
    "PasswordWrong",
    "UnknownAuthentication",
    # the connection back
    "NoConnection",
    "ConnectionFromElsewhere",
    # while the image was sent
    "ConnectionClosed",
    "ConnectionReset",
    "Stalled",
    # what the device said
    "ChecksumMismatch",
    "WrongMagic",
    "ActivationRefused",
    "SignatureRefused",
    "NotEnoughSpace",
    "FlashFailed",
    "NoPartition",
    "BadRequest",
    "DecryptionFailed",
    "DeviceTimedOut",
    "AbortedByDevice",
    "DeviceError",
]
UnknownReason = Literal["NoFinalAnswer", "FinalAnswerCutOff", "EarlyAnswer"]

RETRYABLE: frozenset[FailureReason] = frozenset(
    {
        "Unconfirmed",
        "AddressBusy",
        "AddressUnknown",
        "Unreachable",
        "NothingListens",
        "NoAnswer",
        "NoConnection",
        "ConnectionFromElsewhere",
        "ConnectionClosed",
        "ConnectionReset",
        "Stalled",
        "ChecksumMismatch",
        "DeviceTimedOut",
        "AbortedByDevice",
    }
)
"""Another try may end better, without anybody's help.

An unknown end is for the health check, not for a retry.
"""


@dataclass(frozen=True)
class Succeeded:
    """The device said that it has the whole image, and that it restarts. It may still start its old one."""

    seconds: float
    """From the first invitation to its word."""
    sent: int
    auth: AuthScheme


@dataclass(frozen=True)
class Failed:
    """It is certain that the device did not take the image.

    It said so, or part of the image never left us.
    """

    reason: FailureReason
    message: str
    """What is the matter and what to do, for people."""
    sent: int = 0
    auth: AuthScheme | None = None

    @property
    def retryable(self) -> bool:
        """Whether another try may end better."""
        return self.reason in RETRYABLE


@dataclass(frozen=True)
class Unknown:
    """All of the image has left us, and no answer came: the device may run it, or not."""

    reason: UnknownReason
    message: str
    sent: int = 0
    auth: AuthScheme | None = None


Verdict = Succeeded | Failed | Unknown
