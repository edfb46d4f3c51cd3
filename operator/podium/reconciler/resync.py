"""From time to time everything is listed and compared: heals and counts what no watch event told."""

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from podium.core.objects import (
    Projection,
    is_finished,
    is_ready,
    project_connection,
    project_worker_pool,
    project_workflow,
    project_workflow_run,
)
from podium.ports import Cluster, Json, Key
from podium.reconciler.store import Store

log = logging.getLogger(__name__)

Wake = Callable[[Key], None]


async def resync(
    cluster: Cluster,
    store: Store,
    wake: Wake,
    missed: Callable[[], None],
    namespaces: tuple[str, ...],
    *,
    first: bool,
) -> None:
    """List all, take in what is newer, drop what is gone, wake what moved and what is not at rest.

    What is over or in order is left in peace, but for the `first` time: ten thousand finished runs cost
    nothing.
    """

    def heal(key: Key) -> None:
        missed()
        wake(key)

    connections = [
        project_connection(body) for body in await _list(cluster, "ConductorConnection", namespaces)
    ]
    pools = [project_worker_pool(body) for body in await _list(cluster, "WorkerPool", namespaces)]
    workflows = [project_workflow(body) for body in await _list(cluster, "Workflow", namespaces)]
    runs = [project_workflow_run(body) for body in await _list(cluster, "WorkflowRun", namespaces)]
    _take_in(connections, store.put_connection, store.connections, store.remove_connection, heal)
    _take_in(pools, store.put_pool, store.pools, store.remove_pool, heal)
    _take_in(workflows, store.put_workflow, store.workflows, store.remove_workflow, heal)
    _take_in(runs, store.put_run, store.runs, store.remove_run, heal)
    for connection in connections:
        wake(connection.key)
    for pool in pools:
        wake(pool.key)
    for workflow in workflows:
        if first or not is_ready(workflow) or workflow.deleting_since is not None:
            wake(workflow.key)
    for run in runs:
        if first or not is_finished(run) or run.deleting_since is not None:
            wake(run.key)


def _take_in(
    listed: Iterable[Projection[Any]],
    put: Callable[[Any], bool],
    known: Mapping[Key, Projection[Any]],
    remove: Callable[[Key], None],
    heal: Wake,
) -> None:
    for item in listed:
        if put(item):
            heal(item.key)
    # kopf reports no deletion that it missed. One made between the list and here is no harm: its
    # event comes, and until then it is only looked at later.
    for key in known.keys() - {item.key for item in listed}:
        remove(key)
        heal(key)


async def _list(cluster: Cluster, kind: str, namespaces: tuple[str, ...]) -> list[Json]:
    if not namespaces:
        return await cluster.list(kind)
    return [body for namespace in namespaces for body in await cluster.list(kind, namespace)]
