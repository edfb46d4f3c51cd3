"""What the operator reads on a worker's metrics page. Neither side imports the other."""

from datetime import UTC, datetime
from pathlib import Path

import click
import pytest

from podium.adapters.workers import parse_load
from podium.api.v1alpha1.worker_pool import WorkerPoolSpec
from podium_workers.runtime.attempt import KINDS
from podium_workers.runtime.main import main
from podium_workers.runtime.metrics import WorkerMetrics

CONTRACT = {
    "podium_worker_busy": (),
    "podium_worker_running": ("task_type",),
    "podium_worker_capacity": (),
    "podium_worker_draining": (),
    "podium_worker_last_poll_timestamp_seconds": (),
}
"""Names of gauges, and their labels."""


@pytest.fixture
def metrics() -> WorkerMetrics:
    made = WorkerMetrics(capacity=7)
    made.busy.set(3)
    made.running.labels("resize").set(3)
    made.draining.set(1)
    made.last_poll.set(1_700_000_000)
    return made


def test_a_worker_keeps_the_contract(metrics):
    seen = {
        sample.name: tuple(sample.labels)
        for family in metrics.registry.collect()
        if family.type == "gauge"
        for sample in family.samples
    }
    assert {name: labels for name, labels in seen.items() if name in CONTRACT} == CONTRACT


def test_the_operator_understands_a_workers_page(metrics):
    load = parse_load(metrics.exposition().decode(), datetime.now(UTC))
    assert (load.busy, load.draining, dict(load.running)) == (3, True, {"resize": 3})
    assert load.last_poll.timestamp() == 1_700_000_000


def test_a_workers_page_grows_with_its_task_types_and_with_nothing_else(metrics):
    """Every label has a closed list of values: the task types of this worker, or words of ours."""
    labels: set[str] = set()
    for collector in metrics.registry._collector_to_names:
        labels |= set(collector._labelnames)
    assert labels == {"task_type", "result", "outcome", "kind"}


def test_a_worker_takes_every_concurrency_that_a_pool_may_say(monkeypatch):
    """As its pods hand it over: what one side takes and the other refuses is a pod that crashes for ever."""
    schema = WorkerPoolSpec.model_json_schema()["properties"]["concurrency"]
    least, most = schema["minimum"], schema["maximum"]
    for count in (least, most):
        monkeypatch.setenv("WORKER_CONCURRENCY", str(count))
        monkeypatch.setenv("WORKER_PROCESSES", str(count))  # where all functions are cpu_bound, as many
        given = main.make_context("podium-worker", []).params
        assert (given["concurrency"], given["processes"]) == (count, count)
    for count in (least - 1, most + 1):
        monkeypatch.setenv("WORKER_CONCURRENCY", str(count))
        with pytest.raises(click.BadParameter):
            main.make_context("podium-worker", [])


def test_every_kind_of_failure_is_explained():
    page = (Path(__file__).parents[2] / "docs" / "functions.md").read_text()
    for kind in KINDS:
        assert f"| `{kind}` |" in page
