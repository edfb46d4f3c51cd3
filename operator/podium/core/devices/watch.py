"""What is made of a device's answers over time: one lost answer is no outage, one bad value no illness."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal

from podium.api.v1alpha1.device_model import Health
from podium.api.v1alpha1.reasons import Reason
from podium.core.conditions import Truth
from podium.core.durations import parse_duration
from podium.ports import DeviceAnswer, NoAnswer

Connectivity = Literal["Online", "Offline", "Unknown"]

# So many looks in a row, before another word than the last one is believed.
_LOOKS = 3
_STRANGERS = 2
LONGEST_TIMEOUT = timedelta(seconds=30)
"""As the rule of DeviceModel says."""
_SIZES = {"Ki": 1024, "Mi": 1024**2, "k": 1000, "M": 1000**2}


@dataclass(frozen=True)
class Expected:
    """What a device shall be like; sizes in bytes."""

    mac: str | None
    chip: str
    offline_after: timedelta
    min_free_heap: int | None


@dataclass(frozen=True)
class Verdict:
    """What its status says of a device. Two that are equal need no write."""

    connectivity: Connectivity = "Unknown"
    online: Truth = "Unknown"
    online_reason: Reason = "NotAsked"
    online_message: str = ""
    healthy: Truth = "Unknown"
    healthy_reason: Reason = "NotSeen"
    healthy_message: str = ""
    build: str = ""
    partition: str | None = None
    ota_state: str | None = None


@dataclass(frozen=True)
class Watch:
    """What is remembered of one device between two looks."""

    begun: datetime
    seen: datetime | None = None
    """When the device itself answered last."""
    looked: int = 0
    strangers: int = 0
    useless: int = 0
    """Answers in a row that cannot be used."""
    differing: int = 0
    """Looks in a row whose word on its health is another one than the verdict's."""
    verdict: Verdict = Verdict()


def expect(mac: str | None, chip: str, health: Health) -> Expected:
    """What a Device and its DeviceModel say → what is expected."""
    heap = parse_size(health.min_free_heap) if health.min_free_heap else None
    return Expected(mac, chip, parse_duration(health.offline_after), heap)


def patience(health: Health) -> timedelta:
    """How long an answer may take; never without an end, also for objects older than the rule for it."""
    # No time at all was no limit at all to what asks: what is nearest to it is the longest that may be.
    return min(parse_duration(health.timeout) or LONGEST_TIMEOUT, LONGEST_TIMEOUT)


def note(watch: Watch, answer: DeviceAnswer | NoAnswer, expected: Expected, now: datetime) -> Watch:
    """One more look at a device."""
    watch = replace(watch, looked=watch.looked + 1)
    if isinstance(answer, DeviceAnswer):
        if expected.mac is not None and answer.mac is not None and answer.mac != expected.mac:
            return _note_stranger(watch, answer, expected)
        return _note_answer(watch, answer, expected, now)
    if answer.kind in ("HttpError", "Unreadable"):
        return _note_useless(watch, answer)
    return _note_silence(watch, answer, expected, now)


def parse_size(text: str) -> int:
    """`50Ki` → 51200 bytes."""
    for unit, factor in _SIZES.items():
        if text.endswith(unit):
            return int(text[: -len(unit)]) * factor
    return int(text)


def normal_chip(name: str) -> str:
    """ESP32-S3, esp32s3 → ESP32S3: as names of chips are compared."""
    return name.upper().replace("-", "")


def _note_answer(watch: Watch, answer: DeviceAnswer, expected: Expected, now: datetime) -> Watch:
    old = watch.verdict
    healthy = _judge(answer, expected)
    changed = healthy[:2] != (old.healthy, old.healthy_reason)
    differing = watch.differing + 1 if changed else 0
    # Until there is a word, or after a silence, the first one counts.
    if changed and old.healthy != "Unknown" and differing < _LOOKS:
        healthy = (old.healthy, old.healthy_reason, old.healthy_message)
    elif not changed:
        # The numbers move with each look; the words stay those that it was decided by.
        healthy = (old.healthy, old.healthy_reason, old.healthy_message)
    else:
        differing = 0
    verdict = Verdict(
        "Online",
        "True",
        "Answering",
        "",
        *healthy,
        build=answer.build,
        partition=answer.partition,
        ota_state=answer.ota_state,
    )
    return replace(watch, seen=now, strangers=0, useless=0, differing=differing, verdict=verdict)


def _judge(answer: DeviceAnswer, expected: Expected) -> tuple[Truth, Reason, str]:
    if answer.chip is not None and normal_chip(answer.chip) != normal_chip(expected.chip):
        return "False", "WrongChip", f"it is an {answer.chip}, its model says {expected.chip}"
    heap, least = answer.free_heap, expected.min_free_heap
    if least is not None and heap is not None and heap < least:
        return "False", "LowHeap", f"free heap {heap / 1024:.0f} KiB, want {least / 1024:.0f} KiB"
    if answer.failed_checks:
        return "False", "ChecksFailed", f"its own checks fail: {', '.join(answer.failed_checks[:5])}"
    return "True", "Healthy", ""


def _note_stranger(watch: Watch, answer: DeviceAnswer, expected: Expected) -> Watch:
    watch = replace(watch, strangers=watch.strangers + 1, useless=0)
    if watch.strangers < _STRANGERS:
        return watch
    words = f"at its address answers {answer.mac}, not {expected.mac}: is spec.address right?"
    return replace(watch, differing=0, verdict=_absent(watch, "Offline", "AnotherDevice", words))


def _note_useless(watch: Watch, answer: NoAnswer) -> Watch:
    watch = replace(watch, useless=watch.useless + 1, strangers=0)
    if watch.useless < _LOOKS:
        return watch
    reason: Reason = "HealthRefused" if answer.kind == "HttpError" else "AnswerUnreadable"
    old = watch.verdict
    words = old.online_message if old.online_reason == reason else answer.message
    return replace(watch, differing=0, verdict=_absent(watch, "Unknown", reason, words))


def _note_silence(watch: Watch, answer: NoAnswer, expected: Expected, now: datetime) -> Watch:
    watch = replace(watch, strangers=0, useless=0)
    if now - (watch.seen or watch.begun) < expected.offline_after:
        return watch
    old = watch.verdict
    words = old.online_message if old.online_reason == "NoAnswer" else answer.message
    return replace(watch, differing=0, verdict=_absent(watch, "Offline", "NoAnswer", words))


def _absent(watch: Watch, connectivity: Connectivity, reason: Reason, words: str) -> Verdict:
    """What it ran when it was seen last stays; how it is, nobody knows."""
    return replace(
        watch.verdict,
        connectivity=connectivity,
        online="Unknown" if connectivity == "Unknown" else "False",
        online_reason=reason,
        online_message=words,
        healthy="Unknown",
        healthy_reason="NotSeen",
        healthy_message="",
    )
