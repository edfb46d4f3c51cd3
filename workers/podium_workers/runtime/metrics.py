"""What a worker counts, for Prometheus. One registry per worker, none for the whole process."""

from __future__ import annotations

import time

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import generate_latest

_SECONDS = (0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 900, 3600)


class WorkerMetrics:
    """Names begin with podium_worker_. Times are in seconds.

    Labels have few values: the task types of this worker, and words from closed lists. The operator reads
    `busy`, `running`, `capacity`, `draining` and `last_poll_timestamp_seconds`: they are a contract, which
    tests/workers/test_contract.py holds both sides to.
    """

    def __init__(self, capacity: int) -> None:
        self.registry = CollectorRegistry()
        self.busy = self._gauge("busy", "Tasks whose results Conductor has not and would take")
        self.running = Gauge(
            "podium_worker_running",
            "The same for each task type",
            ["task_type"],
            registry=self.registry,
        )
        self.capacity = self._gauge("capacity", "Tasks at once, at most")
        self.capacity.set(capacity)
        self.connected = self._gauge("connected", "1 while Conductor answers, else 0")
        self.draining = self._gauge("draining", "1 from SIGTERM on: no new tasks are taken")
        self.processes = self._gauge("processes", "Processes for cpu_bound functions, busy or idle")
        self.last_poll = self._gauge(
            "last_poll_timestamp_seconds",
            "When Conductor last answered a look at the queues or a poll, Unix time; 0: not yet",
        )
        self.start = self._gauge("start_timestamp_seconds", "When the worker began, Unix time")
        self.start.set(time.time())
        self.looks = self._counter("looks", "Readings of the queues' depths: answered, failed", "result")
        self.polls = self._counter("polls", "Polls: tasks, empty, failed, refused", "task_type", "result")
        self.tasks = self._counter(
            "tasks",
            "Attempts by how they ended: completed, failed, rejected, postponed, dropped, cut",
            "task_type",
            "outcome",
        )
        self.failures = self._counter(
            "failures", "Attempts that brought no result, by kind: see docs/functions.md", "task_type", "kind"
        )
        self.seconds = Histogram(
            "podium_worker_task_seconds",
            "How long functions ran",
            ["task_type"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.update_failures = self._counter(
            "update_failures", "Results that Conductor did not take: retried, refused, given_up", "result"
        )
        self.lease_failures = self._counter("lease_failures", "Signs of life for a running task that failed")

    def exposition(self) -> bytes:
        """The metrics in Prometheus' text format."""
        return generate_latest(self.registry)

    def _gauge(self, name: str, meaning: str) -> Gauge:
        return Gauge(f"podium_worker_{name}", meaning, registry=self.registry)

    def _counter(self, name: str, meaning: str, *labels: str) -> Counter:
        return Counter(f"podium_worker_{name}", meaning, labels, registry=self.registry)
