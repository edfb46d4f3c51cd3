"""What Prometheus reads of a working operator, besides what is counted where it happens."""

from collections import Counter
from collections.abc import Callable, Iterator

from podium.adapters.budget import Traffic
from podium.adapters.metrics import Metrics
from podium.core.objects import is_finished
from podium.core.pools.decide import Assessment
from podium.core.pools.demand import Backlog
from podium.ports import Conductor
from podium.reconciler.outages import Outages
from podium.reconciler.pools import PoolReconciler
from podium.reconciler.queue import KeyedQueue
from podium.reconciler.store import Store

_POOL = ("namespace", "pool")


def show(
    metrics: Metrics,
    queue: KeyedQueue,
    traffic: Traffic,
    conductor: Conductor,
    outages: Outages,
    writes: Callable[[], float],
    store: Store,
    pools: PoolReconciler,
) -> None:
    """Have all of it read when it is scraped."""
    metrics.gauge("queue_keys", "Objects waiting to be looked at", lambda: float(len(queue)))
    metrics.gauge("due_keys", "Objects being looked at, or due to be", lambda: float(queue.due))
    metrics.gauge("conductor_requests", "Requests to Conductor", lambda: traffic.requests)
    metrics.gauge(
        "conductor_wait_seconds", "Time that requests waited for their budget", lambda: traffic.waited
    )
    metrics.gauge("conductor_up", "1 if Conductor answers", lambda: conductor.outage is None)
    metrics.growing("conductor_outage_seconds", "How long Conductors were away", lambda: outages.seconds)
    metrics.gauge("status_writes", "Writes to the API server", writes)
    metrics.gauge(
        "active_runs",
        "Runs not yet finished",
        lambda: float(sum(not is_finished(item) for item in store.runs.values())),
    )
    _show_pools(metrics, pools)
    metrics.table(
        "devices",
        "Devices by what their status says of the connection to them",
        ("namespace", "model", "connectivity"),
        lambda: _count_devices(store),
    )


def _count_devices(store: Store) -> list[tuple[tuple[str, ...], float]]:
    counts = Counter(
        (key.namespace, device.spec.model, str(device.status.get("connectivity", "Unknown")))
        for key, device in store.devices.items()
        if device.spec is not None
    )
    return [(labels, float(count)) for labels, count in counts.items()]


def _show_pools(metrics: Metrics, pools: PoolReconciler) -> None:
    def table(name: str, text: str, read: Callable[[Assessment], float | None]) -> None:
        def rows() -> Iterator[tuple[tuple[str, ...], float]]:
            for key, found in list(pools.found.items()):
                if (value := read(found)) is not None:
                    yield (key.namespace, key.name), value

        metrics.table(f"pool_{name}", text, _POOL, rows)

    def of_backlog(read: Callable[[Backlog], float]) -> Callable[[Assessment], float | None]:
        # What is not known has no row: a zero would be read as calm.
        return lambda found: read(found.backlog) if found.backlog is not None else None

    table("replicas", "Pods that the pool has", lambda found: found.current)
    table("desired_replicas", "Pods that the pool shall have", lambda found: found.verdict.replicas)
    table("busy", "Tasks that the pool's pods work on", lambda found: found.need.busy)
    table("unseen_pods", "Pods that run and do not say what they do", lambda found: found.need.unseen_pods)
    table("queued", "Tasks that could be taken now", of_backlog(lambda backlog: backlog.waiting))
    table("delayed", "Tasks that wait for their time", of_backlog(lambda backlog: backlog.delayed))
