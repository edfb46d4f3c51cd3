"""Frozen projections of the objects in the cluster: what the store holds and decisions read."""

from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeVar

from pydantic import ValidationError

from podium.api.v1alpha1.conductor_connection import CONDUCTOR_CONNECTION, ConductorConnectionSpec
from podium.api.v1alpha1.meta import Model
from podium.api.v1alpha1.schedule import BACKFILL, RUN_NOW, SCHEDULE_LABEL, SCHEDULED_AT
from podium.api.v1alpha1.workflow import WORKFLOW, WorkflowSpec
from podium.api.v1alpha1.workflow_run import FINISHED, WORKFLOW_RUN, WorkflowRunSpec
from podium.core.durations import parse_time
from podium.ports import Json, Key

S = TypeVar("S", bound=Model)


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


Workflow = Projection[WorkflowSpec]
WorkflowRun = Projection[WorkflowRunSpec]
ConductorConnection = Projection[ConductorConnectionSpec]


def project_workflow(body: Json) -> Workflow:
    """A Workflow as the API server shows it → its projection."""
    return _project(body, WORKFLOW.kind, WorkflowSpec)


def project_workflow_run(body: Json) -> WorkflowRun:
    """A WorkflowRun as the API server shows it → its projection."""
    return _project(body, WORKFLOW_RUN.kind, WorkflowRunSpec)


def project_connection(body: Json) -> ConductorConnection:
    """A ConductorConnection as the API server shows it → its projection."""
    return _project(body, CONDUCTOR_CONNECTION.kind, ConductorConnectionSpec)


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
    annotations = metadata.get("annotations") or {}
    spec: S | None = None
    spec_error = ""
    try:
        spec = spec_type.model_validate(body.get("spec") or {})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in ("spec", *first["loc"]))
        spec_error = f"{where}: {first['msg']}"
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
        schedule=(metadata.get("labels") or {}).get(SCHEDULE_LABEL, ""),
        scheduled_at=_time_or_none(annotations.get(SCHEDULED_AT, "")),
        run_now=annotations.get(RUN_NOW, ""),
        backfill=annotations.get(BACKFILL, ""),
    )


def _time_or_none(text: str) -> datetime | None:
    """Annotations are anyone's to write: what is no time counts as none."""
    try:
        moment = parse_time(text)
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else None
