"""What the operator knows of the cluster: frozen projections, indexed by workflow."""

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime
from typing import TypeVar

from podium.api.v1alpha1.meta import Model
from podium.core.objects import (
    ConductorConnection,
    Device,
    DeviceModel,
    Projection,
    WorkerPool,
    Workflow,
    WorkflowRun,
    is_finished,
)
from podium.core.workflow import RunTally
from podium.ports import Key
from podium.reconciler.roster import Roster

P = TypeVar("P", bound=Model)


class Store:
    """Projections by key. An older version never replaces a newer one."""

    def __init__(self) -> None:
        self.workflows: dict[Key, Workflow] = {}
        self.runs: dict[Key, WorkflowRun] = {}
        self.connections: dict[Key, ConductorConnection] = {}
        self.pools: dict[Key, WorkerPool] = {}
        self.models: dict[Key, DeviceModel] = {}
        self.devices: dict[Key, Device] = {}
        self.roster = Roster(self.devices, self.models)
        self._runs_of: defaultdict[tuple[str, str], set[Key]] = defaultdict(set)

    def put_workflow(self, workflow: Workflow) -> bool:
        """Whether it was news."""
        return _put(self.workflows, workflow)

    def put_connection(self, connection: ConductorConnection) -> bool:
        """Whether it was news."""
        return _put(self.connections, connection)

    def put_pool(self, pool: WorkerPool) -> bool:
        """Whether it was news."""
        return _put(self.pools, pool)

    def put_model(self, model: DeviceModel) -> bool:
        """Whether it was news."""
        return _put(self.models, model)

    def put_device(self, device: Device) -> bool:
        """Whether it was news."""
        before = self.devices.get(device.key)
        if not _put(self.devices, device):
            return False
        self.roster.replace(before, device)
        return True

    def put_run(self, run: WorkflowRun) -> bool:
        """Whether it was news."""
        before = self.runs.get(run.key)
        if not _put(self.runs, run):
            return False
        if before is not None and before.spec is not None:
            self._runs_of[run.key.namespace, before.spec.workflow].discard(run.key)
        if run.spec is not None:
            self._runs_of[run.key.namespace, run.spec.workflow].add(run.key)
        return True

    def remove_workflow(self, key: Key) -> None:
        """It is gone from the cluster."""
        self.workflows.pop(key, None)

    def remove_connection(self, key: Key) -> None:
        """It is gone from the cluster."""
        self.connections.pop(key, None)

    def remove_pool(self, key: Key) -> None:
        """It is gone from the cluster."""
        self.pools.pop(key, None)

    def remove_model(self, key: Key) -> None:
        """It is gone from the cluster."""
        self.models.pop(key, None)

    def remove_device(self, key: Key) -> None:
        """It is gone from the cluster."""
        self.roster.replace(self.devices.pop(key, None), None)

    def remove_run(self, key: Key) -> None:
        """It is gone from the cluster."""
        run = self.runs.pop(key, None)
        if run is not None and run.spec is not None:
            self._runs_of[key.namespace, run.spec.workflow].discard(key)

    def workflow_of(self, run: WorkflowRun) -> Workflow | None:
        """The Workflow that a run names, if it is in the cluster."""
        if run.spec is None:
            return None
        return self.workflows.get(Key("Workflow", run.key.namespace, run.spec.workflow))

    def runs_of(self, namespace: str, workflow: str) -> list[WorkflowRun]:
        """The runs of a workflow that are in the cluster."""
        return [self.runs[key] for key in self._runs_of.get((namespace, workflow), ()) if key in self.runs]

    def pools_of(self, namespace: str) -> list[WorkerPool]:
        """The pools of a namespace, the oldest first."""
        pools = [pool for pool in self.pools.values() if pool.key.namespace == namespace]
        return sorted(pools, key=lambda pool: (pool.created, pool.key.name))

    def workflows_of(self, namespace: str) -> list[Workflow]:
        """The Workflows of a namespace."""
        return [workflow for workflow in self.workflows.values() if workflow.key.namespace == namespace]

    def run_owners(self) -> list[tuple[str, str]]:
        """(namespace, name) of the Workflows that the runs here name, whether those are there or not."""
        return [owner for owner, keys in self._runs_of.items() if keys]

    def oldest_active(self, namespace: str, workflows: Iterable[str]) -> datetime | None:
        """When the oldest of the runs of these workflows that have not ended was made."""
        runs = (run for name in workflows for run in self.runs_of(namespace, name))
        return min((run.created for run in runs if not is_finished(run)), default=None)

    def tally(self, namespace: str, workflow: str) -> RunTally:
        """How the runs of a workflow stand, and which versions they refer to."""
        active = succeeded = failed = 0
        versions = set()
        for run in self.runs_of(namespace, workflow):
            if version := (run.status.get("conductor") or {}).get("version"):
                versions.add(version)
            if run.spec is not None and run.spec.version:
                versions.add(run.spec.version)
            if not is_finished(run):
                active += 1
            elif run.status.get("phase") == "Succeeded":
                succeeded += 1
            else:
                failed += 1
        return RunTally(active, succeeded, failed, frozenset(versions))


def _put(known: dict[Key, Projection[P]], item: Projection[P]) -> bool:
    before = known.get(item.key)
    # Resource versions of one object are ordered; our own writes may come before their events.
    same = before is not None and before.uid == item.uid
    if before is not None and same and int(item.resource_version or 0) <= int(before.resource_version or 0):
        return False
    known[item.key] = item
    return True
