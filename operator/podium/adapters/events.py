"""Kubernetes Events: aggregated into series, rate-limited per object, never in anyone's way."""

import asyncio
import logging
import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from podium.adapters.kubernetes import KubernetesCluster
from podium.adapters.metrics import Metrics
from podium.api.v1alpha1 import API_VERSION
from podium.api.v1alpha1.reasons import EventReason
from podium.core.durations import format_precise_time
from podium.ports import Json, Key, PortError

log = logging.getLogger(__name__)

_MOST_WAITING = 1_000
_MOST_REMEMBERED = 4_096
_SERIES_WITHIN = 600.0
# As client-go: a burst of 25 per object, then one in five minutes.
_BURST = 25.0
_REFILL_SECONDS = 300.0


@dataclass
class _Series:
    name: str
    count: int
    last: float


@dataclass
class _Bucket:
    tokens: float
    at: float


class EventRecorder:
    """`podium.ports.Recorder`. `run()` writes what `event()` was told."""

    def __init__(self, cluster: KubernetesCluster, metrics: Metrics, monotonic: Callable[[], float]) -> None:
        self._cluster = cluster
        self._metrics = metrics
        self._now = monotonic
        self._waiting: asyncio.Queue[tuple[Key, str, str, str, str]] = asyncio.Queue(_MOST_WAITING)
        self._series: OrderedDict[tuple[str, str, str], _Series] = OrderedDict()
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def event(
        self, key: Key, uid: str, *, kind: Literal["Normal", "Warning"], reason: EventReason, message: str
    ) -> None:
        """Tell people. Dropped (and counted) when there are too many."""
        if not self._may_pass(uid):
            self._metrics.count("events_dropped")
            return
        try:
            self._waiting.put_nowait((key, uid, kind, reason, message[:1024]))
        except asyncio.QueueFull:
            self._metrics.count("events_dropped")

    def count(self, what: str, by: int = 1, **labels: str) -> None:
        """Count something that a metric shows."""
        self._metrics.count(what, by, **labels)

    def observe(self, what: str, seconds: float) -> None:
        """Measure something that a histogram shows."""
        self._metrics.observe(what, seconds)

    async def run(self) -> None:
        """Write Events until cancelled."""
        while True:
            key, uid, kind, reason, message = await self._waiting.get()
            try:
                await self._write(key, uid, kind, reason, message)
            except PortError as error:
                log.debug("an Event of %s was not written: %s", key, error)

    async def _write(self, key: Key, uid: str, kind: str, reason: str, message: str) -> None:
        now = self._now()
        mark = (uid, reason, message)
        series = self._series.get(mark)
        stamp = format_precise_time(datetime.now(UTC))
        if series is not None and now - series.last < _SERIES_WITHIN:
            series.count += 1
            series.last = now
            body: Json = {"series": {"count": series.count, "lastObservedTime": stamp}}
            await self._cluster.patch_event(key.namespace, series.name, body)
            return
        name = f"{key.name[:230]}.{secrets.token_hex(8)}"
        await self._cluster.create_event(
            key.namespace,
            {
                "apiVersion": "events.k8s.io/v1",
                "kind": "Event",
                "metadata": {"name": name, "namespace": key.namespace},
                "eventTime": stamp,
                "reportingController": "podium.dev/operator",
                "reportingInstance": "podium",
                "action": reason,
                "reason": reason,
                "type": kind,
                "note": message,
                "regarding": {
                    "apiVersion": API_VERSION,
                    "kind": key.kind,
                    "namespace": key.namespace,
                    "name": key.name,
                    "uid": uid,
                },
            },
        )
        self._series[mark] = _Series(name, 1, now)
        while len(self._series) > _MOST_REMEMBERED:
            self._series.popitem(last=False)

    def _may_pass(self, uid: str) -> bool:
        now = self._now()
        bucket = self._buckets.setdefault(uid, _Bucket(_BURST, now))
        bucket.tokens = min(_BURST, bucket.tokens + (now - bucket.at) / _REFILL_SECONDS)
        bucket.at = now
        self._buckets.move_to_end(uid)
        while len(self._buckets) > _MOST_REMEMBERED:
            self._buckets.popitem(last=False)
        if bucket.tokens < 1:
            return False
        bucket.tokens -= 1
        return True
