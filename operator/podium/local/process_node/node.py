"""The stand-in node: a Node object, and a process for each pod that is bound to it."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import logging
import os
import socket
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp
from aiohttp import web

from podium.local.errors import LocalError
from podium.local.process_node.addresses import Addresses, claim_network
from podium.local.process_node.api_server import ApiError, ApiServer
from podium.local.process_node.container import Place
from podium.local.process_node.exits import Exits
from podium.local.process_node.pod import Host, PodRun
from podium.local.processes import Identity

Json = dict[str, Any]

log = logging.getLogger(__name__)

STAND_IN_LABEL = "podium.dev/stand-in"
LOGS_ANNOTATION = "podium.dev/logs"
_SECONDS_TO_LOOK_AGAIN = 0.5


class ProcessNode:
    """Runs the pods that `selector` chooses, of one namespace or of all.

    `folder` gets a folder for each pod (`pods/<namespace>/<name>/logs/<restart>.log`). Each instance needs a
    `name` of its own in its cluster.
    """

    def __init__(
        self,
        kubeconfig: Path,
        folder: Path,
        *,
        name: str = "stand-in",
        namespace: str | None = None,
        selector: str = "podium.dev/pool",
        address: str | None = None,
        entrypoint: Sequence[str] = ("podium-worker",),
    ) -> None:
        self.name = name
        self.address = address
        self._labels = {"kubernetes.io/hostname": name, STAND_IN_LABEL: "process"}
        self._folder = folder
        self._selector = selector
        self._pods_path = f"/api/v1/namespaces/{namespace}/pods" if namespace else "/api/v1/pods"
        self._entrypoint = tuple(entrypoint)
        self._api = ApiServer(kubeconfig)
        self._exits = Exits()
        self._runs: dict[str, PodRun] = {}
        self._living: dict[str, asyncio.Task[None]] = {}
        self._left_alone: set[str] = set()
        self._started = False
        self._stopping: float | None = None
        self._open = contextlib.AsyncExitStack()
        self._watching_exits: asyncio.Task[None]
        self._following: asyncio.Task[None]
        self._addresses: Addresses
        self._host: Host

    async def start(self) -> None:
        """Registers the Node and looks at the pods once. Raises LocalError."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        claim = claim_network(self.address)
        self._open.callback(claim.close)
        self.address = str(claim.getsockname()[0])
        self._addresses = Addresses(self.address)
        try:
            await self._open.enter_async_context(self._api)
            # A probe must not find yesterday's connection: each one asks anew, as a kubelet's do.
            connector = aiohttp.TCPConnector(force_close=True, limit=0)
            session = await self._open.enter_async_context(aiohttp.ClientSession(connector=connector))
            self._host = Host(self._api, session, self._exits, self._folder, self._entrypoint)
            await self._refuse_real_nodes()
            await self._register()
            version = await self._list_pods()
            await self._serve_health(claim)
        except ApiError as error:
            await self._open.aclose()
            raise LocalError(f"the stand-in node {self.name} cannot be registered: {error}") from error
        except BaseException:
            await self._open.aclose()
            raise
        self._watching_exits = asyncio.create_task(self._exits.watch())
        self._following = asyncio.create_task(self._follow_pods(version))
        self._started = True

    async def stop(self, grace: float = 5.0) -> None:
        """Ends every process within `grace` seconds, removes its pods and the Node. Does nothing twice."""
        if not self._started:
            return
        self._started, self._stopping = False, grace
        await _cancelled(self._following)
        for run in self._runs.values():
            run.end(grace)
        if self._living:
            await asyncio.wait(self._living.values(), timeout=grace + 10.0)
        await _cancelled(*self._living.values())
        with contextlib.suppress(ApiError):
            await self._api.delete(f"/api/v1/nodes/{self.name}", {})
        await _cancelled(self._watching_exits)
        await self._open.aclose()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    def identify(self, namespace: str, pod: str) -> Identity | None:
        """The process of a pod, for `podium.local.processes.stop`; None if none runs now."""
        run = self._find(namespace, pod)
        return run.identity if run else None

    def log_file(self, namespace: str, pod: str) -> Path | None:
        """What the container writes, since it was started last; None if it was not started yet."""
        run = self._find(namespace, pod)
        return run.log_file if run else None

    def _find(self, namespace: str, pod: str) -> PodRun | None:
        found = (run for run in self._runs.values() if (run.namespace, run.name) == (namespace, pod))
        return next(found, None)

    # --- the Node ------------------------------------------------------------------------------------

    async def _refuse_real_nodes(self) -> None:
        nodes = (await self._api.get("/api/v1/nodes"))["items"]
        real = [
            n["metadata"]["name"] for n in nodes if STAND_IN_LABEL not in (n["metadata"].get("labels") or {})
        ]
        if real:
            raise LocalError(
                f"this cluster has nodes that run pods ({', '.join(real[:3])}); a stand-in node beside them "
                "would take pods that belong there."
            )

    async def _register(self) -> None:
        now = _timestamp()
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        resources = {"cpu": str(os.cpu_count() or 1), "memory": str(memory), "pods": "10000"}
        ready = {"type": "Ready", "status": "True", "reason": "StandIn", "lastTransitionTime": now}
        status = {
            "capacity": resources,
            "allocatable": resources,
            "addresses": [
                {"type": "InternalIP", "address": self.address},
                {"type": "Hostname", "address": self.name},
            ],
            "conditions": [
                ready
                | {
                    "lastHeartbeatTime": now,
                    "message": "pods run as processes of this machine, without images",
                }
            ],
            "nodeInfo": {
                "kubeletVersion": "stand-in",
                "operatingSystem": "linux",
                **dict.fromkeys(("architecture", "kernelVersion", "osImage", "containerRuntimeVersion"), ""),
                **dict.fromkeys(("machineID", "systemUUID", "bootID", "kubeProxyVersion"), ""),
            },
        }
        path = f"/api/v1/nodes/{self.name}"
        node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": self.name, "labels": self._labels}}
        try:
            await self._api.create("/api/v1/nodes", node)
        except ApiError as error:
            if error.status != 409:  # left by one that was killed
                raise
        # The API server taints each new node until a controller says that it is ready. That one does not run
        # here (control_plane.py), and so nobody misses a heartbeat or a lease either.
        await self._api.patch(path, {"spec": {"taints": None}})
        await self._api.patch(f"{path}/status", {"status": status})

    async def _serve_health(self, claim: socket.socket) -> None:
        async def health(_request: web.Request) -> web.Response:
            return web.Response(text="ok")

        site = web.Application()
        site.router.add_get("/healthz", health)
        runner = web.AppRunner(site, access_log=None)
        await runner.setup()
        self._open.push_async_callback(runner.cleanup)
        await web.SockSite(runner, claim).start()

    # --- pods ----------------------------------------------------------------------------------------

    async def _follow_pods(self, version: str) -> None:
        while True:
            try:
                async for event in self._api.watch(self._pods_path, version, labelSelector=self._selector):
                    if event["type"] == "ERROR":
                        break
                    self._on_event(event["type"], event["object"])
            except ApiError as error:
                log.info("%s", error)
            await asyncio.sleep(_SECONDS_TO_LOOK_AGAIN)
            try:
                version = await self._list_pods()
            except ApiError as error:
                log.warning("the pods cannot be listed: %s", error)

    async def _list_pods(self) -> str:
        listing = await self._api.get(self._pods_path, labelSelector=self._selector)
        there = set()
        for pod in listing["items"]:
            there.add(pod["metadata"]["uid"])
            self._on_event("MODIFIED", pod)
        for uid in set(self._runs) - there:
            self._runs[uid].on_gone()
        return str(listing["metadata"]["resourceVersion"])

    def _on_event(self, kind: str, pod: Json) -> None:
        uid = pod["metadata"]["uid"]
        run = self._runs.get(uid)
        if kind == "DELETED":
            self._left_alone.discard(uid)
            if run is not None:
                run.on_gone()
        elif run is not None:
            run.on_pod(pod)
        elif uid not in self._living and uid not in self._left_alone and self._is_ours(pod):
            self._living[uid] = task = asyncio.create_task(self._accompany(pod))
            task.add_done_callback(lambda _: self._living.pop(uid, None))

    def _is_ours(self, pod: Json) -> bool:
        spec = pod["spec"]
        if spec.get("nodeName"):
            return bool(spec["nodeName"] == self.name)
        return not pod["metadata"].get("deletionTimestamp") and not spec.get("schedulingGates")

    async def _accompany(self, pod: Json) -> None:
        """From the first sight of a pod to its removal."""
        assert self.address is not None
        uid = pod["metadata"]["uid"]
        address = self._addresses.take()
        run = PodRun(pod, Place(self.name, self.address, address), self._host)
        try:
            if not pod["spec"].get("nodeName"):
                await self._bind(run)
            self._runs[uid] = run
            # What happened while it was bound.
            run.on_pod(await self._api.get(run.path))
            if self._stopping is not None:
                run.end(self._stopping)
            await run.live()
        except _LeftAlone:
            self._left_alone.add(uid)
        except ApiError as error:
            log.info("%s: %s", run, error)
        except Exception:
            log.exception("%s: a defect of the stand-in node", run)
        else:
            if not run.gone:
                # Until it is deleted, what the watch still tells of it is of the past.
                self._left_alone.add(uid)
        finally:
            self._runs.pop(uid, None)
            self._addresses.give_back(address)

    async def _bind(self, run: PodRun) -> None:
        """As a scheduler does. Raises ApiError if the pod is gone, _LeftAlone if it does not belong here."""
        wanted = run.pod["spec"].get("nodeSelector") or {}
        if not wanted.items() <= self._labels.items():
            await self._api.patch(f"{run.path}/status", {"status": {"conditions": [_unschedulable()]}})
            raise _LeftAlone
        binding = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": run.name, "annotations": {LOGS_ANNOTATION: str(run.folder / "logs")}},
            "target": {"apiVersion": "v1", "kind": "Node", "name": self.name},
        }
        while self._stopping is None:
            try:
                await self._api.create(f"{run.path}/binding", binding)
            except ApiError as error:
                if error.is_gone:
                    raise
                if error.status == 409:  # somebody else was quicker
                    raise _LeftAlone from error
                log.warning("%s is not bound: %s", run, error)
                await asyncio.sleep(_SECONDS_TO_LOOK_AGAIN)
            else:
                return
        raise _LeftAlone


class _LeftAlone(Exception):
    """A pod that this node has nothing to do with."""


async def _cancelled(*tasks: asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _unschedulable() -> Json:
    return {
        "type": "PodScheduled",
        "status": "False",
        "lastTransitionTime": _timestamp(),
        "reason": "Unschedulable",
        "message": "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector.",
    }


def _timestamp() -> str:
    return dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
