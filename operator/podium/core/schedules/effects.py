"""What a decision about schedules may ask for."""

from dataclasses import dataclass

from podium.core.effects import Note, Report
from podium.core.schedules.runs import Ticket
from podium.ports import Json, Key


@dataclass(frozen=True)
class ReadWorkflow:
    """Read the Workflow anew, before something that cannot be taken back."""


@dataclass(frozen=True)
class CreateRun:
    """Make a WorkflowRun; one of its name that was made for the same ticket is as good."""

    ticket: Ticket
    body: Json


@dataclass(frozen=True)
class EndRun:
    """Ask for the end of a WorkflowRun that a schedule made."""

    schedule: str
    key: Key
    uid: str


@dataclass(frozen=True)
class WriteSchedules:
    """Write the schedules' part of the status (with the resourceVersion), then tell people."""

    status: Json
    notes: tuple[Note, ...] = ()
    skipped: int = 0


ScheduleEffect = ReadWorkflow | CreateRun | EndRun | WriteSchedules | Report
