"""Everything that a decision about a WorkflowRun may look at, frozen."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

from podium.core.effects import Relative, Unknown
from podium.core.objects import WorkflowRun
from podium.core.runs.shape import Shape
from podium.ports import Json, Outage, Polled, RunSeen

LOOK_AGAIN = timedelta(seconds=1)
WAIT_FOR_CONDUCTOR = timedelta(seconds=5)
# Runs that go on are told of an outage that lasts longer.
TOLD_AFTER = timedelta(seconds=15)
# The first task is usually polled within this time: its state shares the write that records the start.
SETTLE = timedelta(milliseconds=250)


@dataclass(frozen=True)
class WorkflowFacts:
    """What a run needs to know of its Workflow. `version` is None until it is registered."""

    conductor_name: str
    version: int | None
    suspended: bool
    problem: str = ""
    """Why it cannot be used, if it cannot."""
    connection: str | None = None
    """The ConductorConnection that new runs go through; None: the operator's own."""
    progress_deadline: timedelta = timedelta(minutes=10)
    """A run that nothing moves for so long says so."""


@dataclass(frozen=True)
class DefinitionFacts:
    """What travels with a registered version."""

    version: int
    input_schema: Json | None = None
    input_defaults: Json | None = None
    shape: Shape = field(default_factory=dict)


@dataclass(frozen=True)
class StartOutcome:
    """What came of a Start in this pass, or in one whose result is not written yet."""

    kind: Literal["Started", "NotRegistered", "NotSent", "Unknown", "Refused"]
    workflow_id: str = ""
    message: str = ""


@dataclass(frozen=True)
class ActionOutcome:
    """What came of the call for an action in this pass."""

    kind: Literal["Sent", "NotSent", "Unknown", "Refused"]
    message: str = ""


@dataclass(frozen=True)
class Policy:
    """The operator's settings that decide."""

    cluster_id: str
    unknown_start_wait: timedelta = timedelta(seconds=90)
    deletion_timeout: timedelta = timedelta(seconds=60)
    progress_deadline: timedelta = timedelta(minutes=10)


@dataclass(frozen=True)
class Seen:
    """Everything known about one run at one moment. None: not asked yet."""

    run: WorkflowRun
    workflow: WorkflowFacts | None
    policy: Policy
    definition: DefinitionFacts | Unknown | Literal["Absent"] | None = None
    conductor: RunSeen | Unknown | Literal["Absent"] | None = None
    lookup: tuple[RunSeen, ...] | Unknown | None = None
    intent_fresh: bool = False
    """The intent in `run.status` was written in this very pass and nothing was sent since."""
    outcome: StartOutcome | None = None
    tried: tuple[StartOutcome, datetime] | None = None
    """The last start before this pass that came to nothing, and when."""
    fresh: bool = False
    """`conductor` was read in this pass."""
    done: frozenset[str] = frozenset()
    """Names of effects carried out in this pass, so that none is asked for twice."""
    outage: Outage | None = None
    """Since when Conductor is away, if it is."""
    store: str | Unknown | None = ""
    """What marks Conductor's database, as far as that was read; "": it is not marked."""
    store_fresh: bool = False
    """`store` was read in this pass, and what is looked at now was read after it."""
    isolated: bool = True
    """Whether its tasks go to the domain of its namespace: its Conductor's setting."""
    acted: ActionOutcome | None = None
    asked: tuple[str, datetime] | None = None
    """The id of the action whose intent was written last, before this pass, and when."""
    children: Mapping[str, RunSeen | Literal["Absent"]] = field(default_factory=dict)
    """Runs of sub-workflows that have not ended well, by id."""
    read_children: frozenset[str] = frozenset()
    """Those of them that were read in this pass."""
    failure_run: RunSeen | Literal["Absent"] | None = None
    """The run of the failure workflow, until its end is in the status."""
    pollers: tuple[Polled, ...] | Unknown | None = None
    refreshed: tuple[int, datetime] | None = None
    """For which sign of life the run was to be read anew, and when that was asked."""
    purge: bool = False
    """The Workflow wants what is deleted here to be removed from Conductor too."""
    family: tuple[Relative, ...] | Unknown | None = None
    """What goes with the run when it is purged, children first."""
    failure: str = ""
    """Why the last effect (pause, resume, terminate) could not be carried out."""
