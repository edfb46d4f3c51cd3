"""Finished runs are deleted once each, not too many at once, and people are told in few words."""

from datetime import timedelta
from typing import Any

import pytest

from podium.core.objects import project_workflow, project_workflow_run
from podium.core.retention import Policy
from podium.ports import Json, Key, Outage, Refused, RetryLater
from podium.reconciler.connections import Connections, Link
from podium.reconciler.retention import RetentionReconciler, retention_key
from podium.reconciler.store import Store
from support.fakes import FakeClock, FakeCluster, FakeConductor, FakeRecorder, FakeTracker, run_now

KEY = retention_key("studio", "video")
PAST = "finished runs deleted: "


class Desk:
    """A cluster, a store that hears of it when `watch` is called, and the reconciler."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.cluster = FakeCluster()
        self.recorder = FakeRecorder()
        self.store = Store()
        self.deleted: list[str] = []
        self.away = False
        self.protected: set[str] = set()
        self.asked: list[str] = []
        self.conductor = FakeConductor(self.clock)
        link = Link(self.conductor, FakeTracker(self.conductor))  # type: ignore[arg-type]
        self.connections = Connections(link, self.store)
        self.reconciler = RetentionReconciler(
            self,  # type: ignore[arg-type]
            self.connections,
            self.clock,
            self.recorder,
            self.store,
            Policy(),
        )

    async def delete(self, key: Key, *, uid: str, resource_version: str) -> None:
        if self.away:
            raise RetryLater("the API server is away")
        self.asked.append(key.name)
        if key.name in self.protected:
            raise Refused("the API server answered 403 Forbidden: keep it")
        await self.cluster.delete(key, uid=uid, resource_version=resource_version)
        self.deleted.append(key.name)

    def workflow(self, **history: Any) -> None:
        self.cluster.put(
            "Workflow",
            "video",
            {"spec": {"flow": {"nodes": [{"id": "a", "type": "a"}]}, "runHistory": history}},
        )
        self.watch()

    def finish(self, *names: str, conductor: Json | None = None, **spec: Any) -> None:
        ended = (self.clock.now()).isoformat()
        status: Json = {"phase": "Succeeded", "finishedAt": ended, "observedGeneration": 1}
        if conductor is not None:
            status["conductor"] = conductor
        for name in names:
            self.cluster.put(
                "WorkflowRun", name, {"spec": {"workflow": "video", **spec}, "status": status.copy()}
            )
        self.watch()

    def watch(self) -> None:
        for key, body in self.cluster.objects.items():
            if key.kind == "Workflow":
                self.store.put_workflow(project_workflow(body))
            else:
                self.store.put_run(project_workflow_run(body))
        for key in [key for key in self.store.runs if key not in self.cluster.objects]:
            self.store.remove_run(key)

    def look(self, *, watch: bool = True) -> float | None:
        again = run_now(self.reconciler.reconcile(KEY))
        if watch:
            self.watch()
        return again

    @property
    def news(self) -> list[str]:
        return [message for _, _, message in self.recorder.events]


@pytest.fixture
def desk() -> Desk:
    return Desk()


def test_a_run_is_deleted_when_its_time_is_over(desk: Desk) -> None:
    desk.workflow(ttlAfterFinished="60s")
    desk.finish("r")
    assert desk.look() == 60
    desk.clock.advance(60)
    assert desk.look() is None
    assert desk.deleted == ["r"]
    assert desk.recorder.counts == {"runs_deleted ttl": 1}
    assert desk.recorder.events == [
        (
            Key("Workflow", "studio", "video"),
            "RunsDeleted",
            f"{PAST}1 (1 past ttlAfterFinished); what Conductor has of them stays there",
        )
    ]


def test_a_run_is_not_deleted_again_before_the_watch_tells_that_it_is_gone(desk: Desk) -> None:
    desk.workflow(succeeded=0)
    desk.finish("a", "b")
    desk.look(watch=False)
    desk.look(watch=False)
    assert sorted(desk.deleted) == ["a", "b"]
    assert desk.recorder.counts == {"runs_deleted history": 2}


def test_a_run_that_someone_has_just_asked_to_retry_is_left_although_the_watch_is_late(desk: Desk) -> None:
    desk.workflow(succeeded=0)
    desk.finish("a", "b")
    action = {"id": "1", "type": "Retry"}
    desk.cluster.put("WorkflowRun", "a", {"spec": {"workflow": "video", "action": action}})
    assert desk.look(watch=False) == 2
    assert desk.deleted == ["b"]
    assert desk.recorder.counts == {"runs_deleted history": 1}
    desk.watch()
    desk.look()
    assert desk.deleted == ["b"]


def test_a_run_that_only_changed_goes_when_the_watch_has_told(desk: Desk) -> None:
    desk.workflow(succeeded=0)
    desk.finish("a")
    desk.cluster.touch(Key("WorkflowRun", "studio", "a"))
    desk.look()
    assert desk.deleted == []
    desk.look()
    assert desk.deleted == ["a"]


def test_many_go_in_small_parts_and_people_hear_of_it_once(desk: Desk) -> None:
    desk.workflow(succeeded=5)
    desk.finish(*(f"r{number:03}" for number in range(105)))
    passes = 0
    while (again := desk.look()) is not None and again < 60:
        passes += 1
        assert len(desk.deleted) <= 20 * (passes + 1)
        desk.clock.advance(again)
    assert desk.deleted == [f"r{number:03}" for number in range(100)]
    assert passes >= 4
    assert desk.news == [f"{PAST}100 (100 over the history limits); what Conductor has of them stays there"]


def test_all_workflows_together_delete_twenty_a_second(desk: Desk) -> None:
    desk.workflow(succeeded=0)
    for number in range(200):
        desk.finish(f"r{number}")
    begun = desk.clock.now()
    while len(desk.deleted) < 200:
        desk.look()
        desk.clock.advance(0.1)
    assert desk.clock.now() - begun > timedelta(seconds=8)


def test_runs_that_come_and_go_all_the_time_are_told_of_every_five_minutes(desk: Desk) -> None:
    desk.workflow(succeeded=0)
    for number in range(601):
        desk.finish(f"r{number}")
        desk.look()
        desk.clock.advance(1)
    assert len(desk.news) == 3
    assert desk.news[1].startswith(f"{PAST}300 ")


def test_what_was_deleted_is_told_later_even_if_nothing_else_happens(desk: Desk) -> None:
    desk.workflow(succeeded=0)
    desk.finish("a")
    desk.look()
    desk.finish("b")
    again = desk.look()
    assert again is not None
    assert 290 < again <= 300
    desk.clock.advance(again)
    assert desk.look() is None
    assert [news.split(" (")[0] for news in desk.news] == [f"{PAST}1", f"{PAST}1"]


def test_an_api_server_that_is_away_loses_and_doubles_nothing(desk: Desk) -> None:
    desk.workflow(succeeded=0)
    desk.finish("a", "b")
    desk.away = True
    with pytest.raises(RetryLater):
        desk.look()
    assert desk.recorder.counts == {}
    desk.away = False
    desk.look()
    assert desk.deleted == ["a", "b"]


def test_a_runs_own_time_works_without_its_workflow(desk: Desk) -> None:
    desk.finish("r", ttlAfterFinished="10s")
    assert desk.look() == 10
    desk.clock.advance(10)
    assert desk.look() is None
    assert desk.deleted == ["r"]
    assert desk.recorder.events == []


def test_it_says_what_goes_from_conductor_too(desk: Desk) -> None:
    desk.workflow(succeeded=0)
    desk.finish("kept")
    desk.finish("purged", deletionPolicy="Purge")
    desk.look()
    assert desk.news == [
        f"{PAST}2 (2 over the history limits); 1 of them removed from Conductor too, the others stay there"
    ]


def test_what_is_purged_waits_until_its_conductor_is_back(desk: Desk) -> None:
    desk.workflow(succeeded=0, purge=True)
    desk.finish("here", conductor={"workflowId": "w1"})
    desk.finish("there", conductor={"workflowId": "w2", "connection": "second"})
    desk.conductor.outage = Outage(desk.clock.now(), "no connection")
    assert desk.look() == 60
    assert desk.deleted == [], "neither the one whose Conductor is away, nor the one that has none"
    other = FakeConductor(desk.clock)
    second = Key("ConductorConnection", "studio", "second")
    desk.connections.put(second, Link(other, FakeTracker(other)))  # type: ignore[arg-type]
    desk.look()
    assert desk.deleted == ["there"]
    desk.conductor.outage = None
    desk.look()
    assert desk.deleted == ["there", "here"]


def test_what_stays_in_conductor_does_not_wait_for_it(desk: Desk) -> None:
    desk.workflow(succeeded=0)
    desk.finish("r", conductor={"workflowId": "w1"})
    desk.conductor.outage = Outage(desk.clock.now(), "no connection")
    desk.look()
    assert desk.deleted == ["r"]


REFUSED = "the API server answered 403 Forbidden: keep it"


def test_what_may_not_be_deleted_stops_nobody_and_is_told(desk: Desk) -> None:
    desk.protected = {"r0", "r2"}
    desk.workflow(succeeded=0)
    for number in range(4):
        desk.finish(f"r{number}")
        desk.clock.advance(1)
    assert desk.look() == 60
    assert desk.deleted == ["r1", "r3"]
    assert [(reason, message) for _, reason, message in desk.recorder.events] == [
        ("DeletionRefused", f"kept no longer, but may not be deleted: r0 (and 1 more): {REFUSED}"),
        ("RunsDeleted", f"{PAST}2 (2 over the history limits); what Conductor has of them stays there"),
    ]
    assert desk.recorder.counts == {"runs_deleted history": 2}


def test_what_may_not_be_deleted_is_tried_again_after_a_minute_and_told_every_five(desk: Desk) -> None:
    desk.protected = {"r"}
    desk.workflow(succeeded=0)
    desk.finish("r")
    for _ in range(10):
        assert desk.look() == 60
        desk.clock.advance(59)
        desk.look()
        desk.clock.advance(1)
    assert desk.asked == ["r"] * 10
    assert [reason for _, reason, _ in desk.recorder.events] == ["DeletionRefused"] * 2
    desk.protected.clear()
    desk.look()
    assert desk.deleted == ["r"]


def test_what_may_not_be_deleted_takes_nobodys_place(desk: Desk) -> None:
    desk.protected = {f"r{number:03}" for number in range(10)}
    desk.workflow(succeeded=0)
    desk.finish(*(f"r{number:03}" for number in range(100)))
    assert desk.look() == 1
    assert desk.deleted == [f"r{number:03}" for number in range(10, 30)]


def test_many_that_may_not_be_deleted_keep_nobody_waiting_or_busy(desk: Desk) -> None:
    desk.protected = {f"p{number:03}" for number in range(400)}
    desk.workflow(succeeded=0)
    desk.finish(*sorted(desk.protected))
    desk.finish(*(f"r{number:03}" for number in range(100)))
    begun = desk.clock.now()
    while len(desk.deleted) < 100:
        asked = len(desk.asked)
        desk.clock.advance(desk.look(watch=False) or 0)
        assert len(desk.asked) - asked <= 40, "others have their turn"
    assert desk.clock.now() - begun <= timedelta(minutes=1)
    asked, begun = len(desk.asked), desk.clock.now()
    while desk.clock.now() - begun < timedelta(minutes=2):
        desk.clock.advance(desk.look(watch=False) or 0)
    assert 0 < len(desk.asked) - asked <= 5 * 121


def test_without_its_workflow_the_run_itself_says_that_it_may_not_be_deleted(desk: Desk) -> None:
    desk.protected = {"r"}
    desk.finish("r", ttlAfterFinished="0s")
    desk.look()
    [(key, reason, message)] = desk.recorder.events
    assert (key, reason) == (Key("WorkflowRun", "studio", "r"), "DeletionRefused")
    assert message == f"kept no longer, but may not be deleted: r: {REFUSED}"


def test_ten_thousand_finished_runs_cost_nothing_at_rest(desk: Desk) -> None:
    desk.workflow()
    desk.finish(*(f"r{number}" for number in range(10_000)))
    assert desk.look() is None
    assert desk.deleted == []
