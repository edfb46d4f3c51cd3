"""From time to time everything is listed and compared: heals and counts what no watch event told."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from podium.api.v1alpha1.meta import Model
from podium.core.objects import (
    Projection,
    is_finished,
    is_ready,
    project_connection,
    project_device,
    project_device_model,
    project_worker_pool,
    project_workflow,
    project_workflow_run,
)
from podium.ports import Cluster, Json, Key
from podium.reconciler.connections import Connections, Link
from podium.reconciler.store import Store

M = TypeVar("M", bound=Model)
log = logging.getLogger(__name__)

Wake = Callable[[Key], None]


@dataclass(frozen=True)
class _Listed(Generic[M]):
    """The objects of a kind."""

    items: list[Projection[M]]
    before: Mapping[Key, str]
    """The uids of those that were known when the list was asked for."""


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

    def heal_fleet(key: Key) -> None:
        heal(key)
        moved.add(key.namespace)

    moved: set[str] = set()
    connections = await _list(
        cluster, "ConductorConnection", namespaces, project_connection, store.connections
    )
    pools = await _list(cluster, "WorkerPool", namespaces, project_worker_pool, store.pools)
    workflows = await _list(cluster, "Workflow", namespaces, project_workflow, store.workflows)
    runs = await _list(cluster, "WorkflowRun", namespaces, project_workflow_run, store.runs)
    models = await _list(cluster, "DeviceModel", namespaces, project_device_model, store.models)
    devices = await _list(cluster, "Device", namespaces, project_device, store.devices)
    _take_in(connections, store.put_connection, store.connections, store.remove_connection, heal)
    _take_in(pools, store.put_pool, store.pools, store.remove_pool, heal)
    _take_in(workflows, store.put_workflow, store.workflows, store.remove_workflow, heal)
    _take_in(runs, store.put_run, store.runs, store.remove_run, heal)
    _take_in(models, store.put_model, store.models, store.remove_model, heal_fleet)
    _take_in(devices, store.put_device, store.devices, store.remove_device, heal_fleet)
    for connection in connections.items:
        wake(connection.key)
    for pool in pools.items:
        wake(pool.key)
    for workflow in workflows.items:
        if first or not is_ready(workflow) or workflow.deleting_since is not None:
            wake(workflow.key)
    # A model matters to its devices, a device to its model and to those that claim the same board or
    # place: which ones that were before is not known any more. Where nothing changed, nothing is written.
    for model in models.items:
        if first or not is_ready(model) or model.key.namespace in moved:
            wake(model.key)
    for device in devices.items:
        if first or not is_ready(device) or device.key.namespace in moved:
            wake(device.key)
    for run in runs.items:
        if first or not is_finished(run) or run.deleting_since is not None:
            wake(run.key)


def _take_in(
    listed: _Listed[Any],
    put: Callable[[Any], bool],
    known: Mapping[Key, Projection[Any]],
    remove: Callable[[Key], None],
    heal: Wake,
) -> None:
    for item in listed.items:
        # One that was known and is not any more: its end was told after the list was made.
        ended = listed.before.get(item.key) == item.uid and item.key not in known
        if not ended and put(item):
            heal(item.key)
    # kopf reports no deletion that it missed. What came after the list was asked for is not in it either,
    # and is no less there: only what was known before, and is the same object still, can be told gone.
    there = {item.key for item in listed.items}
    for key, uid in listed.before.items():
        if key not in there and key in known and known[key].uid == uid:
            remove(key)
            heal(key)


def follow_again(store: Store, connections: Connections) -> None:
    """Have every run followed that is not over: also those that the list brought."""
    for run in store.runs.values():
        workflow_id = (run.status.get("conductor") or {}).get("workflowId")
        if not workflow_id or is_finished(run):
            continue
        link = connections.of_run(run)
        if isinstance(link, Link):
            link.tracker.watch(workflow_id, run.key)
    connections.refresh_all()


async def _list(
    cluster: Cluster,
    kind: str,
    namespaces: tuple[str, ...],
    project: Callable[[Json], Projection[M]],
    known: Mapping[Key, Projection[M]],
) -> _Listed[M]:
    """A page is let go of once it is projected: the objects themselves are ten times as large."""
    before = {key: item.uid for key, item in known.items()}
    items = [
        project(body)
        for namespace in namespaces or (None,)
        async for page in cluster.pages(kind, namespace)
        for body in page
    ]
    return _Listed(items, before)
