"""One device's update: looked at first, sent an image, and watched until it can be said what became of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from podium_workers.firmware.health import (
    Confirm,
    Expectation,
    Healthy,
    Probe,
    Undecided,
    Unhealthy,
    Wait,
    decide_health,
)
from podium_workers.services.build_signature import names_commit
from podium_workers.services.device_api import DeviceApi, Health, HealthPage
from podium_workers.services.ota import Failed, Gateway, Progress, Succeeded, Target, Verdict
from podium_workers.services.ota.preflight import check_image

_FIRST_TRIES = 2
_BACK_SECONDS = 60.0
_BACK_INTERVAL = 1.0


@dataclass(frozen=True)
class Subject:
    """The device, as a Device and its DeviceModel describe it; `mac` and `chip` as `Health` has them.

    What it says itself goes over `chip` and sizes.
    """

    page: HealthPage
    target: Target
    mac: str | None = None
    chip: str | None = None
    slot_size: int | None = None


@dataclass(frozen=True)
class Deployment:
    """How sending went, and what the check needs to know. Times in seconds since the epoch."""

    verdict: Verdict
    before: Health | None
    before_at: float
    ended_at: float

    def expectation(self, commit: str, mac: str | None = None) -> Expectation:
        """What the check has to look for, with its usual limits."""
        return Expectation(
            commit=commit,
            sent_at=self.ended_at,
            before=self.before,
            before_at=self.before_at,
            mac=mac,
            taken=isinstance(self.verdict, Succeeded),
        )


@dataclass(frozen=True)
class Seen:
    """What a device says of itself before it is sent anything. None: nothing. `at`: since the epoch."""

    health: Health | None
    at: float

    def runs(self, commit: str) -> bool:
        """Whether it runs the commit already."""
        return self.health is not None and names_commit(self.health.build, commit)


async def look_at(api: DeviceApi, page: HealthPage) -> Seen:
    """Asks the device, once more if it does not answer."""
    for _ in range(_FIRST_TRIES):
        answer = await api.probe(page)
        if isinstance(answer, Health):
            return Seen(answer, time.time())
    return Seen(None, time.time())


async def bring_back(api: DeviceApi, subject: Subject, seen: Seen) -> Seen:
    """Lets a device whose firmware was not confirmed go back by itself; what it says then.

    One that cannot, or that need not, is as it was `seen`.
    """
    unconfirmed = seen.health
    if unconfirmed is None or not unconfirmed.pending or _find_stranger(subject, unconfirmed):
        return seen
    if not await api.roll_back(subject.page):
        return seen
    until = time.time() + _BACK_SECONDS
    while time.time() < until:
        await asyncio.sleep(_BACK_INTERVAL)
        answer = await api.probe(subject.page)
        if isinstance(answer, Health) and not (answer.pending and answer.build == unconfirmed.build):
            return Seen(answer, time.time())
    return seen


async def send_image(
    gateway: Gateway,
    image: bytes,
    subject: Subject,
    seen: Seen,
    *,
    rollback: bool = False,
    on_progress: Callable[[Progress], None] = lambda _: None,
    cancel: asyncio.Event | None = None,
) -> Deployment:
    """Sends the device the image, unless it is known that it cannot take it.

    A device whose health page does not answer is sent the image all the same: it may be what mends it.
    `rollback`: the same for one whose firmware was not confirmed, because that is what it goes back from.
    """
    verdict: Verdict | None = _find_hindrance(image, subject, seen.health, rollback=rollback)
    if verdict is None:
        verdict = await gateway.send(image, subject.target, on_progress=on_progress, cancel=cancel)
    return Deployment(verdict, seen.health, seen.at, time.time())


async def check_device(
    api: DeviceApi, page: HealthPage, wanted: Expectation, *, interval: float = 5.0
) -> Healthy | Unhealthy | Undecided:
    """Asks every `interval` seconds until it is decided."""
    probes: list[Probe] = []
    confirmed = False
    while True:
        decision = decide_health(probes, wanted, time.time(), confirmed=confirmed)
        match decision:
            case Healthy() | Unhealthy() | Undecided():
                return decision
            case Confirm():
                confirmed = await api.confirm(page)
            case Wait():
                pass
        await asyncio.sleep(interval)
        answer = await api.probe(page)
        probes.append(Probe(time.time(), answer))


def _find_stranger(subject: Subject, before: Health | None) -> Failed | None:
    if before and subject.mac and before.mac and before.mac != subject.mac:
        return Failed(
            "WrongDevice",
            f"the device at {subject.page.host} is {before.mac}, not {subject.mac}: its address was given "
            "to another",
        )
    return None


def _find_hindrance(
    image: bytes, subject: Subject, before: Health | None, *, rollback: bool
) -> Failed | None:
    if stranger := _find_stranger(subject, before):
        return stranger
    if before and before.pending and not rollback:
        return Failed(
            "Unconfirmed",
            f"the device has not confirmed {before.build} yet: another image would overwrite the only "
            "firmware that "
            "it can go back to",
        )
    found = check_image(
        image,
        chip=(before.chip if before else None) or subject.chip,
        slot_size=(before.slot_size if before else None) or subject.slot_size,
        secure_version=before.secure_version if before else None,
    )
    return found if isinstance(found, Failed) else None
