"""A namespace on the real servers, with an operator in this process that tests can crash."""

import asyncio
import contextlib
import json
import os
import secrets
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from podium import app
from podium.adapters.conductor import HttpConductor
from podium.adapters.kubernetes import KubernetesCluster, load_configuration
from podium.local import Conductor, ControlPlane
from podium.local.process_node.node import ProcessNode
from podium.ports import Clock, Conflict, Gone, Json, Key
from podium.settings import Settings
from support.eventually import eventually
from support.worker import TestWorker


class Crashed(BaseException):
    """Thrown at the boundary of an effect: the process would be gone here."""


class Bed:
    """One test's namespace. `apply`, `get`, `until`; an operator; a worker."""

    def __init__(
        self,
        plane: ControlPlane,
        server: Conductor,
        notices: tuple[str, str],
        folder: Path,
        conductor_url: str | None = None,
    ) -> None:
        self.plane = plane
        self.server = server
        self._conductor_url = conductor_url
        self.folder = folder
        self.namespace = f"t-{secrets.token_hex(3)}"
        self._notices = notices
        self._open = contextlib.AsyncExitStack()
        self._operating: asyncio.Task[int] | None = None
        self._stop = asyncio.Event()
        self.workers: list[TestWorker] = []
        self.nodes: list[ProcessNode] = []

    @property
    def conductor_url(self) -> str:
        """As the operator is told; a test may put another `server` in place before it starts one."""
        return self._conductor_url or self.server.url

    async def __aenter__(self) -> "Bed":
        configuration = await load_configuration(str(self.plane.kubeconfig))
        self.cluster = await self._open.enter_async_context(KubernetesCluster(configuration))
        self.conductor = await self._open.enter_async_context(HttpConductor(self.conductor_url))
        await self.kubectl("create", "namespace", self.namespace)
        return self

    async def __aexit__(self, *_: object) -> None:
        for worker in self.workers:
            await worker.stop()
        await self.stop_operator()
        for node in self.nodes:
            await node.stop()
        await self.remove_namespace(self.namespace)
        await self._open.aclose()

    async def remove_namespace(self, namespace: str) -> None:
        """With what is in it: where no operator works nobody lets that go, and a server tries for ever."""
        for kind in ("WorkflowRun", "Workflow"):
            bodies = await self.cluster.list(kind, namespace)
            await asyncio.gather(*(self._let_go(kind, body) for body in bodies))
        await self.kubectl("delete", "namespace", namespace, "--wait=false")

    async def _let_go(self, kind: str, body: Json) -> None:
        metadata = body["metadata"]
        if metadata.get("finalizers"):
            key = Key(kind, metadata["namespace"], metadata["name"])
            with contextlib.suppress(Gone, Conflict):
                version = metadata["resourceVersion"]
                await self.cluster.patch_finalizers(key, (), resource_version=version)

    # --- the operator --------------------------------------------------------------------------------

    def settings(self, **changes: Any) -> Settings:
        """Those of a test: quick, and only this namespace."""
        address, token = self._notices
        given: dict[str, Any] = {
            "conductor_url": self.conductor_url,
            "kubeconfig": str(self.plane.kubeconfig),
            "namespaces": (self.namespace,),
            "listen": address,
            "notice_token": token,
            "unknown_start_wait": 2.0,
            "drift_interval": 1.0,
            "sweep_interval": 1.0,
            "deletion_timeout": 10.0,
        }
        return Settings.model_validate(given | changes)

    async def start_operator(
        self, *, crash: Callable[[str], None] | None = None, clock: Clock | None = None, **changes: Any
    ) -> None:
        """Run the operator in this loop, until it works."""
        self._stop = asyncio.Event()
        ready = asyncio.Event()
        self._operating = asyncio.create_task(
            app.operate(
                self.settings(**changes),
                self._stop,
                ready=ready,
                crash=crash or (lambda _: None),
                clock=clock,
            )
        )
        waiting = asyncio.create_task(ready.wait())
        await asyncio.wait({waiting, self._operating}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if self._operating.done():
            self._operating.result()

    async def stop_operator(self) -> int | None:
        """Politely; its exit code."""
        if self._operating is None:
            return None
        self._stop.set()
        operating, self._operating = self._operating, None
        return await operating

    async def crashed(self) -> None:
        """Wait until the operator is gone."""
        assert self._operating is not None
        await self._operating
        self._operating = None

    async def stop_operator_of(self, ending: "asyncio.Task[None]") -> None:
        """Politely, while someone waits for its crash."""
        self._stop.set()
        await ending

    def start_operator_process(self, **more: str) -> "subprocess.Popen[bytes]":
        """The operator as users run it: a process of its own, with its defaults and `more` variables."""
        address, token = self._notices
        environment = os.environ | {
            "KUBECONFIG": str(self.plane.kubeconfig),
            "PODIUM_CONDUCTOR_URL": self.conductor_url,
            "PODIUM_NAMESPACES": self.namespace,
            "PODIUM_LISTEN": address,
            "PODIUM_NOTICE_TOKEN": token,
            **more,
        }
        with (self.folder / "operator.log").open("ab") as log:
            return subprocess.Popen([sys.executable, "-m", "podium"], env=environment, stdout=log, stderr=log)

    # --- workers -------------------------------------------------------------------------------------

    async def start_worker(self, *task_types: str, **options: Any) -> TestWorker:
        """A worker in this loop that completes these task types."""
        worker = TestWorker(
            self.server.url, task_types, domain=options.pop("domain", self.namespace), **options
        )
        await worker.start()
        self.workers.append(worker)
        return worker

    async def start_process_node(self, **options: Any) -> ProcessNode:
        """The pods of this namespace's pools run as processes; `options` are those of ProcessNode."""
        node = ProcessNode(
            self.plane.kubeconfig,
            self.folder / "node",
            name=f"stand-in-{self.namespace}",
            namespace=self.namespace,
            **options,
        )
        await node.start()
        self.nodes.append(node)
        return node

    # --- objects -------------------------------------------------------------------------------------

    async def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """kubectl's stdout."""
        return await asyncio.to_thread(self.plane.run, *arguments, stdin=stdin)

    async def apply(self, *manifests: Json | str) -> str:
        """`kubectl apply` in this namespace: dicts or YAML text."""
        text = "\n---\n".join(
            item if isinstance(item, str) else yaml.safe_dump(item, sort_keys=False) for item in manifests
        )
        return await self.kubectl("apply", "-n", self.namespace, "-f", "-", stdin=text)

    def key(self, kind: str, name: str) -> Key:
        """In this namespace."""
        return Key(kind, self.namespace, name)

    async def get(self, kind: str, name: str) -> Json:
        """The object as it is; empty if there is none."""
        try:
            return await self.cluster.get(self.key(kind, name))
        except Gone:
            return {}

    async def events(self, reason: str) -> list[Json]:
        """Those of the namespace with this reason."""
        found = json.loads(
            await self.kubectl("get", "events.events.k8s.io", "-n", self.namespace, "-o", "json")
        )
        return [item for item in found["items"] if item["reason"] == reason]

    async def until(
        self, kind: str, name: str, wanted: Callable[[Json], object], *, within: float = 30.0
    ) -> Json:
        """Wait until the object is as wanted."""
        return await eventually(lambda: self.get(kind, name), wanted, within=within)

    async def until_phase(self, name: str, *phases: str, within: float = 30.0) -> Json:
        """Wait until a WorkflowRun is in one of these phases."""
        return await self.until(
            "WorkflowRun", name, lambda body: body.get("status", {}).get("phase") in phases, within=within
        )

    async def until_ready(self, name: str, *, within: float = 30.0) -> Json:
        """Wait until a Workflow is registered in its present generation."""
        return await self.until("Workflow", name, is_ready, within=within)


def is_ready(body: Json) -> bool:
    """Whether Ready is True for the present generation."""
    status = body.get("status") or {}
    return (
        status.get("observedGeneration") == body["metadata"]["generation"]
        and condition(body, "Ready").get("status") == "True"
    )


def condition(body: Json, kind: str) -> Json:
    """A condition by its type; empty if it is absent."""
    found = [item for item in (body.get("status") or {}).get("conditions") or [] if item["type"] == kind]
    return found[0] if found else {}


def workflow(name: str, *types: str, **spec: Any) -> Json:
    """A flow of these task types, with ids n1, n2, …"""
    body: Json = {
        "apiVersion": "podium.dev/v1alpha1",
        "kind": "Workflow",
        "metadata": {"name": name},
        "spec": spec,
    }
    if types:
        nodes = [{"id": f"n{number}", "type": kind} for number, kind in enumerate(types, 1)]
        body["spec"] = {"flow": {"nodes": nodes}, **spec}
    return body


def workflow_run(name: str, of: str, **spec: Any) -> Json:
    """A WorkflowRun."""
    return {
        "apiVersion": "podium.dev/v1alpha1",
        "kind": "WorkflowRun",
        "metadata": {"name": name},
        "spec": {"workflow": of, **spec},
    }
