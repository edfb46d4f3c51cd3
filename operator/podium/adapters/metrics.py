"""What Prometheus scrapes of the operator. No label has an object's name but a pool's: those are few."""

from collections.abc import Awaitable, Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from podium.ports import Key

_COUNTERS = {
    "conductor_data_losses": "Times that Conductor had another database than before",
    "device_probes": "Times that a device was asked how it is",
    "duplicate_runs": "Duplicate runs that were found in Conductor and ended",
    "events_dropped": "Kubernetes Events left out because there were too many",
    "missed_events": "Changes that no watch event told of and the resync found",
    "watch_restarts": "Times that the watch of the API server was begun anew",
    "notices": "Notices taken from Conductor",
    "notices_refused": "Notices refused because the secret was missing or wrong",
    "runs_deleted": "Finished WorkflowRuns deleted by their time to live or a history limit",
    "schedule_fires": "Runs that schedules made at their times",
    "schedule_skips": "Times of schedules that were left out",
}
_HISTOGRAMS = {
    "schedule_lateness_seconds": (
        "From a schedule's time to the making of its run",
        (0.1, 0.5, 1, 5, 30, 120, 600, 3600),
    ),
}
_LABELS = {"device_probes": ("outcome",), "runs_deleted": ("why",)}


Rows = Callable[[], Iterable[tuple[tuple[str, ...], float]]]


class Metrics:
    """The operator's metrics in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._counters = {
            name: Counter(f"podium_{name}", text, _LABELS.get(name, ()), registry=self.registry)
            for name, text in _COUNTERS.items()
        }
        self._histograms = {
            name: Histogram(f"podium_{name}", text, buckets=buckets, registry=self.registry)
            for name, (text, buckets) in _HISTOGRAMS.items()
        }
        self.reconciles = Counter(
            "podium_reconciles",
            "Passes over objects",
            ["kind", "outcome"],
            registry=self.registry,
        )
        self.reconcile_seconds = Histogram(
            "podium_reconcile_seconds",
            "Time of a pass",
            ["kind"],
            buckets=(0.005, 0.02, 0.1, 0.5, 2, 10, 60),
            registry=self.registry,
        )

    def count(self, what: str, by: int = 1, **labels: str) -> None:
        """So many more of a counter named above."""
        counter = self._counters[what]
        (counter.labels(**labels) if labels else counter).inc(by)

    def observe(self, what: str, seconds: float) -> None:
        """A value of a histogram named above."""
        self._histograms[what].observe(seconds)

    def measured(
        self, kind: str, reconcile: Callable[[Key], Awaitable[float | None]]
    ) -> Callable[[Key], Awaitable[float | None]]:
        """The same pass, timed and counted."""
        seconds = self.reconcile_seconds.labels(kind)
        fine, failed = self.reconciles.labels(kind, "ok"), self.reconciles.labels(kind, "error")

        async def measured(key: Key) -> float | None:
            with seconds.time():
                try:
                    again = await reconcile(key)
                except BaseException:
                    failed.inc()
                    raise
                fine.inc()
                return again

        return measured

    def gauge(self, name: str, text: str, read: Callable[[], float]) -> None:
        """A gauge that is read when it is scraped."""
        Gauge(f"podium_{name}", text, registry=self.registry).set_function(read)

    def growing(self, name: str, text: str, read: Callable[[], float]) -> None:
        """A counter that is read when it is scraped."""
        self.registry.register(_Growing(f"podium_{name}", text, read))

    def table(self, name: str, text: str, labels: tuple[str, ...], read: Rows) -> None:
        """Gauges with labels that come and go: `read()` is asked for all rows when it is scraped."""
        self.registry.register(_Table(f"podium_{name}", text, labels, read))

    def render(self) -> bytes:
        """The text that Prometheus reads."""
        return generate_latest(self.registry)


class _Growing(Collector):
    def __init__(self, name: str, text: str, read: Callable[[], float]) -> None:
        self._family = (name, text)
        self._read = read

    def collect(self) -> Iterable[CounterMetricFamily]:
        yield CounterMetricFamily(*self._family, value=self._read())


class _Table(Collector):
    def __init__(self, name: str, text: str, labels: tuple[str, ...], read: Rows) -> None:
        self._name, self._text, self._labels, self._read = name, text, labels, read

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """What it is, without a value."""
        return [GaugeMetricFamily(self._name, self._text, labels=self._labels)]

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """All rows as they are now."""
        family = GaugeMetricFamily(self._name, self._text, labels=self._labels)
        for labels, value in self._read():
            family.add_metric(labels, value)
        return [family]
