"""What pools have made in the cluster: their Deployments and pods, as the watch tells."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import get_args

from podium.core.pools.pods import OwnedKind, OwnedSeen, PodSeen, is_over, project_owned, project_pod
from podium.ports import Json, Key, Workloads

_NOTHING: Mapping[str, PodSeen] = {}


class Fleet:
    """Deployments, pods and what else belongs to pools, by the name of the pool."""

    def __init__(self, workloads: Workloads, wake: Callable[[Key], None]) -> None:
        """`wake(key)`: have a pool looked at, because something of it moved."""
        self._workloads = workloads
        self._wake = wake
        self._owned: dict[Key, OwnedSeen] = {}
        self._pods: defaultdict[Key, dict[str, PodSeen]] = defaultdict(dict)
        kinds = ("Pod", *get_args(OwnedKind))
        self._unlisted = {(kind, namespace) for kind in kinds for namespace in workloads.namespaces}
        self.listed = asyncio.Event()
        """Set once everything was listed: before that nothing is known to be absent."""

    async def run(self) -> None:
        """Follow everything until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for kind in get_args(OwnedKind):
                tasks.create_task(self._follow_owned(kind), name=f"follow {kind}s")
            tasks.create_task(
                self._workloads.follow("Pod", self._on_pods, self.put_pod, self._on_pod_gone),
                name="follow pods",
            )

    @property
    def trouble(self) -> str:
        """Why not everything could be listed yet; "": it could, or was not tried yet."""
        if self.listed.is_set():
            return ""
        told = (self._workloads.trouble.get(kind) for kind, _ in sorted(self._unlisted))
        return next((f"the pools' objects cannot be read: {words}" for words in told if words), "")

    def owned(self, pool: Key) -> dict[str, OwnedSeen]:
        """Kind → the object of the pool's name."""
        keys = {kind: Key(kind, pool.namespace, pool.name) for kind in get_args(OwnedKind)}
        return {kind: self._owned[key] for kind, key in keys.items() if key in self._owned}

    def pods(self, pool: Key) -> tuple[PodSeen, ...]:
        """Its pods, but for those that have ended."""
        return tuple(self._pods.get(pool, _NOTHING).values())

    def put_owned(self, body: Json) -> OwnedSeen:
        """An object as it is now."""
        seen = project_owned(body)
        key = Key(seen.kind, seen.namespace, seen.name)
        known = self._owned.get(key)
        if known is None or known.uid != seen.uid or _newer(seen.resource_version, known.resource_version):
            self._owned[key] = seen
            if known != seen:
                self._wake(_pool(seen.namespace, seen.name))
        return self._owned[key]

    def put_pod(self, body: Json) -> None:
        """A pod as it is now."""
        pod = project_pod(body)
        if is_over(body):
            self._drop_pod(pod)
            return
        pods = self._pods[_pool(pod.namespace, pod.pool)]
        known = pods.get(pod.uid)
        if known is None or _newer(pod.resource_version, known.resource_version):
            pods[pod.uid] = pod
            if known != pod:
                self._wake(_pool(pod.namespace, pod.pool))

    # --- from the watch ------------------------------------------------------------------------------

    async def _follow_owned(self, kind: str) -> None:
        def on_list(items: list[Json], namespace: str) -> None:
            here = {Key(kind, item["metadata"]["namespace"], item["metadata"]["name"]) for item in items}
            known = [key for key in self._owned if key.kind == kind and namespace in ("", key.namespace)]
            for key in known:
                if key not in here:
                    self._remove(key)
            for item in items:
                self.put_owned(item)
            self._listed(kind, namespace)

        def on_object(body: Json) -> None:
            self.put_owned(body)

        def on_gone(body: Json) -> None:
            self._remove(Key(kind, body["metadata"]["namespace"], body["metadata"]["name"]))

        await self._workloads.follow(kind, on_list, on_object, on_gone)

    def _remove(self, key: Key) -> None:
        if self._owned.pop(key, None) is not None:
            self._wake(_pool(key.namespace, key.name))

    def _on_pods(self, items: list[Json], namespace: str) -> None:
        here = {item["metadata"]["uid"] for item in items}
        for pool in [key for key in self._pods if namespace in ("", key.namespace)]:
            for pod in [pod for pod in self._pods[pool].values() if pod.uid not in here]:
                self._drop_pod(pod)
        for item in items:
            self.put_pod(item)
        self._listed("Pod", namespace)

    def _on_pod_gone(self, body: Json) -> None:
        self._drop_pod(project_pod(body))

    def _drop_pod(self, pod: PodSeen) -> None:
        key = _pool(pod.namespace, pod.pool)
        if self._pods[key].pop(pod.uid, None) is not None:
            self._wake(key)
        if not self._pods[key]:
            del self._pods[key]

    def _listed(self, kind: str, namespace: str) -> None:
        self._unlisted.discard((kind, namespace))
        if not self._unlisted:
            self.listed.set()


def _pool(namespace: str, name: str) -> Key:
    return Key("WorkerPool", namespace, name)


def _newer(version: str, than: str) -> bool:
    return int(version or 0) > int(than or 0)
