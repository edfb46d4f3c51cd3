"""What the watch tells: into the store, and into the queue what has to be looked at because of it."""

import logging
from collections.abc import Callable

from podium.core.objects import (
    Device,
    WorkflowRun,
    is_finished,
    is_ready,
    project_connection,
    project_device,
    project_device_model,
    project_worker_pool,
    project_workflow,
    project_workflow_run,
)
from podium.ports import Json, Key
from podium.reconciler.echoes import Echoes
from podium.reconciler.retention import GATHER, retention_key
from podium.reconciler.roster import model_key
from podium.reconciler.store import Store

log = logging.getLogger(__name__)


class Intake:
    """Takes in objects, and their ends."""

    def __init__(self, store: Store, echoes: Echoes, add: Callable[[Key, float], None]) -> None:
        """`add(key, seconds)`: have it looked at by then."""
        self._store = store
        self._echoes = echoes
        self._add = add
        self._uids: dict[str, Key] = {}

    def on_object(self, key: Key, body: Json) -> None:
        """An object as it is now."""
        self._echoes.heard(key, body["metadata"]["resourceVersion"])
        match key.kind:
            case "Workflow":
                self._on_workflow(key, body)
            case "ConductorConnection":
                if self._store.put_connection(project_connection(body)):
                    self._add(key, 0.0)
            case "WorkerPool":
                known = self._store.pools.get(key)
                pool = project_worker_pool(body)
                if self._store.put_pool(pool):
                    self._add(key, 0.0)
                    if known is None or known.spec != pool.spec or is_ready(known) != is_ready(pool):
                        self._wake_beside(key)
            case "DeviceModel":
                self._on_model(key, body)
            case "Device":
                self._on_device(key, body)
            case _:
                run = project_workflow_run(body)
                if self._store.put_run(run):
                    self._uids[run.uid] = key
                    self._add(key, 0.0)
                    self.retally(run)

    def on_gone(self, key: Key) -> None:
        """There is no such object any more."""
        self._echoes.gone(key)
        match key.kind:
            case "Workflow":
                self._store.remove_workflow(key)
            case "ConductorConnection":
                self._store.remove_connection(key)
            case "WorkerPool":
                self._store.remove_pool(key)
                self._wake_beside(key)
            case "DeviceModel":
                self._store.remove_model(key)
                self._wake_devices_of(key)
            case "Device":
                gone = self._store.devices.get(key)
                self._store.remove_device(key)
                if gone is not None:
                    self._wake_around(gone)
            case _:
                run = self._store.runs.get(key)
                self._store.remove_run(key)
                if run is not None:
                    self._uids.pop(run.uid, None)
                    self.retally(run)
        self._add(key, 0.0)

    def on_stranger(self, workflow_id: str, uid: str) -> None:
        """A run that nobody watches moved: one of ours whose start was not recorded, perhaps."""
        if key := self._uids.get(uid):
            log.debug("%s moved, which %s does not know", workflow_id, key)
            self._add(key, 0.0)

    def on_list(self) -> None:
        """Everything was listed: the store is what there is."""
        self._uids = {run.uid: key for key, run in self._store.runs.items()}

    def wake(self, key: Key) -> None:
        """Have an object looked at; a Workflow with its schedules."""
        self._add(key, 0.0)
        if key.kind == "Workflow":
            self._add(Key("Schedules", key.namespace, key.name), 0.0)

    def retally(self, run: WorkflowRun) -> None:
        """Have the runs counted in the Workflow's status; many runs share one write."""
        if run.spec is None:
            return
        if run.schedule:
            self._add(Key("Schedules", run.key.namespace, run.spec.workflow), 0.0)
        self._add(Key("Workflow", run.key.namespace, run.spec.workflow), 1.0)
        if is_finished(run):
            self._add(retention_key(run.key.namespace, run.spec.workflow), GATHER)

    def _on_workflow(self, key: Key, body: Json) -> None:
        before = self._store.workflows.get(key)
        seen = project_workflow(body)
        if self._store.put_workflow(seen):
            changed = before is None or before.generation != seen.generation
            if changed or seen.deleting_since is not None or not seen.status:
                self.wake(key)
                self._add(retention_key(key.namespace, key.name), GATHER)
            if before is None or before.status != seen.status or changed:
                self._wake_pending_runs(key)
            if changed:
                # Their limits and time-outs are those of the tasks that a pool runs.
                for pool in self._store.pools_of(key.namespace):
                    self._add(pool.key, GATHER)

    def _on_model(self, key: Key, body: Json) -> None:
        before = self._store.models.get(key)
        model = project_device_model(body)
        if self._store.put_model(model):
            self._add(key, 0.0)
            if before is None or before.spec != model.spec or before.deleting_since != model.deleting_since:
                self._wake_devices_of(key)

    def _on_device(self, key: Key, body: Json) -> None:
        before = self._store.devices.get(key)
        device = project_device(body)
        if self._store.put_device(device):
            self._add(key, 0.0)
            if before is None or before.spec != device.spec or before.deleting_since != device.deleting_since:
                for one in (before, device):
                    if one is not None:
                        self._wake_around(one)

    def _wake_devices_of(self, model: Key) -> None:
        for key in self._store.roster.of_model(model):
            self._add(key, 0.0)

    def _wake_around(self, device: Device) -> None:
        """Those that claim the same board or place, and its model, which counts them."""
        for _, rival in self._store.roster.rivals(device):
            self._add(rival.key, 0.0)
        if (model := model_key(device)) is not None and model in self._store.models:
            self._add(model, GATHER)

    def _wake_beside(self, key: Key) -> None:
        """A pool came, went or changed: who else serves its task types, and who needs them."""
        for pool in self._store.pools_of(key.namespace):
            if pool.key != key:
                self._add(pool.key, 0.0)
        for workflow in self._store.workflows_of(key.namespace):
            self._add(workflow.key, GATHER)

    def _wake_pending_runs(self, key: Key) -> None:
        for run in self._store.runs_of(key.namespace, key.name):
            if run.status.get("phase") in (None, "Pending"):
                self._add(run.key, 0.0)
