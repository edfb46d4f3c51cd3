"""A Kubernetes control plane: etcd, API server and controllers as plain processes.

Enough for operators: custom resources, watches, status, server-side apply, RBAC, namespaces, garbage
collection, Deployments down to their Pods. These stay Pending unless the control plane has a node (node.py).
"""

from __future__ import annotations

import datetime as dt
import os
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from podium.local.build import Binaries, needs_for_binaries, provide_binaries
from podium.local.cache import Cache
from podium.local.errors import LocalError
from podium.local.kubeconfig import CONTEXT, write_kubeconfig
from podium.local.node import (
    Node,
    NodeFiles,
    NodeSetup,
    load_pause_image,
    prepare_node,
    write_node,
)
from podium.local.node_settings import NAME
from podium.local.pki import Authority, KeyPair, write_signing_key
from podium.local.prerequisites import Need, require
from podium.local.processes import Process, Processes, wait_until
from podium.local.progress import Progress, Silence
from podium.local.services import Probe, Service, await_ready, build_server, free_port

_FLAGS_WITHOUT_NODE: Mapping[str, object] = {
    "advertise-address": "127.0.0.1",
    "endpoint-reconciler-type": "none",
    "service-cluster-ip-range": "10.96.0.0/16",
    "authorization-mode": "RBAC",
}
_SECONDS_TO_START = 120.0
# What an operator's objects live on; the rest would only cost CPU. Names as of Kubernetes 1.36.
_CONTROLLERS = (
    "namespace-controller",
    "garbage-collector-controller",
    "serviceaccount-controller",
    "serviceaccount-token-controller",
    "root-ca-certificate-publisher-controller",
    "clusterrole-aggregation-controller",
    "deployment-controller",
    "replicaset-controller",
    "disruption-controller",
)


@dataclass(frozen=True)
class ControlPlaneFiles:
    """What is written before anything starts: the servers in the order of their start, and the way in.

    The first three are etcd, the API server and the controllers; those of the node, if there is one, follow.
    """

    services: tuple[Service, ...]
    kubeconfig: Path
    kubectl: Path
    url: str
    node: NodeFiles | None = None


class ControlPlane:
    """A running control plane. Several do not disturb each other; each has its own folder and ports."""

    def __init__(self, files: ControlPlaneFiles, processes: Processes) -> None:
        self._files = files
        self._processes = processes
        self._running: dict[str, Process] = {}
        self.kubeconfig = files.kubeconfig
        self.kubectl = files.kubectl
        self.context = CONTEXT
        self.url = files.url
        self._node = Node(files.node, processes) if files.node else None

    @classmethod
    def start(
        cls,
        folder: Path,
        *,
        node: bool = False,
        binaries: Binaries | None = None,
        cache: Cache | None = None,
        progress: Progress | None = None,
        environment: Mapping[str, str] = os.environ,
    ) -> ControlPlane:
        """Starts one in `folder` (made if need be) and returns when it serves; about 6 s if all is built.

        With `node=True` it has a node, and Pods run (see `podium.local.node`); about 8 s.
        Everything ends with `stop`, with the `with` block, or with this process however that ends.
        Raises MissingPrerequisites, LocalError with the end of the log of what did not start.
        """
        progress = progress or Silence()
        processes = Processes()
        try:
            cache = cache or Cache.of(environment)
            setup = prepare_node(cache, processes, progress, environment, time.time()) if node else None
            if setup:
                binaries = setup.binaries.control_plane
            elif binaries is None:
                require(needs_for_binaries(cache, environment) | {Need.ROOM_TO_RUN}, cache.root, environment)
                binaries = provide_binaries(cache, processes, progress, environment)
            plane = cls(write_control_plane(folder, binaries, setup), processes)
            with progress.step(f"starting a Kubernetes control plane{' and a node' if node else ''}"):
                plane._start_all()
        except BaseException:
            processes.stop(grace=0.0)
            raise
        return plane

    @property
    def node(self) -> Node:
        """Raises LocalError if it was started without one."""
        if self._node is None:
            raise LocalError("this control plane has no node: start it with node=True.")
        return self._node

    def run(self, *arguments: str, stdin: str | None = None) -> str:
        """Runs kubectl against it; its standard output. Raises LocalError with what it said otherwise."""
        return run_kubectl(self.kubectl, self.kubeconfig, *arguments, stdin=stdin)

    def kill(self, name: str = "kube-apiserver") -> None:
        """Ends one server as a crash would: etcd, kube-apiserver or kube-controller-manager.

        With a node, also kubelet, kube-proxy, kube-scheduler or coredns. Its containers run on meanwhile.
        """
        self._running[name].kill()

    def restart(self, name: str = "kube-apiserver") -> None:
        """Starts one server again, on the same address with the same data, and waits until it serves."""
        service = next(service for service in self._files.services if service.name == name)
        # A polite API server waits ten seconds for watchers that will not leave.
        self._running[name].stop(grace=1.0)
        self._running[name] = self._processes.start(service.program)
        await_ready(service, self._running[name], _SECONDS_TO_START)

    def stop(self) -> None:
        """Ends all of it; the folder stays, for its logs. Does nothing twice."""
        # Nothing of it is used again, so there is nothing that a slow goodbye would save.
        self._processes.stop(grace=0.0)
        if self._node:
            self._node.await_gone()

    def _start_all(self) -> None:
        etcd, apiserver, controllers, *rest = self._files.services
        # Nothing else can do without these; containerd, and with it the namespaces, needs nobody.
        self._start_together(etcd, apiserver, *rest[:1])
        if self._files.node:
            load_pause_image(self._files.node)
        self._start_together(controllers, *rest[1:])
        await_controllers(self._files)
        if self._files.node:
            await_node(self._files)

    def _start_together(self, *services: Service) -> None:
        for service in services:
            self._running[service.name] = self._processes.start(service.program)
        for service in services:
            await_ready(service, self._running[service.name], _SECONDS_TO_START)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def run_kubectl(kubectl: Path, kubeconfig: Path, *arguments: str, stdin: str | None = None) -> str:
    """kubectl's standard output. Raises LocalError with its standard error if it fails."""
    answer = subprocess.run(
        [str(kubectl), f"--kubeconfig={kubeconfig}", *arguments],
        input=stdin,
        stdin=subprocess.DEVNULL if stdin is None else None,
        capture_output=True,
        text=True,
        check=False,
    )
    if answer.returncode != 0:
        raise LocalError(f"kubectl {' '.join(arguments[:3])}: {answer.stderr.strip()}")
    return answer.stdout


def await_controllers(files: ControlPlaneFiles) -> None:
    """Waits until the controllers have done their first work: the default namespace can hold Pods."""

    def has_service_account() -> bool:
        try:
            run_kubectl(files.kubectl, files.kubeconfig, "get", "serviceaccount", "default", "-n", "default")
        except LocalError:
            return False
        return True

    if not wait_until(has_service_account, _SECONDS_TO_START, every=0.2):
        log = files.services[2].program.log
        raise LocalError(f"kube-controller-manager does no work; see {log}.")


def await_node(files: ControlPlaneFiles) -> None:
    """Waits until the node takes pods."""
    ready = '{.status.conditions[?(@.type=="Ready")].status}{.spec.taints}'

    def takes_pods() -> bool:
        try:
            said = run_kubectl(
                files.kubectl, files.kubeconfig, "get", "node", NAME, f"--output=jsonpath={ready}"
            )
        except LocalError:
            return False
        return said == "True"

    if not wait_until(takes_pods, _SECONDS_TO_START, every=0.2):
        raise LocalError(f"the node does not become ready; see {files.services[-1].program.log.parent}.")


def write_control_plane(folder: Path, binaries: Binaries, node: NodeSetup | None = None) -> ControlPlaneFiles:
    """Certificates, kubeconfig and commands in `folder`; starts nothing."""
    pki, logs = folder / "pki", folder / "logs"
    for path in (folder, pki, logs, folder / "etcd"):
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
    now = dt.datetime.now(dt.UTC)
    cluster, storage = Authority(pki, "kubernetes", now), Authority(pki, "etcd", now)
    local = ("localhost", "127.0.0.1")
    addresses = (node.network.api_service, node.network.there) if node else ("10.96.0.1",)
    names = ("kubernetes", "kubernetes.default", "kubernetes.default.svc", *addresses, *local)
    serving = cluster.issue("kube-apiserver", "kube-apiserver", hosts=names)
    controllers_serving = cluster.issue("kube-controller-manager", "kube-controller-manager", hosts=local)
    admin = cluster.issue("admin", "podium-admin", organizations=("system:masters",))
    etcd_serving = storage.issue("etcd", "etcd", hosts=local)
    tokens = write_signing_key(pki, "service-accounts")
    ports = {name: free_port() for name in ("etcd", "peer", "health", "apiserver", "controllers")}
    url = f"https://127.0.0.1:{ports['apiserver']}"
    kubeconfig = folder / "kubeconfig"
    write_kubeconfig(kubeconfig, url, cluster.certificate, admin)

    etcd_url, peer_url = (f"https://127.0.0.1:{ports[name]}" for name in ("etcd", "peer"))
    etcd_health = f"http://127.0.0.1:{ports['health']}"
    etcd = build_server(
        folder,
        "etcd",
        binaries.etcd,
        {
            "data-dir": folder / "etcd",
            "listen-client-urls": etcd_url,
            "advertise-client-urls": etcd_url,
            "listen-peer-urls": peer_url,
            "initial-advertise-peer-urls": peer_url,
            "initial-cluster": f"default={peer_url}",
            "listen-metrics-urls": etcd_health,
            # Who can reach etcd owns the cluster, and loopback belongs to every user of the machine.
            **_tls(storage.certificate, etcd_serving, ""),
            **_tls(storage.certificate, etcd_serving, "peer-"),
            "quota-backend-bytes": 4 * 1024**3,
            "auto-compaction-retention": "5m",
            "log-level": "warn",
            # Safe against a crash of etcd, not of the machine: what is here is not meant to last.
            "unsafe-no-fsync": "true",
        },
        Probe(f"{etcd_health}/health"),
        etcd_url,
    )
    apiserver = build_server(
        folder,
        "kube-apiserver",
        binaries.apiserver,
        {
            "etcd-servers": etcd_url,
            "etcd-cafile": storage.certificate,
            "etcd-certfile": etcd_serving.certificate,
            "etcd-keyfile": etcd_serving.key,
            "bind-address": "127.0.0.1",
            "secure-port": ports["apiserver"],
            "tls-cert-file": serving.certificate,
            "tls-private-key-file": serving.key,
            "client-ca-file": cluster.certificate,
            "service-account-issuer": "https://kubernetes.default.svc.cluster.local",
            "service-account-key-file": tokens.certificate,
            "service-account-signing-key-file": tokens.key,
            "allow-privileged": "true",
            "profiling": "false",
            **(_flags_for_node(cluster, node) if node else _FLAGS_WITHOUT_NODE),
        },
        Probe(f"{url}/readyz", cluster.certificate),
        url,
    )
    controllers_url = f"https://127.0.0.1:{ports['controllers']}"
    controllers = build_server(
        folder,
        "kube-controller-manager",
        binaries.controller_manager,
        {
            "kubeconfig": kubeconfig,
            "bind-address": "127.0.0.1",
            "secure-port": ports["controllers"],
            "tls-cert-file": controllers_serving.certificate,
            "tls-private-key-file": controllers_serving.key,
            "service-account-private-key-file": tokens.key,
            "root-ca-file": cluster.certificate,
            "controllers": "*" if node else ",".join(_CONTROLLERS),
            "leader-elect": "false",
            "kube-api-qps": 200,
            "kube-api-burst": 400,
            "profiling": "false",
        },
        Probe(f"{controllers_url}/healthz", cluster.certificate),
        controllers_url,
    )
    of_node = write_node(folder, node, cluster, ports["apiserver"]) if node else None
    services = (etcd, apiserver, controllers, *(of_node.services if of_node else ()))
    return ControlPlaneFiles(services, kubeconfig, binaries.kubectl, url, of_node)


def _flags_for_node(cluster: Authority, node: NodeSetup) -> dict[str, object]:
    """What makes the API server reach the kubelet, and pods the API server."""
    client = cluster.issue("kubelet-client", "kube-apiserver-kubelet-client", ("system:masters",))
    return {
        # Where a relay answers, at the same port: what the Service `kubernetes` leads to.
        "advertise-address": node.network.there,
        "service-cluster-ip-range": node.network.services,
        "authorization-mode": "Node,RBAC",
        "enable-admission-plugins": "NodeRestriction",
        "kubelet-preferred-address-types": "InternalIP",
        "kubelet-certificate-authority": cluster.certificate,
        "kubelet-client-certificate": client.certificate,
        "kubelet-client-key": client.key,
    }


def _tls(ca: Path, pair: KeyPair, prefix: str) -> dict[str, object]:
    return {
        f"{prefix}trusted-ca-file": ca,
        f"{prefix}cert-file": pair.certificate,
        f"{prefix}key-file": pair.key,
        f"{prefix}client-cert-auth": "true",
    }
