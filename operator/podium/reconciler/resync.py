"""From time to time everything is listed and compared: heals and counts what no watch event told."""

import logging
from collections.abc import Callable

from podium.core.objects import project_connection, project_workflow, project_workflow_run
from podium.ports import Cluster, Key
from podium.reconciler.store import Store

log = logging.getLogger(__name__)


async def resync(
    cluster: Cluster,
    store: Store,
    wake: Callable[[Key], None],
    missed: Callable[[], None],
    namespaces: tuple[str, ...],
) -> None:
    """List all, take in what is newer, drop what is gone, wake all that is not finished."""
    workflows = [project_workflow(body) for body in await _list(cluster, "Workflow", namespaces)]
    runs = [project_workflow_run(body) for body in await _list(cluster, "WorkflowRun", namespaces)]
    connections = [
        project_connection(body) for body in await _list(cluster, "ConductorConnection", namespaces)
    ]
    for connection in connections:
        if store.put_connection(connection):
            missed()
    for workflow in workflows:
        if store.put_workflow(workflow):
            missed()
    for run in runs:
        if store.put_run(run):
            missed()
    listed_workflows = {workflow.key for workflow in workflows}
    listed_runs = {run.key for run in runs}
    listed_connections = {connection.key for connection in connections}
    # kopf reports no deletion that it missed. One made between the list and here is no harm: its
    # event comes, and until then it is only looked at later.
    for key in [key for key in store.workflows if key not in listed_workflows]:
        store.remove_workflow(key)
        missed()
        wake(key)
    for key in [key for key in store.runs if key not in listed_runs]:
        store.remove_run(key)
        missed()
        wake(key)
    for key in [key for key in store.connections if key not in listed_connections]:
        store.remove_connection(key)
        missed()
        wake(key)
    for key in listed_connections | listed_workflows | listed_runs:
        wake(key)


async def _list(cluster: Cluster, kind: str, namespaces: tuple[str, ...]) -> list[dict[str, object]]:
    if not namespaces:
        return await cluster.list(kind)
    return [body for namespace in namespaces for body in await cluster.list(kind, namespace)]
