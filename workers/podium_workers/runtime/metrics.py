"""What a worker counts, for Prometheus. One registry per worker, none for the whole process."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import generate_latest

_SECONDS = (0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 900, 3600)


class WorkerMetrics:
    """Names begin with podium_worker_. Times are in seconds."""

    def __init__(self, capacity: int) -> None:
        self.registry = CollectorRegistry()
        self.busy = Gauge(
            "podium_worker_busy", "Slots with a task, its result not yet taken", registry=self.registry
        )
        self.capacity = Gauge("podium_worker_capacity", "Tasks at once, at most", registry=self.registry)
        self.capacity.set(capacity)
        self.connected = Gauge(
            "podium_worker_connected", "1 while Conductor answers, else 0", registry=self.registry
        )
        self.draining = Gauge(
            "podium_worker_draining", "1 from SIGTERM on: no new tasks are taken", registry=self.registry
        )
        self.looks = Counter(
            "podium_worker_looks", "Readings of the queues' depths", ["result"], registry=self.registry
        )
        self.polls = Counter(
            "podium_worker_polls",
            "Polls: with tasks, empty, failed",
            ["task_type", "result"],
            registry=self.registry,
        )
        self.tasks = Counter(
            "podium_worker_tasks",
            "Attempts by how they ended: completed, failed, rejected, postponed, cut",
            ["task_type", "outcome"],
            registry=self.registry,
        )
        self.seconds = Histogram(
            "podium_worker_task_seconds",
            "How long functions ran",
            ["task_type"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.update_failures = Counter(
            "podium_worker_update_failures",
            "Results that Conductor did not take: tried again, refused, given up",
            ["result"],
            registry=self.registry,
        )
        self.lease_failures = Counter(
            "podium_worker_lease_failures",
            "Signs of life for a running task that failed",
            registry=self.registry,
        )

    def exposition(self) -> bytes:
        """The metrics in Prometheus' text format."""
        return generate_latest(self.registry)
