"""Everything that WorkerPools need, connected."""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from podium.ports import Clock, Cluster, Key, Recorder, Workers, Workloads
from podium.reconciler.connections import Connections
from podium.reconciler.fleet import Fleet
from podium.reconciler.look import Look
from podium.reconciler.pools import PoolReconciler
from podium.reconciler.store import Store


@dataclass(frozen=True)
class PoolParts:
    """What follows the pods, what looks at the queues, and what decides."""

    fleet: Fleet
    look: Look
    reconciler: PoolReconciler

    @classmethod
    def build(
        cls,
        cluster: Cluster,
        workloads: Workloads,
        workers: Workers,
        connections: Connections,
        clock: Clock,
        recorder: Recorder,
        store: Store,
        *,
        wake: Callable[[Key], None],
    ) -> "PoolParts":
        """`wake(key)`: have a pool looked at."""
        fleet = Fleet(workloads, wake)
        look = Look(store, connections, fleet, workers, clock, wake)
        reconciler = PoolReconciler(
            cluster,
            workloads,
            connections,
            clock,
            recorder,
            store,
            fleet,
            look,
        )
        return cls(fleet, look, reconciler)

    def jobs(self) -> dict[str, Coroutine[Any, Any, None]]:
        """What goes on as long as this replica leads."""
        return {"fleet": self.fleet.run(), "queues": self.look.run()}
