"""Conditions as kstatus, Flux, Helm and `kubectl wait` read them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from podium.api.v1alpha1.reasons import ConditionType, Reason
from podium.core.durations import format_time

_LONGEST_MESSAGE = 256
Truth = Literal["True", "False", "Unknown"]


@dataclass(frozen=True)
class Word:
    """One condition as decided: no times in it."""

    type: ConditionType
    status: Truth
    reason: Reason
    message: str = ""


def ready(reason: Reason, message: str = "") -> tuple[Word, ...]:
    """Accepted and in order."""
    return (Word("Ready", "True", reason, message),)


def reconciling(reason: Reason, message: str = "") -> tuple[Word, ...]:
    """Being worked on, or waiting for something to come back."""
    return (Word("Ready", "False", reason, message), Word("Reconciling", "True", reason, message))


def stalled(reason: Reason, message: str = "") -> tuple[Word, ...]:
    """It cannot work; only the user can mend it."""
    return (Word("Ready", "False", reason, message), Word("Stalled", "True", reason, message))


def write_conditions(
    words: Sequence[Word], previous: Sequence[dict[str, Any]], *, generation: int, now: datetime
) -> list[dict[str, Any]]:
    """Words → conditions. The transition time moves only when the status of a type does."""
    before = {condition.get("type"): condition for condition in previous}
    written = []
    for word in words:
        old = before.get(word.type, {})
        unmoved = old.get("status") == word.status and old.get("lastTransitionTime")
        written.append(
            {
                "type": word.type,
                "status": word.status,
                "reason": word.reason,
                "message": shorten(word.message),
                "observedGeneration": generation,
                "lastTransitionTime": old["lastTransitionTime"] if unmoved else format_time(now),
            }
        )
    return written


def shorten(text: str, longest: int = _LONGEST_MESSAGE) -> str:
    """At most so many characters, and twice as many bytes of JSON, with an ellipsis where it was cut."""
    cut = text if len(text) <= longest else text[: longest - 1] + "…"
    while len(cut) > 1 and json_bytes(cut) > 2 * longest + 2:
        cut = cut[:-2] + "…"
    return cut


def json_bytes(value: object) -> int:
    """How large a value is in JSON as it is stored."""
    return len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass"))
