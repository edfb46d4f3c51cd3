"""One WorkflowRun and the real reconciler, on an API server and a Conductor in memory; time is a value."""

import itertools
from collections.abc import Iterable
from datetime import timedelta

from podium.api.v1alpha1.workflow_run import FINISHED
from podium.core.objects import project_workflow, project_workflow_run
from podium.core.runs import Policy
from podium.ports import Conflict, Json, Key, PortError, RunSeen
from podium.reconciler.connections import Connections, Link
from podium.reconciler.runs import RunReconciler
from podium.reconciler.store import Store
from support.fakes import (
    FakeClock,
    FakeCluster,
    FakeConductor,
    FakeRecorder,
    FakeTracker,
    Fate,
    Killed,
    run_now,
)

WAIT = 90.0
"""Seconds before a start that was not confirmed is repeated."""
CLUSTER = "cluster"


class World:
    """One WorkflowRun, an operator that can be killed, and what they live in."""

    def __init__(
        self,
        fates: Iterable[tuple[Fate, float]] = (),
        kill_at: Iterable[int] = (),
        *,
        lose_answers: Iterable[bool] = (),
        wait: float = WAIT,
        lasts: float = 1.0,
        status_interval: float = 1.0,
    ) -> None:
        self.clock = FakeClock()
        self.cluster = FakeCluster()
        self.conductor = FakeConductor(self.clock, lasts=lasts)
        self.conductor.fates = itertools.chain(fates, itertools.repeat(("answered", 0.0)))
        self.conductor.definitions["studio.video", 1] = {"name": "studio.video", "version": 1}
        self.cluster.lose_answer = itertools.chain(lose_answers, itertools.repeat(False))
        self.recorder = FakeRecorder()
        self.wait = wait
        self._status_interval = status_interval
        self.kills = 0
        self._kill_at = frozenset(kill_at)
        self._boundary = itertools.count()
        self.cluster.put(
            "Workflow",
            "video",
            {
                "spec": {"definition": {"name": "video", "tasks": []}},
                "status": {
                    "observedGeneration": 1,
                    "conductor": {"name": "studio.video", "version": 1},
                    "conditions": [{"type": "Ready", "status": "True", "reason": "Registered"}],
                },
            },
        )
        self.key: Key = self.cluster.put("WorkflowRun", "v1", {"spec": {"workflow": "video"}})
        self.correlation_id = f"{CLUSTER}.{self.cluster.objects[self.key]['metadata']['uid']}"
        self.restart()

    @property
    def status(self) -> Json:
        """As `kubectl get` shows it."""
        status: Json = self.cluster.objects[self.key]["status"]
        return status

    @property
    def runs(self) -> list[RunSeen]:
        """What Conductor has of it at the end of all delays."""
        return self.conductor.of(self.correlation_id)

    def restart(self) -> None:
        """A new process: it knows nothing but what it lists."""
        self.store = Store()
        self.tracker = FakeTracker(self.conductor)
        self.reconciler = RunReconciler(
            self.cluster,
            Connections(Link(self.conductor, self.tracker), self.store),  # type: ignore[arg-type]
            self.clock,
            self.recorder,
            self.store,
            Policy(CLUSTER, unknown_start_wait=timedelta(seconds=self.wait)),
            status_interval=self._status_interval,
            crash=self._crash,
        )
        self.watch()

    def watch(self) -> None:
        """The watch brings what changed."""
        for body in run_now(self.cluster.list("Workflow")):
            self.store.put_workflow(project_workflow(body))
        for body in run_now(self.cluster.list("WorkflowRun")):
            self.store.put_run(project_workflow_run(body))

    def step(self) -> float | None:
        """One pass, whatever comes of it; seconds until the next one is wanted."""
        try:
            return run_now(self.reconciler.reconcile(self.key))
        except Killed:
            self.kills += 1
            self.restart()
            return 0.0
        except Conflict:
            return 0.05
        except PortError:
            return 0.3
        finally:
            self.watch()

    def live(self, seconds: float) -> None:
        """Let it work for so long."""
        end = self.clock.monotonic() + seconds
        while self.clock.monotonic() < end:
            again = self.step()
            self.clock.advance(min(max(0.05, 1.0 if again is None else again), 5.0))
            self.tracker.read()

    def live_until_finished(self) -> None:
        """Let it work until its status says that it ended, for an hour at most."""
        while self.status.get("phase") not in FINISHED:
            assert self.clock.monotonic() < 3600, self.status
            self.live(1.0)

    def _crash(self, point: str) -> None:
        if next(self._boundary) in self._kill_at:
            raise Killed(point)
