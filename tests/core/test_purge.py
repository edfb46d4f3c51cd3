"""A run that is deleted with purge is ended, and goes from Conductor with all that it started."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from podium.api.v1alpha1 import FINALIZER
from podium.core import effects as do
from podium.core.effects import Relative, Report, Unknown
from podium.core.objects import project_workflow_run
from podium.core.runs import Policy, Seen, decide_run
from podium.ports import RunSeen, RunState

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
AWAY = Unknown("Conductor is away")
FAMILY = (Relative("child", False), Relative("w1", False))


def deleted(*, ago: float = 1, phase: str = "Succeeded", started: bool = True, **spec: Any) -> Seen:
    conductor = {"name": "studio.video", "version": 1, "correlationId": "c.u", "requestedAt": at(500)}
    if started:
        conductor["workflowId"] = "w1"
    body = {
        "metadata": {
            "name": "v1",
            "namespace": "studio",
            "uid": "u",
            "creationTimestamp": at(999),
            "deletionTimestamp": at(ago),
            "finalizers": [FINALIZER],
        },
        "spec": {"workflow": "video", "deletionPolicy": "Purge", **spec},
        "status": {"phase": phase, "conductor": conductor},
    }
    return Seen(project_workflow_run(body), None, Policy("c", deletion_timeout=timedelta(seconds=120)))


def at(ago: float) -> str:
    return (NOW - timedelta(seconds=ago)).isoformat()


def look(seen: Seen, state: RunState) -> Seen:
    return replace(seen, conductor=RunSeen("w1", "studio.video", 1, state, "c.u"), fresh=True)


def let_go(effect: object) -> do.Note | None:
    assert isinstance(effect, do.SetFinalizers)
    assert effect.finalizers == ()
    return effect.note


def test_a_finished_run_is_read_its_family_found_and_removed_and_then_it_goes() -> None:
    seen = deleted()
    assert decide_run(seen, NOW) == do.ReadRun("w1")
    seen = look(seen, "COMPLETED")
    find = decide_run(seen, NOW)
    assert find == do.FindFamily(("w1",), "studio.video", "c.u", NOW + timedelta(seconds=119))
    seen = replace(seen, family=FAMILY)
    assert decide_run(seen, NOW) == do.Remove(FAMILY, NOW + timedelta(seconds=119))
    seen = replace(seen, done=frozenset({"Remove"}))
    note = let_go(decide_run(seen, NOW))
    assert note == do.Note(
        "Normal",
        "Purged",
        "run w1 was removed from Conductor with 1 runs that it had started; its data is gone",
    )


@pytest.mark.parametrize("phase", ["Running", "Succeeded"])  # a finished one may have been revived there
def test_a_run_that_goes_on_is_ended_first(phase: str) -> None:
    seen = look(deleted(phase=phase), "RUNNING")
    assert decide_run(seen, NOW) == do.Terminate("w1", "its WorkflowRun was deleted")
    seen = replace(look(seen, "TERMINATED"), done=frozenset({"Terminate"}))
    assert isinstance(decide_run(seen, NOW), do.FindFamily)


@pytest.mark.parametrize(
    ("policy", "by_workflow", "purged"),
    [("Purge", False, True), ("Terminate", True, True), ("Terminate", False, False), ("Orphan", True, False)],
)
def test_the_workflow_can_ask_for_it_too_and_orphans_stay(
    policy: str, by_workflow: bool, purged: bool
) -> None:
    seen = replace(deleted(deletionPolicy=policy), purge=by_workflow)
    if purged:
        assert decide_run(seen, NOW) == do.ReadRun("w1")
    else:
        assert let_go(decide_run(seen, NOW)) is None


def test_what_is_gone_already_is_no_news() -> None:
    seen = replace(deleted(), conductor="Absent", fresh=True)
    assert isinstance(decide_run(seen, NOW), do.FindFamily)
    assert let_go(decide_run(replace(seen, family=()), NOW)) is None


def test_an_unconfirmed_start_that_is_found_is_ended_and_removed() -> None:
    run = RunSeen("w7", "studio.video", 1, "RUNNING", "c.u")
    seen = replace(deleted(phase="Starting", started=False), lookup=(run,))
    assert decide_run(seen, NOW) == do.Terminate("w7", "its WorkflowRun was deleted")
    seen = replace(seen, done=frozenset({"Terminate", "Terminate w7"}))
    assert decide_run(seen, NOW) == do.FindFamily(
        ("w7",), "studio.video", "c.u", NOW + timedelta(seconds=119)
    )
    seen = replace(seen, family=(Relative("w7", True),), done=seen.done | {"Remove"})
    note = let_go(decide_run(seen, NOW))
    assert note is not None
    assert note.message == "run w7 was removed from Conductor; its data is gone"


def failing(where: str, ago: float) -> Seen:
    seen = deleted(ago=ago)
    match where:
        case "the look":
            return replace(seen, conductor=AWAY, fresh=True)
        case "the search":
            return replace(look(seen, "COMPLETED"), family=AWAY)
        case "the end":
            return replace(look(seen, "RUNNING"), failure="Conductor is away", done=frozenset({"Terminate"}))
        case _:
            return replace(
                look(seen, "COMPLETED"),
                family=FAMILY,
                failure="Conductor is away",
                done=frozenset({"Remove"}),
            )


@pytest.mark.parametrize("where", ["the look", "the search", "the end", "the removal"])
def test_it_waits_for_conductor_but_not_beyond_the_deletion_timeout(where: str) -> None:
    waiting = decide_run(failing(where, ago=119), NOW)
    assert isinstance(waiting, Report)
    assert waiting.requeue_after == timedelta(seconds=1)
    assert waiting.notes[0].reason == "DeletionWaits"
    note = let_go(decide_run(failing(where, ago=120), NOW))
    assert note is not None
    assert (note.kind, note.reason) == ("Warning", "PurgeIncomplete")
    assert "Conductor is away" in note.message


def test_what_was_deleted_long_ago_is_tried_once_all_the_same() -> None:
    seen = look(deleted(ago=9999), "COMPLETED")
    find = decide_run(seen, NOW)
    assert isinstance(find, do.FindFamily)
    assert find.until > NOW


@pytest.mark.parametrize("policy", ["Terminate", "Purge"])
def test_an_action_that_may_still_come_through_keeps_a_deleted_run_from_going(policy: str) -> None:
    """Else the run that it sets going again would be nobody's."""
    pending = {"id": "1", "type": "Retry", "at": at(30), "mark": "0", "attempt": 1}

    def asked(**more: Any) -> Seen:
        seen = deleted(phase="Failed", deletionPolicy=policy, **more)
        return replace(seen, run=replace(seen.run, status={**seen.run.status, "pendingAction": pending}))

    assert decide_run(asked(), NOW) == do.ReadRun("w1")
    assert decide_run(look(asked(), "RUNNING"), NOW) == do.Terminate("w1", "its WorkflowRun was deleted")
    held = decide_run(look(asked(), "FAILED"), NOW)
    assert isinstance(held, Report)
    assert "may set the run going again" in held.words[0].message
    for seen in (
        replace(look(asked(), "FAILED"), conductor=RunSeen("w1", "n", 1, "FAILED", "c.u", retried_ms=5)),
        look(asked(ago=121), "FAILED"),
    ):
        effect = decide_run(seen, NOW)
        assert isinstance(effect, do.FindFamily if policy == "Purge" else do.SetFinalizers)
