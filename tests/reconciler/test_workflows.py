"""Passes over Workflows: what is written to Conductor and told to people."""

from datetime import timedelta
from typing import Any

import pytest

from podium.core import workflow
from podium.core.conditions import shorten
from podium.core.definitions import Rules
from podium.core.objects import project_worker_pool, project_workflow
from podium.ports import Json, Polled
from podium.reconciler.connections import Connections, Link
from podium.reconciler.store import Store
from podium.reconciler.workflows import WorkflowReconciler
from support.fakes import FakeClock, FakeCluster, FakeConductor, FakeRecorder, FakeTracker, run_now


def test_workflows_may_come_and_go_while_their_workers_are_looked_at() -> None:
    clock, store = FakeClock(), Store()

    def put(name: str) -> None:
        metadata = {
            "name": name,
            "namespace": "studio",
            "uid": name,
            "creationTimestamp": "2026-01-01T00:00:00Z",
        }
        spec = {"definition": {"name": name, "tasks": []}}
        store.put_workflow(project_workflow({"metadata": metadata, "spec": spec}))

    class Busy(FakeConductor):
        async def list_pollers(self) -> tuple[Polled, ...]:
            put("new")
            store.remove_workflow(next(iter(store.workflows)))
            return ()

    conductor = Busy(clock)
    reconciler = WorkflowReconciler(
        FakeCluster(),
        Connections(Link(conductor, FakeTracker(conductor)), store),  # type: ignore[arg-type]
        clock,
        FakeRecorder(),
        store,
        workflow.Policy(cluster_id="c", rules=Rules(), deletion_timeout=timedelta(minutes=2)),
        wake=lambda *_: None,
        status_interval=1.0,
    )
    for name in ("a", "b", "c"):
        put(name)
    run_now(reconciler.find_changed_workers())
    assert {key.name for key in store.workflows} == {"b", "c", "new"}


class House:
    """One Workflow, with the operator and a Conductor around it."""

    def __init__(self, rules: Rules | None = None) -> None:
        self.clock, self.store, self.cluster, self.recorder = (
            FakeClock(),
            Store(),
            FakeCluster(),
            FakeRecorder(),
        )
        self.conductor = FakeConductor(self.clock)
        self.restart(rules or Rules())

    def restart(self, rules: Rules) -> None:
        self.reconciler = WorkflowReconciler(
            self.cluster,  # type: ignore[arg-type]
            Connections(Link(self.conductor, FakeTracker(self.conductor)), self.store),  # type: ignore[arg-type]
            self.clock,
            self.recorder,
            self.store,
            workflow.Policy(cluster_id="c", rules=rules, deletion_timeout=timedelta(minutes=2)),
            wake=lambda *_: None,
            status_interval=1.0,
        )

    def apply(self, **spec: Any) -> Json:
        """The status after a pass with this spec."""
        self.key = self.cluster.put("Workflow", "w", {"spec": spec})
        return self.look()

    def look(self) -> Json:
        self.clock.advance(60)
        self.store.put_workflow(project_workflow(self.cluster.objects[self.key]))
        run_now(self.reconciler.reconcile(self.key))
        self.store.put_workflow(project_workflow(self.cluster.objects[self.key]))
        status: Json = self.cluster.objects[self.key]["status"]
        return status

    def told(self) -> list[str]:
        """The reasons of the Events since the last call."""
        events, self.recorder.events[:] = [reason for _, reason, _ in self.recorder.events], []
        return events


FLOW: Json = {"nodes": [{"id": "a", "type": "t"}]}


def test_the_same_in_other_words_is_not_told_as_restored() -> None:
    house = House()
    house.apply(flow=FLOW, timeout="60s")
    assert house.told() == ["Registered"]
    [first] = house.conductor.definitions.values()
    status = house.apply(flow=FLOW, timeout="1m")
    assert house.told() == []
    assert status["conductor"]["version"] == 1
    # Its mark is that of the new words: a later compiler knows it by them.
    [second] = house.conductor.definitions.values()
    assert first["metadata"]["podium"]["specHash"] != second["metadata"]["podium"]["specHash"]


@pytest.mark.parametrize("how", ["altered", "removed", "altered and worded otherwise"])
def test_what_was_altered_or_removed_is_told_as_restored(how: str) -> None:
    house = House()
    house.apply(flow=FLOW, timeout="60s")
    house.told()
    [(place, registered)] = house.conductor.definitions.items()
    if how == "removed":
        del house.conductor.definitions[place]
    else:
        house.conductor.definitions[place] = {**registered, "timeoutSeconds": 7}
    status = house.look() if how != "altered and worded otherwise" else house.apply(flow=FLOW, timeout="1m")
    assert house.told() == ["Restored"]
    assert status["conductor"]["version"] == 1
    assert house.conductor.definitions[place]["timeoutSeconds"] == 60
    house.look()
    assert house.told() == []


def test_a_name_that_means_another_workflow_makes_a_new_version() -> None:
    house = House()
    house.apply(flow=FLOW, failureWorkflow="notify")
    house.restart(Rules(allowed_names=frozenset({"notify"})))
    assert house.look()["conductor"]["version"] == 2
    made = {version: body["failureWorkflow"] for (_, version), body in house.conductor.definitions.items()}
    assert made == {1: "studio.notify", 2: "notify"}
    house.restart(Rules(allowed_names=frozenset({"notify", "more"})))
    assert house.look()["conductor"]["version"] == 2


@pytest.mark.parametrize("cut", [False, True])
def test_a_long_word_about_workers_is_no_news_for_ever(cut: bool) -> None:
    house = House()
    pools = {
        "metadata": {
            "name": "p",
            "namespace": "studio",
            "uid": "p",
            "creationTimestamp": "2026-01-01T00:00:00Z",
        },
        "spec": {
            "taskTypes": ["z"],
            "template": {"spec": {"containers": [{"name": "worker", "image": "x"}]}},
        },
    }
    house.store.put_pool(project_worker_pool(pools))
    status = house.apply(flow={"nodes": [{"id": letter, "type": letter * 60} for letter in "abcdef"]})
    condition = next(item for item in status["conditions"] if item["type"] == "WorkersAvailable")
    assert (condition["reason"], len(condition["message"])) == ("NoPool", 256)
    if cut:
        # As it stands in a status that has no room for more.
        condition["message"] = shorten(condition["message"], 60)
        house.store.put_workflow(project_workflow(house.cluster.objects[house.key]))
    assert run_now(house.reconciler.find_changed_workers()) == []


def test_a_long_complaint_is_told_once() -> None:
    house = House()
    house.apply(flow={"nodes": [{"id": "a", "type": "t", "config": {"x" * 300: "${ghost.output}"}}]})
    assert house.told() == ["InvalidDefinition"]
    house.look()
    assert house.told() == []
