"""Asks every device how it is, each at its interval: one loop for all, with bounded concurrency."""

import asyncio
import hashlib
import heapq
import logging
from collections.abc import Callable

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
# Seconds. New devices are looked for so often; a first look is spread over the same time.
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
        self._watches: dict[tuple[Key, str], Watch] = {}
        """By key and identity: another board or place is watched anew."""
        self._due: list[tuple[float, Key]] = []
        self._planned: set[Key] = set()
        self._asked: set[asyncio.Task[None]] = set()

    def verdict(self, device: Device) -> Verdict:
        """What is to be said of it now."""
        watch = self._watches.get(self._mark(device))
        return watch.verdict if watch is not None else restore(device)

    def looked(self, device: Device) -> bool:
        """Whether it was asked at least once."""
        watch = self._watches.get(self._mark(device))
        return watch is not None and watch.looked > 0

    async def run(self) -> None:
        """Until cancelled."""
        free = asyncio.Semaphore(_AT_ONCE)
        loop = asyncio.get_running_loop()
        try:
            while True:
                self._plan(loop.time())
                while self._due and self._due[0][0] <= loop.time():
                    _, key = heapq.heappop(self._due)
                    # Waiting here is what keeps a fleet that is away from filling the memory.
                    await free.acquire()
                    task = asyncio.create_task(self._ask(key), name=f"ask {key}")
                    self._asked.add(task)
                    task.add_done_callback(self._asked.discard)
                    task.add_done_callback(lambda _: free.release())
                await asyncio.sleep(_TICK)
        finally:
            for task in self._asked:
                task.cancel()

    def forget(self, key: Key) -> None:
        """It is gone."""
        for mark in [mark for mark in self._watches if mark[0] == key]:
            del self._watches[mark]

    def _plan(self, now: float) -> None:
        if len(self._planned) == len(self._store.devices):
            return
        for key in self._store.devices.keys() - self._planned:
            self._planned.add(key)
            heapq.heappush(self._due, (now + _share(key) * _TICK, key))

    async def _ask(self, key: Key) -> None:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        device = self._store.devices.get(key)
        if device is None:
            self._planned.discard(key)
            return
        model = self._store.roster.model_of(device)
        if device.spec is None or model is None or model.spec is None or self._is_twin(device):
            heapq.heappush(self._due, (begun + _TICK * 4, key))
            return
        health = model.spec.health
        try:
            answer = await self._probe(device, health)
            self._take(device, answer, model.spec.chip, health)
        except Exception:
            log.exception("%s: a bug in asking it", key)
        interval = parse_duration(health.interval).total_seconds()
        # The first time it is put at its own place of the interval, so that they do not come all at once.
        watch = self._watches.get(self._mark(device))
        first = watch is not None and watch.looked <= 1
        rest = interval * (0.5 + _share(key) / 2) if first else interval
        heapq.heappush(self._due, (begun + rest, key))

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
        before = self._watches.get(mark) or Watch(now, verdict=restore(device))
        after = note(before, answer, expect(device.spec.mac, chip, health), now)
        if device.key not in self._store.devices:
            return
        if mark not in self._watches:
            self.forget(device.key)
        self._watches[mark] = after
        if after.verdict != before.verdict or before.looked == 0:
            self._wake(device.key)

    def _is_twin(self, device: Device) -> bool:
        roster = self._store.roster
        return bool(roster.same(device, "mac") or roster.same(device, "address"))

    def _mark(self, device: Device) -> tuple[Key, str]:
        return device.key, "|".join((device.uid, *(value for _, _, value in claims_of(device))))


def _share(key: Key) -> float:
    """From 0 to 1, always the same for a device, also after a restart."""
    return int.from_bytes(hashlib.blake2b(str(key).encode(), digest_size=4).digest()) / 2**32
