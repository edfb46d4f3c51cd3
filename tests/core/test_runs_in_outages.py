"""A run whose Conductor is away, or came back without its data, has not failed."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from podium.api.v1alpha1 import FINALIZER
from podium.core import effects as do
from podium.core.effects import Report, Unknown
from podium.core.objects import project_workflow_run
from podium.core.runs import Policy, Seen, WorkflowFacts, decide_run
from podium.ports import Json, NotSent, Outage, RunSeen
from support.one_run import World

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
POLICY = Policy("cluster")
SINCE = "no connection, since 11:59:00Z"
RUNNING: Json = {
    "phase": "Running",
    "observedGeneration": 2,
    "conductor": {
        "name": "studio.video",
        "version": 3,
        "correlationId": "cluster.uid-1",
        "requestedAt": "2026-01-01T11:00:00.000000Z",
        "store": "A",
        "workflowId": "w1",
    },
    "conditions": [{"type": "Ready", "status": "False", "reason": "Running", "message": "1/2 tasks done"}],
}
STARTING: Json = {
    "phase": "Starting",
    "observedGeneration": 2,
    "conductor": {name: item for name, item in RUNNING["conductor"].items() if name != "workflowId"},
}
VIEW = RunSeen("w1", "studio.video", 3, "RUNNING", "cluster.uid-1", 1)


def seen(status: Json = RUNNING, *, away: float | None = None, spec: Json | None = None, **more: Any) -> Seen:
    """A run with this status; `away`: seconds since Conductor is."""
    metadata = {
        "name": "v1",
        "namespace": "studio",
        "uid": "uid-1",
        "generation": 2,
        "creationTimestamp": "2026-01-01T11:00:00Z",
        "finalizers": [FINALIZER],
    }
    body = {"metadata": metadata, "spec": {"workflow": "video", **(spec or {})}, "status": status}
    outage = Outage(NOW - timedelta(seconds=away), SINCE) if away is not None else None
    facts = WorkflowFacts("studio.video", 3, suspended=False)
    return Seen(project_workflow_run(body), facts, POLICY, outage=outage, store="A", **more)


def decided(given: Seen) -> Report:
    effect = decide_run(given, NOW)
    assert isinstance(effect, Report)
    return effect


def words(report: Report) -> tuple[str, str, str]:
    """Phase, reason and message of Ready."""
    assert report.status is not None
    ready = next(word for word in report.words if word.type == "Ready")
    return report.status["phase"], ready.reason, ready.message


def test_a_short_outage_is_no_news() -> None:
    report = decided(seen(away=3, conductor=VIEW))
    assert words(report) == ("Running", "Running", "1/2 tasks done")
    assert report.requeue_after is not None
    # Told between 15 and 25 s after it began, each run at a moment of its own.
    assert timedelta(seconds=12) <= report.requeue_after <= timedelta(seconds=22)


@pytest.mark.parametrize("view", [VIEW, None, "Absent"])
def test_one_that_lasts_is_told_and_changes_nothing_else(view: Any) -> None:
    assert words(decided(seen(away=26, conductor=view))) == ("Running", "ConductorUnavailable", SINCE)


def test_one_that_is_in_the_way_of_what_is_wanted_is_told_at_once() -> None:
    report = decided(seen(away=1, conductor=VIEW, spec={"desiredState": "Paused"}))
    assert words(report) == ("Running", "ConductorUnavailable", SINCE)


def test_the_word_of_a_conductor_that_has_lost_its_data_is_not_believed() -> None:
    """The mark of the database is read, then the run once more, and only then is it judged."""
    missing = seen(conductor="Absent", fresh=True)
    assert decide_run(missing, NOW) == do.ReadStore()
    marked = replace(missing, store="B", store_fresh=True, fresh=False)
    assert decide_run(marked, NOW) == do.ReadRun("w1")
    report = decided(replace(marked, fresh=True))
    phase, reason, message = words(report)
    assert (phase, reason) == ("Running", "ConductorLostData")
    assert "w1" in message
    assert "Restart" in message
    assert len(message) <= 256
    assert [note.reason for note in report.notes] == ["ConductorLostData"]


def test_a_run_that_someone_removed_has_failed() -> None:
    report = decided(seen(conductor="Absent", fresh=True, store_fresh=True))
    assert words(report)[:2] == ("Failed", "Vanished")


def test_while_the_mark_cannot_be_read_nothing_is_judged() -> None:
    missing = replace(seen(conductor="Absent", fresh=True, store_fresh=True), store=Unknown("away"))
    assert words(decided(missing)) == ("Running", "ConductorUnavailable", "away")


def test_a_lost_run_can_be_ended() -> None:
    lost = seen(conductor="Absent", fresh=True, store_fresh=True, spec={"desiredState": "Terminated"})
    assert words(decided(replace(lost, store="B")))[0] == "Terminated"


def test_an_unconfirmed_start_is_not_repeated_in_another_database() -> None:
    """The run may come back with the one that was lost: then there would be two."""
    unconfirmed = seen(STARTING, lookup=())
    assert decide_run(unconfirmed, NOW) == do.ReadStore()
    judged = replace(unconfirmed, store="B", store_fresh=True)
    assert words(decided(judged))[:2] == ("Starting", "ConductorLostData")
    assert isinstance(decide_run(replace(judged, store="A"), NOW), do.WriteIntent)


# --- a model: outages and lost data in any order ----------------------------------------------------

what_happens = some.lists(
    some.sampled_from(["away", "back", "lose", "restore", "operator restarts", "sweep", "wait"]), max_size=25
)


class Shaken(World):
    """One run that goes on, and a Conductor that comes, goes and loses its data."""

    def __init__(self) -> None:
        super().__init__(lasts=1e9, status_interval=0.0)
        for _ in range(3):
            self.step()
        self.backup = (self.conductor.store, dict(self.conductor.runs), dict(self.conductor.appears))

    def step(self) -> float | None:
        self.clock.advance(2.0)
        return super().step()

    def happen(self, what: str) -> None:
        conductor = self.conductor
        match what:
            case "away":
                conductor.away = NotSent
                conductor.outage = conductor.outage or Outage(self.clock.now(), SINCE)
            case "back":
                conductor.away = conductor.outage = None
            case "lose":
                conductor.lose_data()
            case "restore":
                conductor.store, runs, appears = self.backup
                conductor.runs, conductor.appears = dict(runs), dict(appears)
            case "operator restarts":
                self.restart()
            case "sweep":
                if conductor.away is None:
                    self.tracker.read()
            case _:
                self.clock.advance(30.0)
        conductor.definitions["studio.video", 1] = {"name": "studio.video", "version": 1}
        self.step()


@given(what_happens)
@settings(max_examples=300, deadline=None)
def test_no_outage_and_no_lost_data_makes_a_run_fail_or_start_twice(happened: list[str]) -> None:
    world = Shaken()
    assert world.status["phase"] == "Running"
    for what in happened:
        world.happen(what)
        assert world.status["phase"] == "Running"
    for what in ("restore", "back", "sweep", "wait", "sweep"):
        world.happen(what)
    assert next(item for item in world.status["conditions"] if item["type"] == "Ready")["reason"] == "Running"
    assert len(world.conductor.started) == 1
