"""WorkerPools of tests: their manifests, the load for them, and what became of both."""

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from podium.adapters.workloads import KubernetesWorkloads
from podium.api.v1alpha1.worker_pool import POOL_LABEL
from podium.ports import Json, StartRequest
from support.bed import Bed
from support.eventually import eventually

AT_ONCE = 8


def pool(bed: Bed, name: str, *types: str, image: str = "podium-worker", **spec: Any) -> Json:
    """A WorkerPool of podium-worker.

    `env`: more of it. `functions`: the name of a ConfigMap and of the module in it, for real nodes.
    """
    container: Json = {
        "name": "worker",
        "image": image,
        "command": ["podium-worker"],
        "env": [{"name": "CONDUCTOR_SERVER_URL", "value": bed.conductor_url}, *spec.pop("env", [])],
    }
    pod: Json = {"containers": [container]}
    if module := spec.pop("functions", ""):
        pod["volumes"] = [{"name": "functions", "configMap": {"name": module}}]
        container["volumeMounts"] = [{"name": "functions", "mountPath": "/app", "readOnly": True}]
        container["env"].append({"name": "WORKER_FUNCTIONS", "value": module})
    return {
        "apiVersion": "podium.dev/v1alpha1",
        "kind": "WorkerPool",
        "metadata": {"name": name},
        "spec": {"taskTypes": list(types), "template": {"spec": pod}, **spec},
    }


def sleeping(name: str, seconds: float | str, task_type: str = "wait", **spec: Any) -> Json:
    """A Workflow of one task that takes so long; `seconds` may be an expression."""
    nodes = [{"id": "nap", "type": task_type, "config": {"seconds": seconds}}]
    return {
        "apiVersion": "podium.dev/v1alpha1",
        "kind": "Workflow",
        "metadata": {"name": name},
        "spec": {"flow": {"nodes": nodes}, **spec},
    }


# --- what becomes of pools --------------------------------------------------------------------------


@dataclass(frozen=True)
class Change:
    """A Deployment's replicas, as they were changed. `at`: Unix time."""

    at: float
    pool: str
    before: int
    after: int


@dataclass
class PoolWatch:
    """What the API server tells of the Deployments and pods of a namespace's pools."""

    replicas: dict[str, int] = field(default_factory=dict)
    changes: list[Change] = field(default_factory=list)
    exits: dict[tuple[str, int], int] = field(default_factory=dict)
    """(pod, how often it had begun anew) → the exit code of its worker."""
    never_begun: set[str] = field(default_factory=set)
    """Pods whose worker was not begun before they had to go."""
    told: dict[str, tuple[str, float]] = field(default_factory=dict)
    """Pod → (its pool, when it was seen that it shall go)."""
    drains: dict[str, float] = field(default_factory=dict)
    """Pod → seconds from there until it was gone."""

    @property
    def scale_downs(self) -> list[Change]:
        """Those that made a pool smaller."""
        return [change for change in self.changes if change.after < change.before]

    def put_deployment(self, body: Json) -> None:
        name, replicas = body["metadata"]["name"], body["spec"].get("replicas", 1)
        before = self.replicas.get(name)
        self.replicas[name] = replicas
        if before is not None and before != replicas:
            self.changes.append(Change(time.time(), name, before, replicas))

    def put_pod(self, body: Json) -> None:
        metadata = body["metadata"]
        if metadata.get("deletionTimestamp"):
            self.told.setdefault(metadata["name"], (metadata["labels"][POOL_LABEL], time.time()))
        for container in body.get("status", {}).get("containerStatuses", ()):
            count = container.get("restartCount", 0)
            for number, state in (
                (count, container.get("state", {})),
                (count - 1, container.get("lastState", {})),
            ):
                ended = state.get("terminated")
                if ended and ended.get("reason") == "ContainerStatusUnknown":
                    # The kubelet says 137 of one that the pod's end kept from beginning.
                    self.never_begun.add(metadata["name"])
                elif ended:
                    self.exits[metadata["name"], number] = ended["exitCode"]

    def drop_pod(self, body: Json) -> None:
        self.put_pod(body)
        name = body["metadata"]["name"]
        if name in self.told:
            self.drains[name] = time.time() - self.told[name][1]


@contextlib.asynccontextmanager
async def watch_pools(bed: Bed) -> AsyncIterator[PoolWatch]:
    """From now on, until the block ends."""
    watch, listed = PoolWatch(), asyncio.Event()
    workloads = KubernetesWorkloads(bed.cluster._api, (bed.namespace,))

    def on_deployments(items: list[Json], _: str) -> None:
        for item in items:
            watch.put_deployment(item)
        listed.set()

    def on_pods(items: list[Json], _: str) -> None:
        for item in items:
            watch.put_pod(item)

    follow = (
        workloads.follow("Deployment", on_deployments, watch.put_deployment, lambda _: None),
        workloads.follow("Pod", on_pods, watch.put_pod, watch.drop_pod),
    )
    following = [asyncio.create_task(item) for item in follow]
    try:
        await listed.wait()
        yield watch
    finally:
        for task in following:
            task.cancel()
        await asyncio.gather(*following, return_exceptions=True)


# --- their load -------------------------------------------------------------------------------------


class Naps:
    """Runs of sleeping Workflows that a plain client starts: the operator is told nothing of them."""

    def __init__(self, bed: Bed, session: aiohttp.ClientSession) -> None:
        self._bed = bed
        self._session = session
        self._turns = asyncio.Semaphore(AT_ONCE)
        self.ids: list[str] = []

    async def start(self, workflow: str, seconds: Iterable[float]) -> None:
        """A run for each, as fast as Conductor takes them."""

        async def one(duration: float) -> None:
            number = len(self.ids)
            name, domains = f"{self._bed.namespace}.{workflow}", {"*": self._bed.namespace}
            request = StartRequest(name, 1, f"nap-{number}", {"seconds": duration}, 0, domains)
            async with self._turns:
                self.ids.append(await self._bed.conductor.start(request))

        await asyncio.gather(*(one(duration) for duration in seconds))

    async def all_done_once(self, within: float) -> list[Json]:
        """Wait until all have ended; each must have been given out once, and completed. Their tasks."""
        return await all_done_once(self._session, self._bed.server.url, self.ids, within)


@contextlib.asynccontextmanager
async def naps_of(bed: Bed) -> AsyncIterator[Naps]:
    """For a block."""
    async with aiohttp.ClientSession() as session:
        yield Naps(bed, session)


async def all_done_once(
    session: aiohttp.ClientSession, url: str, ids: Iterable[str], within: float
) -> list[Json]:
    """By Conductor's own books: one attempt each, given out once, completed. All of their tasks."""

    async def read(workflow_id: str) -> Json:
        async with session.get(f"{url}/workflow/{workflow_id}") as answer:
            run: Json = await answer.json()
            return run

    tasks: list[Json] = []
    deadline = time.monotonic() + within
    for workflow_id in ids:
        left = max(1.0, deadline - time.monotonic())
        run = await eventually(
            lambda: read(workflow_id),  # noqa: B023 - awaited within this turn
            lambda seen: seen["status"] != "RUNNING",
            within=left,
            every=0.2,
        )
        told = [
            (task["taskType"], task["status"], task["retryCount"], task["pollCount"]) for task in run["tasks"]
        ]
        assert run["status"] == "COMPLETED", (run["status"], run.get("reasonForIncompletion"), told)
        for task in run["tasks"]:
            assert (task["status"], task["retryCount"], task["pollCount"]) == ("COMPLETED", 0, 1), told
        assert len({task["referenceTaskName"] for task in run["tasks"]}) == len(run["tasks"]), told
        tasks += run["tasks"]
    return tasks


def at_work_when_told(watch: PoolWatch, tasks: Iterable[Json]) -> dict[str, int]:
    """Pool → how many of its pods were told to stop while they had tasks, by Conductor's times."""
    spans: dict[str, list[tuple[float, float]]] = {}
    for task in tasks:
        span = (task["startTime"] / 1000, task["endTime"] / 1000)
        spans.setdefault(task["workerId"], []).append(span)
    found: dict[str, int] = {}
    for pod, (name, at) in watch.told.items():
        found[name] = found.get(name, 0) + any(begun < at < ended for begun, ended in spans.get(pod, ()))
    return found


def between(dice: random.Random, shortest: float, longest: float) -> float:
    """As many from 0.1 to 1 as from 1 to 10: most tasks are short, and a few very long."""
    return float(shortest * (longest / shortest) ** dice.random())
