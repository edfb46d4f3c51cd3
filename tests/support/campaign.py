"""Many updates at once of devices with faults by chance, and what must be true of their verdicts."""

from __future__ import annotations

import asyncio
import collections
import random
from dataclasses import dataclass, replace

from podium_workers.services.ota import Timing
from podium_workers.simulator.spec import DeviceSpec
from support.fleets import Bench, Outcome, build_fleet, new_image, open_bench

PATIENT = Timing(invite_every=0.5, invitations=8, proof=4.0, connect=4.0, stall=4.0, finish=4.0)
WITHIN = 12.0
"""Long enough for a machine that does a lot beside: a pause must not look like a device that is away."""
FAULTS = [
    "invitation-lost:times={few}",
    "answer-lost:times={few}",
    "busy-loop:seconds=0.6",
    "password-changed",
    "odd-nonce",
    "odd-answer:times=1",
    "no-connection",
    "late-connection:seconds=1",
    "drop:at={share},how=close",
    "drop:at={share},how=reset",
    "drop:at={share},how=silence",
    "stall:at={share},seconds=1",
    "slow:rate=20000",
    "bit-flip:at={share}",
    "flash-error:at={share}",
    "power-loss:at={share},seconds=20",
    "ok-lost",
    "ok-cut",
    "no-restart",
    "stuck-old-version",
    "power-loss-on-first-boot",
    "lost-after-update",
    "other-device",
    "offline",
    "flapping:up=30,down=10",
    "health-error",
    "health-garbage",
    "health-slow:seconds=4",
    "health-absent",
    "uptime-wrap",
    "boot-loop",
    "hang:after={few}",
    "low-heap",
    "fragmented-heap",
    "wrong-build",
    "dirty-build",
    "failed-check",
]
MAY_BE_UNKNOWN = {
    "lost-after-update",
    "offline",
    "flapping",
    "health-error",
    "health-garbage",
    "health-slow",
    "health-absent",
    "other-device",
    "boot-loop",
    "hang",
    "power-loss",
    "power-loss-on-first-boot",
    "drop",
}


@dataclass(frozen=True)
class Record:
    """One update: what was wrong with the device, and what came of it."""

    faults: tuple[str, ...]
    outcome: Outcome

    @property
    def names(self) -> set[str]:
        return {fault.split(":")[0] for fault in self.faults}

    def __str__(self) -> str:
        return f"{self.outcome.device} {self.faults}: {self.outcome} ({self.outcome.message})"


def draw_specs(count: int, seed: int) -> list[tuple[DeviceSpec, tuple[str, ...], int]]:
    """Devices of all kinds, a third of them without a fault; with the size of the image that each gets."""
    chance = random.Random(seed)
    drawn = []
    for number in range(count):
        faults = tuple(
            text.format(few=chance.randint(1, 4), share=chance.randint(1, 99))
            for text in chance.sample(FAULTS, chance.choice([0, 0, 1, 1, 1, 2]))
        )
        (spec,) = build_fleet(
            *faults,
            name=f"c{number}",
            seed=seed,
            auth=chance.choice(["none", "md5", "md5", "pbkdf2", "pbkdf2-md5"]),
            rollback=chance.random() < 0.8,
            confirm=chance.choice(["boot", "self", "api"]),
            split_reads=chance.random() < 0.3,
            boot_seconds=chance.choice([2.0, 4.0, 8.0]),
        )
        address = f"127.78.{number // 250}.{number % 250 + 1}"
        size = chance.choice([4, 8, 16, 64]) * 1024
        drawn.append((replace(spec, address=address), faults, size))
    return drawn


async def run_campaign(count: int, seed: int, at_once: int) -> list[Record]:
    """Updates all of them, so many at a time."""
    drawn = draw_specs(count, seed)
    images = {size: new_image(size=size) for _, _, size in drawn}
    slots = asyncio.Semaphore(at_once)

    async def one(bench: Bench, number: int) -> Record:
        _, faults, size = drawn[number]
        async with slots:
            outcome = await bench.update(bench.fleet.devices[number], images[size], within=WITHIN)
        return Record(faults, outcome)

    async with open_bench([spec for spec, _, _ in drawn], timing=PATIENT, most=at_once) as bench:
        return list(await asyncio.gather(*(one(bench, number) for number in range(count))))


def find_lies(records: list[Record]) -> dict[str, list[str]]:
    """What must not be, by kind; empty lists if all is well."""
    lies: dict[str, list[str]] = {"false success": [], "false failure": [], "unfounded": []}
    for record in records:
        outcome = record.outcome
        if outcome.verdict == "Succeeded" and not outcome.well:
            lies["false success"].append(str(record))
        if outcome.verdict == "Failed" and outcome.well:
            lies["false failure"].append(str(record))
        if (not record.faults and outcome.verdict != "Succeeded") or (
            outcome.verdict == "Unknown" and not record.names & MAY_BE_UNKNOWN
        ):
            lies["unfounded"].append(str(record))
    return lies


def tally(records: list[Record]) -> dict[str, int]:
    """How often each verdict and reason came."""
    return dict(collections.Counter(str(record.outcome) for record in records).most_common())
