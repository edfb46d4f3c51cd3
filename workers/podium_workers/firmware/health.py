"""Whether a device runs what it was sent, and runs it well: decided from what it said since. Pure.

A transfer's result is no proof. Proof is that the device has restarted, says that it was built of the
commit, has heap enough, and does so several times in a row. Besides healthy and unhealthy there is
undecided: a device that says nothing may be broken, or only out of reach.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from podium_workers.services.build_signature import is_dirty, names_commit
from podium_workers.services.device_api import Answer, Health, NoHealth

UnhealthyReason = Literal[
    "NotTaken",
    "NotRestarted",
    "StuckOldVersion",
    "RolledBack",
    "WrongBuild",
    "DirtyBuild",
    "LowHeap",
    "FragmentedHeap",
    "ChecksFailed",
    "BootLoop",
    "Hangs",
]
UndecidedReason = Literal[
    "NeverCameBack",
    "NoHealthApi",
    "HealthTooSlow",
    "HealthError",
    "HealthUnreadable",
    "HeapNotReported",
    "OtherDevice",
    "WentSilent",
    "Unsteady",
    "Unconfirmed",
]
CRASHES = frozenset({"panic", "int_wdt", "task_wdt", "wdt", "brownout"})
"""Reset reasons (as in ESP-IDF) of a firmware that did not end by itself."""
_CLOCK_SECONDS = 5.0
_BOOTS_OF_A_LOOP = 2


@dataclass(frozen=True)
class Expectation:
    """What is wanted of a device, and what it was before. Sizes in bytes, times in seconds of one clock."""

    commit: str
    sent_at: float
    """When the transfer ended."""
    before: Health | None = None
    """What it said before the transfer. None: nothing."""
    before_at: float = 0.0
    mac: str | None = None
    """As `Health` has it."""
    taken: bool = True
    """Whether the device said that it has the image; False: nobody knows."""
    min_free_heap: int = 50 * 1024
    min_largest_block: int | None = None
    consecutive: int = 3
    restart_within: float = 30.0
    within: float = 180.0
    """From the end of the transfer to a decision."""


@dataclass(frozen=True)
class Probe:
    """One look at the device."""

    at: float
    answer: Answer


@dataclass(frozen=True)
class Wait:
    """Look again."""

    message: str


@dataclass(frozen=True)
class Confirm:
    """It is well, and waits for somebody to say so.

    Without that, its next restart goes back to the old firmware.
    """


@dataclass(frozen=True)
class Healthy:
    """It runs what it was sent."""

    message: str


@dataclass(frozen=True)
class Unhealthy:
    """It does not run what it was sent, or runs it badly."""

    reason: UnhealthyReason
    message: str


@dataclass(frozen=True)
class Undecided:
    """The time is over, and it cannot be said."""

    reason: UndecidedReason
    message: str


Decision = Wait | Confirm | Healthy | Unhealthy | Undecided


def decide_health(
    probes: Sequence[Probe], wanted: Expectation, now: float, *, confirmed: bool = False
) -> Decision:
    """What the probes since the transfer mean. `confirmed`: `Confirm` was carried out.

    The same fault in `consecutive` probes in a row decides; a single one does not, and neither does silence,
    which is what a restart looks like.
    """
    verdicts = [_judge(probe, wanted, probes) for probe in probes]
    loop = _find_boot_loop(probes, wanted)
    if loop:
        return loop
    last = verdicts[-wanted.consecutive :]
    if len(last) == wanted.consecutive and len({_key(verdict) for verdict in last}) == 1:
        decision = _in_a_row(last[-1], wanted, now, confirmed=confirmed)
        if decision is not None:
            return decision
    if now - wanted.sent_at < wanted.within:
        return Wait(
            verdicts[-1].message if verdicts and not _is_good(verdicts[-1]) else "not long enough yet"
        )
    return _out_of_time(verdicts, probes, wanted)


@dataclass(frozen=True)
class _Good:
    confirmed: bool
    boot_count: int | None
    message: str


@dataclass(frozen=True)
class _Bad:
    reason: UnhealthyReason
    message: str


@dataclass(frozen=True)
class _Unclear:
    reason: UndecidedReason
    message: str


_Verdict = _Good | _Bad | _Unclear


def _key(verdict: _Verdict) -> object:
    """What must stay the same in a row. A device that restarted in between has not stayed the same."""
    if isinstance(verdict, _Good):
        return ("good", verdict.boot_count)
    return verdict.reason


def _is_good(verdict: _Verdict) -> bool:
    return isinstance(verdict, _Good)


def _judge(probe: Probe, wanted: Expectation, probes: Sequence[Probe]) -> _Verdict:
    """One probe by itself; of the others only whether the new build was seen before."""
    answer = probe.answer
    if isinstance(answer, NoHealth):
        return _Unclear(_silence(answer), answer.message)
    if wanted.mac and answer.mac and answer.mac != wanted.mac:
        words = f"the device at this address is {answer.mac}, not {wanted.mac}: was its address given away?"
        return _Unclear("OtherDevice", words)
    restarted = has_restarted(answer, probe.at, wanted)
    runs_before = wanted.before is not None and answer.build == wanted.before.build
    contains = names_commit(answer.build, wanted.commit)
    if not contains or (runs_before and not restarted):
        return _wrong_build(answer, probe, wanted, probes, restarted=restarted, runs_before=runs_before)
    if answer.free_heap is None:
        return _Unclear(
            "HeapNotReported", "the device does not say how much heap is free: map health.fields.freeHeap"
        )
    if answer.free_heap <= wanted.min_free_heap:
        return _Bad(
            "LowHeap", f"free heap {_kib(answer.free_heap)}, want more than {_kib(wanted.min_free_heap)}"
        )
    block, least = answer.largest_block, wanted.min_largest_block
    if least is not None and block is not None and block <= least:
        return _Bad("FragmentedHeap", f"largest free block {_kib(block)}, want more than {_kib(least)}")
    if answer.failed_checks:
        return _Bad("ChecksFailed", f"its own checks fail: {', '.join(answer.failed_checks)}")
    return _Good(
        not answer.pending, answer.boot_count, f"runs {answer.build}, free heap {_kib(answer.free_heap)}"
    )


def _wrong_build(
    answer: Health,
    probe: Probe,
    wanted: Expectation,
    probes: Sequence[Probe],
    *,
    restarted: bool,
    runs_before: bool,
) -> _Verdict:
    if not runs_before:
        if is_dirty(answer.build):
            return _Bad("DirtyBuild", f"it runs {answer.build}, built of files that no commit has")
        return _Bad("WrongBuild", f"it runs {answer.build}, which does not contain {wanted.commit}")
    seen_new = any(
        earlier.at < probe.at
        and isinstance(earlier.answer, Health)
        and names_commit(earlier.answer.build, wanted.commit)
        for earlier in probes
    )
    if not restarted:
        if not wanted.taken:
            return _Bad(
                "NotTaken", f"it did not take the image: it runs {answer.build} on, without a restart"
            )
        return _Bad("NotRestarted", f"it took the image, has not restarted, and still runs {answer.build}")
    boots = _boots_since(answer, wanted)
    if seen_new or answer.reset_reason in CRASHES or (boots is not None and boots > 1):
        ended = f" (last reset: {answer.reset_reason})" if answer.reset_reason else ""
        words = f"its bootloader went back to {answer.build}: the new firmware did not start properly{ended}"
        return _Bad("RolledBack", words)
    if not wanted.taken:
        return _Bad("NotTaken", f"it did not take the image: it restarted and runs {answer.build} again")
    return _Bad(
        "StuckOldVersion",
        f"it restarted once and runs {answer.build} again: it never started the new firmware",
    )


def has_restarted(answer: Health, at: float, wanted: Expectation) -> bool:
    """Whether it was switched on or reset since it was asked before the transfer.

    By its count of starts; by its uptime only if it does not count, because an uptime in milliseconds begins
    again after 49.7 days. Without anything to compare with: no.
    """
    before = wanted.before
    if before is None:
        return answer.uptime is not None and answer.uptime < at - wanted.sent_at + _CLOCK_SECONDS
    if answer.boot_count is not None and before.boot_count is not None:
        return answer.boot_count != before.boot_count
    if answer.uptime is None or before.uptime is None:
        return False
    return answer.uptime < before.uptime + (at - wanted.before_at) - _CLOCK_SECONDS


def _in_a_row(verdict: _Verdict, wanted: Expectation, now: float, *, confirmed: bool) -> Decision | None:
    match verdict:
        case _Good():
            if verdict.confirmed:
                return Healthy(verdict.message)
            # Where it cannot be told, it confirms itself in time, or never.
            return None if confirmed or now - wanted.sent_at >= wanted.within else Confirm()
        case _Bad(reason, message):
            waits = reason in ("NotRestarted", "NotTaken")
            if waits and now - wanted.sent_at < wanted.restart_within:
                return None
            return Unhealthy(reason, message)
        case _Unclear("OtherDevice" as reason, message):
            return Undecided(reason, message)
        case _:
            return None


def _find_boot_loop(probes: Sequence[Probe], wanted: Expectation) -> Unhealthy | None:
    counts = [
        probe.answer.boot_count
        for probe in probes
        if isinstance(probe.answer, Health)
        and probe.answer.boot_count is not None
        and names_commit(probe.answer.build, wanted.commit)
        and has_restarted(probe.answer, probe.at, wanted)
        # A device that is switched off and on is not the firmware's fault.
        and (probe.answer.reset_reason is None or probe.answer.reset_reason in CRASHES)
    ]
    starts = len(set(counts)) - 1
    if starts >= _BOOTS_OF_A_LOOP:
        return Unhealthy("BootLoop", f"the new firmware started {starts + 1} times within the check")
    return None


def _out_of_time(verdicts: Sequence[_Verdict], probes: Sequence[Probe], wanted: Expectation) -> Decision:
    if not verdicts:
        return Undecided("NeverCameBack", "nobody asked it in time")
    last = verdicts[-1]
    answered = [verdict for verdict in verdicts if not _is_silence(verdict)]
    if not answered:
        assert isinstance(last, _Unclear)
        if wanted.before is None and last.reason == "NeverCameBack":
            return Undecided("NoHealthApi", f"it did not answer before the update either: {last.message}")
        return Undecided(last.reason, last.message)
    if _is_silence(last):
        return _fell_silent(verdicts, probes, wanted)
    if isinstance(last, _Good) and not last.confirmed:
        return Undecided(
            "Unconfirmed",
            "it runs well, and nobody confirmed that: its next restart goes back to the old firmware",
        )
    if isinstance(last, _Unclear):
        return Undecided(last.reason, last.message)
    seconds = f"{wanted.within:g} s"
    return Undecided(
        "Unsteady", f"not {wanted.consecutive} like answers in a row within {seconds}: {last.message}"
    )


def _fell_silent(verdicts: Sequence[_Verdict], probes: Sequence[Probe], wanted: Expectation) -> Decision:
    row = [probe.answer for probe in probes[-wanted.consecutive :]]
    slow = [answer for answer in row if isinstance(answer, NoHealth) and answer.kind == "TooSlow"]
    ran = [isinstance(p.answer, Health) and names_commit(p.answer.build, wanted.commit) for p in probes]
    if any(ran) and len(slow) == wanted.consecutive:
        return Unhealthy("Hangs", "it ran the new firmware, accepts connections, and answers no more")
    silent = [_is_silence(verdict) for verdict in verdicts]
    # The restart itself is no reproach: silence before the new firmware was first seen does not count.
    since = silent[ran.index(True) :] if any(ran) else silent
    breaks = sum(now and not before for before, now in itertools.pairwise(since))
    if breaks > 1:
        return Undecided("Unsteady", f"it comes and goes: {verdicts[-1].message}")
    return Undecided("WentSilent", f"it answered after the update, and then no more: {verdicts[-1].message}")


def _is_silence(verdict: _Verdict) -> bool:
    return isinstance(verdict, _Unclear) and verdict.reason in (
        "NeverCameBack",
        "HealthTooSlow",
        "HealthError",
        "HealthUnreadable",
    )


def _silence(answer: NoHealth) -> UndecidedReason:
    match answer.kind:
        case "Nobody":
            return "NeverCameBack"
        case "TooSlow":
            return "HealthTooSlow"
        case "HttpError":
            return "HealthError"
        case "Unreadable":
            return "HealthUnreadable"


def _boots_since(answer: Health, wanted: Expectation) -> int | None:
    if wanted.before is None or answer.boot_count is None or wanted.before.boot_count is None:
        return None
    return answer.boot_count - wanted.before.boot_count


def _kib(size: int) -> str:
    return f"{size / 1024:.1f} KiB"
