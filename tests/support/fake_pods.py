"""Deployments, pods and their workers in memory: for laws about pools that need hours."""

import asyncio
import copy
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from podium.core.pools.pods import DELETION_COST
from podium.ports import Conflict, Gone, Json, RetryLater, WorkerLoad
from support.fakes import FakeClock

OnList = Callable[[list[Json], str], None]
OnObject = Callable[[Json], None]


@dataclass
class FakePod:
    """A pod with a worker in it; times are those of `FakeClock.monotonic`."""

    body: Json
    ready_at: float
    tasks: list[float] = field(default_factory=list)
    """When each of its tasks ends."""

    @property
    def leaving(self) -> bool:
        """Whether it was told to stop."""
        return "deletionTimestamp" in self.body["metadata"]


class FakeWorkloads:
    """`podium.ports.Workloads` and `podium.ports.Workers`, and what a cluster does with a Deployment."""

    def __init__(self, clock: FakeClock, *, seed: int = 0, starts_in: float = 3.0, slots: int = 5) -> None:
        self._clock = clock
        self._random = random.Random(seed)
        self._starts_in = starts_in
        self._slots = slots
        self._numbers = itertools.count(1)
        self._following: dict[str, tuple[OnList, OnObject, OnObject]] = {}
        self.trouble: dict[str, str] = {}
        self.objects: dict[tuple[str, str], Json] = {}
        """(kind, name) → the object."""
        self.pods: dict[str, FakePod] = {}
        self.writes = 0
        self.waiting = 0
        """Tasks in the queue."""
        self.done = 0
        self.told_to_go_with_tasks = 0
        """Pods that were chosen while they had tasks."""
        self.deaf = False
        """Workers do not answer."""
        self.namespaces = ("",)
        self.history: list[int] = []
        """Replicas of the Deployment, each time that they changed."""

    # --- the port ------------------------------------------------------------------------------------

    async def make(self, body: Json) -> Json:
        """Create an object."""
        self.writes += 1
        key = (body["kind"], body["metadata"]["name"])
        if key in self.objects:
            raise Conflict("it is there")
        return self._put(key, {**body, "metadata": {**body["metadata"], "uid": f"uid-{next(self._numbers)}"}})

    async def read(self, body: Json) -> Json:
        """The object of this name."""
        key = (body["kind"], body["metadata"]["name"])
        if key not in self.objects:
            raise Gone("it is not there")
        return copy.deepcopy(self.objects[key])

    async def apply(self, body: Json, *, uid: str) -> Json:
        """Make it so."""
        self.writes += 1
        key = (body["kind"], body["metadata"]["name"])
        known = self.objects.get(key)
        if known is None or known["metadata"]["uid"] != uid:
            raise Conflict("another uid")
        return self._put(key, {**body, "metadata": {**body["metadata"], "uid": uid}})

    async def mark_pod(self, namespace: str, name: str, *, uid: str, annotations: dict[str, str]) -> Json:
        """Set annotations."""
        self.writes += 1
        if name not in self.pods:
            raise Gone("it went")
        pod = self.pods[name]
        pod.body["metadata"].setdefault("annotations", {}).update(annotations)
        self._tell_pod(pod)
        return copy.deepcopy(pod.body)

    async def follow(self, kind: str, on_list: OnList, on_object: OnObject, on_gone: OnObject) -> None:
        """Tell of everything, until cancelled."""
        self._following[kind] = (on_list, on_object, on_gone)
        if kind not in self.trouble:
            bodies = [body for (of, _), body in self.objects.items() if of == kind]
            on_list([pod.body for pod in self.pods.values()] if kind == "Pod" else bodies, "")
        await asyncio.Event().wait()

    async def read_load(self, ip: str) -> WorkerLoad:
        """How busy the pod with this address is."""
        pod = next((pod for pod in self.pods.values() if pod.body["status"].get("podIP") == ip), None)
        if pod is None or self.deaf:
            raise RetryLater("no answer")
        return WorkerLoad(len(pod.tasks), self._clock.now(), pod.leaving)

    # --- the cluster ---------------------------------------------------------------------------------

    @property
    def replicas(self) -> int:
        """That the Deployment asks for."""
        return next(
            (body["spec"]["replicas"] for (kind, _), body in self.objects.items() if kind == "Deployment"), 0
        )

    def step(self, lasts: Callable[[], float]) -> None:
        """What happens until now: tasks end, pods start, go and take tasks, of which each takes `lasts()`."""
        now = self._clock.monotonic()
        for pod in self.pods.values():
            self.done += sum(end <= now for end in pod.tasks)
            pod.tasks = [end for end in pod.tasks if end > now]
            running = now >= pod.ready_at
            if running and not pod.body["status"].get("podIP"):
                pod.body["status"] = _running(f"10.0.0.{next(self._numbers)}")
                self._tell_pod(pod)
        self._match_replicas(now)
        for pod in sorted(self.pods.values(), key=lambda pod: len(pod.tasks)):
            while self.waiting and len(pod.tasks) < self._slots and now >= pod.ready_at and not pod.leaving:
                self.waiting -= 1
                pod.tasks.append(now + lasts())
        for name in [name for name, pod in self.pods.items() if pod.leaving and not pod.tasks]:
            pod = self.pods.pop(name)
            self._following["Pod"][2](pod.body)

    def _match_replicas(self, now: float) -> None:
        staying = [pod for pod in self.pods.values() if not pod.leaving]
        for _ in range(self.replicas - len(staying)):
            name = f"pod-{next(self._numbers)}"
            metadata = {
                "name": name,
                "namespace": "studio",
                "uid": f"uid-{name}",
                "labels": {"podium.dev/pool": "media"},
            }
            pod = FakePod(
                {"kind": "Pod", "metadata": metadata, "status": {"phase": "Pending"}}, now + self._starts_in
            )
            self.pods[name] = pod
            self._tell_pod(pod)
        self._random.shuffle(staying)
        staying.sort(
            key=lambda pod: (
                now >= pod.ready_at,
                int(pod.body["metadata"].get("annotations", {}).get(DELETION_COST, 0)),
            )
        )
        for pod in staying[: max(0, len(staying) - self.replicas)]:
            pod.body["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
            self.told_to_go_with_tasks += bool(pod.tasks)
            self._tell_pod(pod)

    def _put(self, key: tuple[str, str], body: Json) -> Json:
        known = self.objects.get(key)
        metadata = {**body["metadata"], "namespace": "studio", "resourceVersion": str(next(self._numbers))}
        generation = known["metadata"]["generation"] if known else 1
        moved = known is not None and known.get("spec") != body.get("spec")
        stored: dict[str, Any] = {
            **body,
            "metadata": {**metadata, "generation": generation + moved},
            "status": {},
        }
        if key[0] == "Deployment" and (
            known is None or known["spec"]["replicas"] != body["spec"]["replicas"]
        ):
            self.history.append(body["spec"]["replicas"])
        self.objects[key] = stored
        if key[0] in self._following:
            self._following[key[0]][1](copy.deepcopy(stored))
        return copy.deepcopy(stored)

    def _tell_pod(self, pod: FakePod) -> None:
        pod.body["metadata"]["resourceVersion"] = str(next(self._numbers))
        self._following["Pod"][1](copy.deepcopy(pod.body))


def _running(ip: str) -> Json:
    return {
        "phase": "Running",
        "podIP": ip,
        "conditions": [{"type": "Ready", "status": "True"}],
        "containerStatuses": [{"name": "worker", "state": {"running": {}}}],
    }
