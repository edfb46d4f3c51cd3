"""What the operator knows of the cluster: never older than what it knew; and how it heals."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from podium.core.objects import WorkflowRun, project_workflow_run
from podium.core.workflow import RunTally
from podium.ports import Json, Key
from podium.reconciler.resync import resync
from podium.reconciler.store import Store
from support.fakes import BEGINNING, FakeCluster


def run(
    name: str = "r",
    version: int = 1,
    *,
    uid: str = "u",
    of: str = "video",
    status: Json | None = None,
    **spec: Any,
) -> WorkflowRun:
    return project_workflow_run(
        {
            "metadata": {
                "name": name,
                "namespace": "studio",
                "uid": uid,
                "resourceVersion": str(version),
                "creationTimestamp": BEGINNING.isoformat(),
            },
            "spec": {"workflow": of, **spec},
            "status": status or {},
        }
    )


@given(st.lists(st.integers(1, 10**6), min_size=1))
def test_in_whatever_order_events_come_the_newest_stays(versions: list[int]) -> None:
    store = Store()
    newest = 0
    for version in versions:
        assert store.put_run(run(version=version)) == (version > newest)
        newest = max(newest, version)
    [kept] = store.runs.values()
    assert kept.resource_version == str(max(versions))


def test_versions_are_numbers_not_text() -> None:
    store = Store()
    assert store.put_run(run(version=9))
    assert store.put_run(run(version=10))


def test_an_object_that_was_made_again_is_news() -> None:
    store = Store()
    store.put_run(run(version=10, uid="old"))
    assert store.put_run(run(version=11, uid="new"))


def test_runs_are_found_by_their_workflow_and_namespace() -> None:
    store = Store()
    for name, of in (("a", "video"), ("b", "video"), ("c", "audio")):
        store.put_run(run(name, of=of))
    assert {item.key.name for item in store.runs_of("studio", "video")} == {"a", "b"}
    assert list(store.runs_of("other", "video")) == []
    store.remove_run(Key("WorkflowRun", "studio", "a"))
    store.remove_run(Key("WorkflowRun", "studio", "never-there"))
    assert {item.key.name for item in store.runs_of("studio", "video")} == {"b"}


def test_a_run_made_again_for_another_workflow_moves() -> None:
    store = Store()
    store.put_run(run("a", 1, uid="old", of="video"))
    store.put_run(run("a", 2, uid="new", of="audio"))
    assert list(store.runs_of("studio", "video")) == []
    assert len(list(store.runs_of("studio", "audio"))) == 1


def test_the_tally_of_a_workflow() -> None:
    store = Store()
    for name, phase, version in (
        ("a", "Running", 1),
        ("b", "Succeeded", 2),
        ("c", "Failed", 2),
        ("d", "TimedOut", 3),
        ("e", "Pending", None),
    ):
        conductor = {"conductor": {"version": version}} if version else {}
        store.put_run(run(name, status={"phase": phase, **conductor}))
    assert store.tally("studio", "video") == RunTally(2, 1, 2, frozenset({1, 2, 3}))


def test_the_oldest_run_of_some_workflows_that_has_not_ended() -> None:
    store = Store()
    store.put_run(run("a", of="video", status={"phase": "Succeeded"}))
    assert store.oldest_active("studio", ["video", "audio"]) is None
    active = run("b", of="audio", status={"phase": "Running"})
    store.put_run(active)
    assert store.oldest_active("studio", ["video", "audio"]) == active.created
    assert store.oldest_active("studio", ["video"]) is None


async def test_resync_heals_and_counts_what_no_event_told() -> None:
    cluster, store = FakeCluster(), Store()
    kept = cluster.put("WorkflowRun", "kept", {"spec": {"workflow": "video"}})
    gone = cluster.put("WorkflowRun", "gone", {"spec": {"workflow": "video"}})
    video = cluster.put("Workflow", "video", {"spec": {"definition": {"name": "v", "tasks": []}}})
    woken: list[Key] = []
    missed: list[str] = []

    async def again() -> tuple[set[Key], int]:
        woken.clear()
        missed.clear()
        await resync(cluster, store, woken.append, lambda: missed.append("x"), (), first=False)
        return set(woken), len(missed)

    assert await again() == ({kept, gone, video}, 3)
    assert await again() == ({kept, gone, video}, 0)
    del cluster.objects[gone]
    del cluster.objects[video]
    cluster.touch(kept)
    assert await again() == ({kept, gone, video}, 3)
    assert (set(store.runs), set(store.workflows)) == ({kept}, set())


async def test_resync_leaves_in_peace_what_is_over_or_in_order() -> None:
    cluster, store = FakeCluster(), Store()
    ready = {
        "observedGeneration": 1,
        "conditions": [{"type": "Ready", "status": "True", "reason": "Registered"}],
    }
    over = cluster.put("WorkflowRun", "over", {"spec": {"workflow": "v"}, "status": {"phase": "Failed"}})
    active = cluster.put("WorkflowRun", "active", {"spec": {"workflow": "v"}, "status": {"phase": "Running"}})
    good = cluster.put("Workflow", "good", {"spec": {"definition": {}}, "status": ready})
    changed = cluster.put(
        "Workflow", "bad", {"spec": {"definition": {}}, "status": {**ready, "observedGeneration": 0}}
    )
    woken: list[Key] = []
    await resync(cluster, store, woken.append, lambda: None, (), first=True)
    assert set(woken) == {over, active, good, changed}
    woken.clear()
    await resync(cluster, store, woken.append, lambda: None, (), first=False)
    assert set(woken) == {active, changed}


async def test_resync_of_one_namespace_leaves_others_alone() -> None:
    cluster, store = FakeCluster(), Store()
    own = cluster.put("WorkflowRun", "a", {"spec": {"workflow": "video"}})
    cluster.put("WorkflowRun", "b", {"spec": {"workflow": "video"}}, namespace="other")
    await resync(cluster, store, lambda _: None, lambda: None, ("studio",), first=True)
    assert set(store.runs) == {own}
