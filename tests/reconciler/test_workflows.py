"""A look at all Workflows while the watch goes on."""

from datetime import timedelta

from podium.core import workflow
from podium.core.definitions import Rules
from podium.core.objects import project_workflow
from podium.ports import Polled
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
