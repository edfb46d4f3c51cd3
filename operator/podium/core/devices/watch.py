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
# Healthy: status, reason, message.
Judgement = tuple[Truth, Reason, str]

# So many looks in a row, before another word than the last one is believed.
_LOOKS = 3
_STRANGERS = 2
_SILENCES = 2
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
    silences: int = 0
    missed: int = 0
    """Looks in a row without a good answer of the device itself: those three in any order."""
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
    # A clock that was set back must not keep it online until that time comes again.
    seen = min(watch.seen, now) if watch.seen is not None else None
    watch = replace(watch, looked=watch.looked + 1, begun=min(watch.begun, now), seen=seen)
    if isinstance(answer, DeviceAnswer):
        if expected.mac is not None and answer.mac is not None and answer.mac != expected.mac:
            return _note_stranger(watch, answer, expected, now)
        return _note_answer(watch, answer, expected, now)
    if answer.kind in ("HttpError", "Unreadable"):
        return _note_useless(watch, answer, expected, now)
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
    known: Judgement = (old.healthy, old.healthy_reason, old.healthy_message)
    changed = _gist(healthy) != _gist(known)
    differing = watch.differing + 1 if changed else 0
    # Until there is a word, or after a silence, the first one counts.
    if not changed or (old.healthy != "Unknown" and differing < _LOOKS):
        healthy = known
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
    return replace(
        watch,
        seen=now,
        strangers=0,
        useless=0,
        silences=0,
        missed=0,
        differing=differing,
        verdict=verdict,
    )


def _gist(healthy: Judgement) -> tuple[str, ...]:
    """What makes another word of it: not the heap, which moves with each look."""
    return healthy[:2] if healthy[1] == "LowHeap" else healthy


def _judge(answer: DeviceAnswer, expected: Expected) -> Judgement:
    if answer.chip is not None and normal_chip(answer.chip) != normal_chip(expected.chip):
        return "False", "WrongChip", f"it is an {answer.chip}, its model says {expected.chip}"
    heap, least = answer.free_heap, expected.min_free_heap
    if least is not None and heap is not None and heap < least:
        return "False", "LowHeap", f"free heap {heap / 1024:.0f} KiB, want {least / 1024:.0f} KiB"
    if answer.failed_checks:
        return "False", "ChecksFailed", f"its own checks fail: {', '.join(answer.failed_checks[:5])}"
    return "True", "Healthy", ""


def _note_stranger(watch: Watch, answer: DeviceAnswer, expected: Expected, now: datetime) -> Watch:
    watch = _miss(watch, strangers=watch.strangers + 1)
    words = f"at its address answers {answer.mac}, not {expected.mac}: is spec.address right?"
    if watch.strangers < _STRANGERS:
        return _note_medley(watch, words, expected, now)
    return replace(watch, differing=0, verdict=_absent(watch, "Offline", "AnotherDevice", words))


def _note_useless(watch: Watch, answer: NoAnswer, expected: Expected, now: datetime) -> Watch:
    watch = _miss(watch, useless=watch.useless + 1)
    if watch.useless < _LOOKS:
        return _note_medley(watch, answer.message, expected, now)
    reason: Reason = "HealthRefused" if answer.kind == "HttpError" else "AnswerUnreadable"
    old = watch.verdict
    words = old.online_message if old.online_reason == reason else answer.message
    return replace(watch, differing=0, verdict=_absent(watch, "Unknown", reason, words))


def _note_silence(watch: Watch, answer: NoAnswer, expected: Expected, now: datetime) -> Watch:
    watch = _miss(watch, silences=watch.silences + 1)
    # Time alone says nothing: nobody asked while the operator was away, or asked others.
    if watch.silences < _SILENCES or not _is_long_ago(watch, expected, now):
        return _note_medley(watch, answer.message, expected, now)
    old = watch.verdict
    words = old.online_message if old.online_reason == "NoAnswer" else answer.message
    return replace(watch, differing=0, verdict=_absent(watch, "Offline", "NoAnswer", words))


def _miss(watch: Watch, *, strangers: int = 0, useless: int = 0, silences: int = 0) -> Watch:
    return replace(watch, missed=watch.missed + 1, strangers=strangers, useless=useless, silences=silences)


def _note_medley(watch: Watch, words: str, expected: Expected, now: datetime) -> Watch:
    """Nothing often enough in a row to be believed; by turns they are an absence too."""
    undecided = watch.verdict.online == "True" or watch.verdict.online_reason == "NotAsked"
    if not undecided or watch.missed < _LOOKS or not _is_long_ago(watch, expected, now):
        return watch
    return replace(watch, differing=0, verdict=_absent(watch, "Offline", "NoAnswer", words))


def _is_long_ago(watch: Watch, expected: Expected, now: datetime) -> bool:
    """Whether it did not answer for as long as makes it offline."""
    return now - (watch.seen or watch.begun) >= expected.offline_after


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
