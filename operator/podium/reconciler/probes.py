"""Asks every device how it is, each at its interval: one loop for all, with bounded concurrency."""

import asyncio
import hashlib
import heapq
import itertools
import logging
from collections.abc import Callable
from dataclasses import dataclass

from podium.api.v1alpha1.device_model import Health
from podium.core.devices.answers import parse_answer
from podium.core.devices.decide import restore
from podium.core.devices.watch import Verdict, Watch, expect, note, patience
from podium.core.durations import parse_duration
from podium.core.objects import Device
from podium.ports import Clock, DeviceAnswer, DevicePage, Devices, Key, NoAnswer, Recorder
from podium.reconciler.roster import claims_of
from podium.reconciler.store import Store

log = logging.getLogger(__name__)

_AT_ONCE = 128
# Seconds. What is due is looked for so often; a first look is spread over the same time.
_TICK = 0.25


class Probes:
    """What is known of each device by asking it. It lives in memory: nothing is written for an answer."""

    def __init__(
        self, store: Store, devices: Devices, clock: Clock, recorder: Recorder, wake: Callable[[Key], None]
    ) -> None:
        """`wake(key)`: what is to be said of a device has changed."""
        self._store = store
        self._devices = devices
        self._clock = clock
        self._recorder = recorder
        self._wake = wake
        self._watches: dict[Key, tuple[str, Watch]] = {}
        """With its identity: another board or place is watched anew."""
        self._due: list[tuple[float, int, Key]] = []
        """When, the number of the plan, whom. A number that is not the one in `_plans` is out of date."""
        self._numbers = itertools.count(1)
        self._plans: dict[Key, _Plan] = {}
        self._fresh: dict[Key, _Plan] = {}
        """Those that wait for the loop to take them up."""
        self._asked: set[asyncio.Task[None]] = set()

    def verdict(self, device: Device) -> Verdict:
        """What is to be said of it now."""
        watch = self._watch(device)
        return watch.verdict if watch is not None else restore(device)

    def looked(self, device: Device) -> bool:
        """Whether it was asked at least once."""
        watch = self._watch(device)
        return watch is not None and watch.looked > 0

    def plan(self, device: Device) -> None:
        """Have it asked soon, if it is new or is to be asked otherwise than before; nothing else."""
        health = self._health(device)
        basis = (self._mark(device), health)
        known = self._plans.get(device.key)
        if known is not None and known.basis == basis:
            return
        if health is None:
            self._watches.pop(device.key, None)
        self._plans[device.key] = self._fresh[device.key] = _Plan(basis, next(self._numbers))

    async def run(self) -> None:
        """Until cancelled."""
        free = asyncio.Semaphore(_AT_ONCE)
        loop = asyncio.get_running_loop()
        try:
            while True:
                for key, plan in self._fresh.items():
                    self._push(loop.time() + _share(key) * _TICK, plan, key)
                self._fresh.clear()
                while self._due and self._due[0][0] <= loop.time():
                    _, number, key = heapq.heappop(self._due)
                    current = self._plans.get(key)
                    if current is None or current.number != number:
                        continue
                    # Waiting here is what keeps a fleet that is away from filling the memory.
                    await free.acquire()
                    task = asyncio.create_task(self._ask(key, current), name=f"ask {key}")
                    self._asked.add(task)
                    task.add_done_callback(self._asked.discard)
                    task.add_done_callback(lambda _: free.release())
                await asyncio.sleep(_TICK)
        finally:
            for task in self._asked:
                task.cancel()

    def forget(self, key: Key) -> None:
        """It is gone."""
        self._watches.pop(key, None)
        self._plans.pop(key, None)

    async def _ask(self, key: Key, plan: "_Plan") -> None:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        device = self._store.devices.get(key)
        if device is None:
            if self._plans.get(key) is plan:
                self.forget(key)
            return
        model = self._store.roster.model_of(device)
        health = self._health(device)
        if health is None or model is None or model.spec is None:
            # What was true before the pause says nothing after it.
            self._watches.pop(key, None)
            self._push(begun + _TICK * 4, plan, key)
            return
        try:
            answer = await self._probe(device, health)
            self._take(device, answer, model.spec.chip, health)
        except Exception:
            log.exception("%s: a bug in asking it", key)
        interval = parse_duration(health.interval).total_seconds()
        # The first time it is put at its own place of the interval, so that they do not come all at once.
        rest = interval if plan.asked else interval * (0.5 + _share(key) / 2)
        plan.asked = True
        self._push(begun + rest, plan, key)

    def _push(self, at: float, plan: "_Plan", key: Key) -> None:
        """Unless it was planned anew meanwhile."""
        if self._plans.get(key) is plan:
            heapq.heappush(self._due, (at, plan.number, key))

    async def _probe(self, device: Device, health: Health) -> DeviceAnswer | NoAnswer:
        assert device.spec is not None
        address = device.spec.address
        host = f"[{address.host}]" if ":" in address.host else address.host
        page = DevicePage(
            f"http://{host}:{address.health_port}{health.path}",
            patience(health).total_seconds(),
        )
        body = await self._devices.ask(page)
        answer = body if isinstance(body, NoAnswer) else parse_answer(body, health.fields)
        outcome = answer.kind if isinstance(answer, NoAnswer) else "Answer"
        self._recorder.count("device_probes", outcome=outcome)
        return answer

    def _take(self, device: Device, answer: DeviceAnswer | NoAnswer, chip: str, health: Health) -> None:
        now = self._clock.now()
        assert device.spec is not None
        mark = self._mark(device)
        here = self._store.devices.get(device.key)
        if here is None or self._mark(here) != mark:
            return  # the answer came too late, and is of another board or place
        before = self._watch(device) or Watch(now, verdict=restore(device))
        after = note(before, answer, expect(device.spec.mac, chip, health), now)
        self._watches[device.key] = (mark, after)
        if after.verdict != before.verdict or before.looked == 0:
            self._wake(device.key)

    def _health(self, device: Device) -> Health | None:
        """How it is asked; None: it cannot be, or must not, because it is another one's twin."""
        roster = self._store.roster
        model = roster.model_of(device)
        if device.spec is None or model is None or model.spec is None:
            return None
        twin = roster.same(device, "mac") or roster.same(device, "address")
        return None if twin else model.spec.health

    def _watch(self, device: Device) -> Watch | None:
        mark, watch = self._watches.get(device.key, ("", None))
        return watch if mark == self._mark(device) else None

    def _mark(self, device: Device) -> str:
        return "|".join((device.uid, *(value for _, _, value in claims_of(device))))


@dataclass
class _Plan:
    """That a device is asked: as what and how, and whether it was."""

    basis: tuple[str, Health | None]
    number: int
    asked: bool = False


def _share(key: Key) -> float:
    """From 0 to 1, always the same for a device, also after a restart."""
    return int.from_bytes(hashlib.blake2b(str(key).encode(), digest_size=4).digest()) / 2**32
