"""The law: how many pods a pool shall have. Pure; the same inputs always give the same answer.

Up at once, down calmly, never below the pods that work, and not at all on what is not known:

- Wanted are `ceil((busy + queued) / concurrency / utilization)` pods, within the limits.
- More than there are: at once.
- Fewer: only to what was needed at most within the stabilization window, and a fifth more, so that
  noise never turns it round.
- The last pods go only when nothing waits, runs or is about to, for the whole cooldown.
- Unknown is not zero: as long as anything is, the pool does not shrink. It may still grow by what is
  known, and to the fallback when that lasts too long.
"""

import math
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal

# So much more than the highest need of the window stays: below it, noise of ±20 % would be an order.
_MARGIN = 1.2
# Rounding of floats must not make a pod: 8.000000001 slots are 8.
_DUST = 1e-9
ASK_AGAIN = timedelta(seconds=5)
"""When pods that did not say what they do are looked at once more."""

Why = Literal[
    "Backlog",
    "Fallback",
    "Idle",
    "LessToDo",
    "Manual",
    "MaxReplicas",
    "MinReplicas",
    "NeededSoon",
    "Suspended",
]
"""Why the number of pods changes."""


@dataclass(frozen=True)
class Limits:
    """What the pool's spec says, in numbers. `concurrency`: tasks at once in a pod."""

    concurrency: int
    least: int
    most: int
    idle: int
    utilization: float
    """Of the slots, 0 < u ≤ 1."""
    window: timedelta
    cooldown: timedelta
    fallback_after: timedelta | None = None
    fallback: int = 0


@dataclass(frozen=True)
class Need:
    """What there is to do, at one moment."""

    queued: int | None
    """Tasks that could be taken now, capped by their own limits; None: not known."""
    busy: int
    """Tasks that the pods are known to work on; those of pods that are leaving do not count."""
    busy_pods: int
    """Pods that are known to work on any."""
    unseen_pods: int = 0
    """Pods that run and do not say what they do."""
    soon: str = ""
    """What will need the pool soon, in words; "": nothing."""

    @property
    def known(self) -> bool:
        """Whether nothing is missing."""
        return self.queued is not None and self.unseen_pods == 0

    @property
    def slots(self) -> int:
        """Slots that are needed, as far as is known."""
        return self.busy + (self.queued or 0)

    @property
    def active(self) -> bool:
        """Whether there is anything to do, or soon will be."""
        return bool(self.slots or self.soon)


@dataclass(frozen=True)
class Memory:
    """What a pool has to remember; none of it has to outlive the process."""

    since: datetime
    """It knows from then on, without a gap."""
    begun: datetime
    peaks: tuple[tuple[datetime, int], ...] = ()
    """(until when it counts, slots), falling: the first is the most that was needed in the window."""
    active_at: datetime | None = None
    """When there was something to do last."""
    known_at: datetime | None = None
    """When everything was known last."""
    last: Need | None = None
    """The need at the last pass. It has been so until now: only what moves makes a pass."""


@dataclass(frozen=True)
class Verdict:
    """How many pods from now on. `why` is None if that is what there is."""

    replicas: int
    why: Why | None
    message: str
    capped: bool = False
    """More would be wanted than maxReplicas allow."""
    look_again: timedelta | None = None
    """When time alone may change the answer."""


def decide_replicas(
    limits: Limits, current: int, need: Need, memory: Memory, now: datetime
) -> tuple[Verdict, Memory]:
    """How many pods there shall be where there are `current`, and what to remember."""
    memory = _remember(limits, need, memory, now)
    raw = _pods(need.slots, limits)
    floor = _floor(limits, current, need, memory, now)
    wanted = min(limits.most, max(raw, floor))
    capped = max(raw, floor) > limits.most
    words = _words(need, limits)
    if wanted > current:
        return Verdict(wanted, _why_up(limits, current, raw, need), words, capped), memory
    if not need.known:
        verdict = _without_news(limits, current, memory, now, words)
        if need.unseen_pods:
            # When they answer again, nothing else may have moved.
            again = min(verdict.look_again or ASK_AGAIN, ASK_AGAIN)
            verdict = replace(verdict, look_again=again)
        return verdict, memory
    calm = _pods(memory.peaks[0][1] * _MARGIN if memory.peaks else 0, limits)
    calm = max(min(limits.most, max(calm, floor)), min(current, need.busy_pods))
    if calm < current and current > limits.most:
        # What the user allows holds at once, but for pods that work.
        return Verdict(calm, "MaxReplicas", f"maxReplicas is {limits.most}; {words}", capped), memory
    settled = memory.since + limits.window
    if calm < current and now >= settled:
        why: Why = "LessToDo" if need.active else "Idle"
        return Verdict(calm, why, words, capped), memory
    return Verdict(current, None, words, capped, _next_look(limits, current, need, memory, now)), memory


def _pods(slots: float, limits: Limits) -> int:
    return math.ceil(slots / (limits.concurrency * limits.utilization) - _DUST)


def _floor(limits: Limits, current: int, need: Need, memory: Memory, now: datetime) -> int:
    """The least there may be, whatever the numbers say."""
    if need.active:
        return max(limits.least, 1)
    last = memory.active_at or memory.since
    if now < last + limits.cooldown or not need.known:
        # As it is: neither the last pods go, nor does a pool that rests begin to work on no news.
        return max(limits.idle, min(current, max(limits.least, 1)))
    return limits.idle


def _why_up(limits: Limits, current: int, raw: int, need: Need) -> Why:
    if raw > current:
        return "Backlog"
    if need.active and current == 0:
        return "Backlog" if need.slots else "NeededSoon"
    return "MinReplicas" if current < limits.least or not need.soon else "NeededSoon"


def _without_news(limits: Limits, current: int, memory: Memory, now: datetime, words: str) -> Verdict:
    if limits.fallback_after is None:
        return Verdict(current, None, words)
    due = (memory.known_at or memory.begun) + limits.fallback_after
    if now < due:
        return Verdict(current, None, words, look_again=due - now)
    to = max(current, min(limits.most, limits.fallback))
    return Verdict(to, "Fallback" if to > current else None, words)


def _remember(limits: Limits, need: Need, memory: Memory, now: datetime) -> Memory:
    peaks = [(until, slots) for until, slots in memory.peaks if until > now]
    until_now = (need,) if memory.last is None else (memory.last, need)
    # A moment of which not everything is known counts by what is: it never lowers the peak.
    for slots in (moment.slots for moment in until_now):
        while peaks and peaks[-1][1] <= slots:
            peaks.pop()
        peaks.append((now + limits.window, slots))
    # What is not known may be something to do.
    active = any(moment.active or not moment.known for moment in until_now)
    known = any(moment.known for moment in until_now)
    return replace(
        memory,
        # After a time without news a whole window has to be seen before anything goes.
        since=now if any(not moment.known for moment in until_now) else memory.since,
        peaks=tuple(peaks),
        active_at=now if active else memory.active_at,
        known_at=now if known else memory.known_at,
        last=need,
    )


def _next_look(limits: Limits, current: int, need: Need, memory: Memory, now: datetime) -> timedelta | None:
    """When a peak, the window or the cooldown ends: without news, that is when it may shrink."""
    if current <= limits.idle and not need.active:
        return None
    times = [memory.since + limits.window, *(until for until, _ in memory.peaks[:1])]
    if not need.active:
        times.append((memory.active_at or memory.since) + limits.cooldown)
    later = [at - now for at in times if at > now]
    return min(later, default=None)


def _words(need: Need, limits: Limits) -> str:
    at = f"at {limits.concurrency} a pod, {limits.utilization:.0%}"
    if need.queued is None:
        return f"{need.busy} busy, the queues' depth is not known; {at}"
    text = f"{need.busy} busy + {need.queued} queued {at}"
    if need.unseen_pods:
        text += f"; {need.unseen_pods} pods do not say what they do"
    return f"{text}; {need.soon}" if need.soon and not need.slots else text
