"""Frozen projections of the objects in the cluster: what the store holds and decisions read."""

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeVar

from pydantic import ValidationError

from podium.api.v1alpha1.conductor_connection import CONDUCTOR_CONNECTION, ConductorConnectionSpec
from podium.api.v1alpha1.device import DEVICE, DeviceSpec
from podium.api.v1alpha1.device_model import DEVICE_MODEL, DeviceModelSpec
from podium.api.v1alpha1.meta import GROUP, Model
from podium.api.v1alpha1.schedule import BACKFILL, RUN_NOW, SCHEDULE_LABEL, SCHEDULED_AT
from podium.api.v1alpha1.worker_pool import WORKER_POOL, WorkerPoolSpec
from podium.api.v1alpha1.workflow import WORKFLOW, WorkflowSpec
from podium.api.v1alpha1.workflow_run import FINISHED, WORKFLOW_RUN, WorkflowRunSpec
from podium.core.durations import parse_time
from podium.ports import Json, Key

S = TypeVar("S", bound=Model)

_INSTANCE = "app.kubernetes.io/instance"
_NO_MARKS = (f"{GROUP}/", "kubectl.kubernetes.io/")


@dataclass(frozen=True)
class Projection(Generic[S]):
    """One object: identity, spec as typed (None with the reason if it is not), status as it is."""

    key: Key
    uid: str
    generation: int
    resource_version: str
    created: datetime
    deleting_since: datetime | None
    finalizers: tuple[str, ...]
    spec: S | None
    spec_error: str
    status: Json
    schedule: str = ""
    """The schedule that made this run; scheduled_at: the time it stands for."""
    scheduled_at: datetime | None = None
    run_now: str = ""
    backfill: str = ""
    """The ids of the run-now or back-fill it was made by."""
    marks: frozenset[str] = frozenset()
    """Keys of its labels and annotations, without ours and kubectl's: who tracks it is seen by them."""


Workflow = Projection[WorkflowSpec]
WorkflowRun = Projection[WorkflowRunSpec]
WorkerPool = Projection[WorkerPoolSpec]
ConductorConnection = Projection[ConductorConnectionSpec]
Device = Projection[DeviceSpec]
DeviceModel = Projection[DeviceModelSpec]


def project_workflow(body: Json) -> Workflow:
    """A Workflow as the API server shows it → its projection."""
    return _project(body, WORKFLOW.kind, WorkflowSpec)


def project_workflow_run(body: Json) -> WorkflowRun:
    """A WorkflowRun as the API server shows it → its projection."""
    return _project(body, WORKFLOW_RUN.kind, WorkflowRunSpec)


def project_worker_pool(body: Json) -> WorkerPool:
    """A WorkerPool as the API server shows it → its projection."""
    return _project(body, WORKER_POOL.kind, WorkerPoolSpec)


def project_connection(body: Json) -> ConductorConnection:
    """A ConductorConnection as the API server shows it → its projection."""
    return _project(body, CONDUCTOR_CONNECTION.kind, ConductorConnectionSpec)


def project_device(body: Json) -> Device:
    """A Device as the API server shows it → its projection."""
    return _project(body, DEVICE.kind, DeviceSpec)


def project_device_model(body: Json) -> DeviceModel:
    """A DeviceModel as the API server shows it → its projection."""
    return _project(body, DEVICE_MODEL.kind, DeviceModelSpec)


def conditions_of(thing: "Projection[S]") -> list[Json]:
    """The conditions that stand in its status."""
    return thing.status.get("conditions") or []


def is_ready(thing: "Projection[S]") -> bool:
    """Whether its status says that all is in order, in its present generation."""
    return thing.status.get("observedGeneration") == thing.generation and any(
        item.get("type") == "Ready" and item.get("status") == "True" for item in conditions_of(thing)
    )


def is_finished(run: WorkflowRun) -> bool:
    """Whether its status says that it ended."""
    return run.status.get("phase") in FINISHED


def _project(body: Json, kind: str, spec_type: type[S]) -> Projection[S]:
    metadata = body["metadata"]
    deleting = metadata.get("deletionTimestamp")
    spec: S | None = None
    spec_error = ""
    try:
        spec = spec_type.model_validate(body.get("spec") or {})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in ("spec", *first["loc"]))
        spec_error = f"{where}: {first['msg']}"
    annotations = metadata.get("annotations") or {}
    labels = metadata.get("labels") or {}
    return Projection(
        key=Key(kind, metadata["namespace"], metadata["name"]),
        uid=metadata["uid"],
        generation=metadata.get("generation", 1),
        resource_version=metadata.get("resourceVersion", ""),
        created=parse_time(metadata["creationTimestamp"]),
        deleting_since=parse_time(deleting) if deleting else None,
        finalizers=tuple(metadata.get("finalizers") or ()),
        spec=spec,
        spec_error=spec_error,
        status=body.get("status") or {},
        schedule=labels.get(SCHEDULE_LABEL, ""),
        scheduled_at=_time_or_none(annotations.get(SCHEDULED_AT, "")),
        run_now=annotations.get(RUN_NOW, ""),
        backfill=annotations.get(BACKFILL, ""),
        marks=_marks(metadata, labels.keys() | annotations.keys()),
    )


def _time_or_none(text: str) -> datetime | None:
    """Annotations are anyone's to write: what is no time counts as none."""
    try:
        moment = parse_time(text)
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else None


def _marks(metadata: Json, keys: Iterable[str]) -> frozenset[str]:
    marks = {sys.intern(key) for key in keys if not key.startswith(_NO_MARKS)}
    if _INSTANCE in marks and not _applied_by_argo(metadata):
        # Everyone labels so; it is Argo's tracking only where Argo CD applied the object.
        marks.discard(_INSTANCE)
    return frozenset(marks)


def _applied_by_argo(metadata: Json) -> bool:
    managers = metadata.get("managedFields")
    # Without the list nobody knows: then it counts as Argo's, which deletes nothing.
    return not managers or any(str(item.get("manager", "")).startswith("argocd") for item in managers)
