"""A Kubernetes control plane without nodes: etcd, API server and controllers as plain processes.

Enough for operators: custom resources, watches, status, server-side apply, RBAC, namespaces, garbage
collection, Deployments down to their Pods (which stay Pending: there is no kubelet to run them).
"""

from __future__ import annotations

import base64
import datetime as dt
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import yaml

from podium.local.build import Binaries, needs_for_binaries, provide_binaries
from podium.local.cache import Cache
from podium.local.errors import LocalError
from podium.local.pki import Authority, KeyPair, write_secret, write_signing_key
from podium.local.prerequisites import Need, require
from podium.local.processes import Process, Processes, Program, wait_until
from podium.local.progress import Progress, Silence
from podium.local.services import Probe, Service, await_ready, free_port

_CONTEXT = "podium-local"
_SERVICE_ADDRESSES = "10.96.0.0/16"
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
    """What is written before anything starts: the servers in the order of their start, and the way in."""

    services: tuple[Service, ...]
    kubeconfig: Path
    kubectl: Path
    url: str


class ControlPlane:
    """A running control plane. Several do not disturb each other; each has its own folder and ports."""

    def __init__(self, files: ControlPlaneFiles, processes: Processes) -> None:
        self._files = files
        self._processes = processes
        self._running: dict[str, Process] = {}
        self.kubeconfig = files.kubeconfig
        self.kubectl = files.kubectl
        self.context = _CONTEXT
        self.url = files.url

    @classmethod
    def start(
        cls,
        folder: Path,
        *,
        binaries: Binaries | None = None,
        cache: Cache | None = None,
        progress: Progress | None = None,
        environment: Mapping[str, str] = os.environ,
    ) -> ControlPlane:
        """Starts one in `folder` (made if need be) and returns when it serves; about 6 s if all is built.

        Everything ends with `stop`, with the `with` block, or with this process however that ends.
        Raises LocalError, with the end of the log of what did not start.
        """
        progress = progress or Silence()
        processes = Processes()
        try:
            if binaries is None:
                cache = cache or Cache.of(environment)
                require(needs_for_binaries(cache, environment) | {Need.ROOM_TO_RUN}, cache.root, environment)
                binaries = provide_binaries(cache, processes, progress, environment)
            plane = cls(write_control_plane(folder, binaries), processes)
            with progress.step("starting a Kubernetes control plane"):
                plane._start_all()
        except BaseException:
            processes.stop(grace=0.0)
            raise
        return plane

    def run(self, *arguments: str, stdin: str | None = None) -> str:
        """Runs kubectl against it; its standard output. Raises LocalError with what it said otherwise."""
        return run_kubectl(self.kubectl, self.kubeconfig, *arguments, stdin=stdin)

    def kill(self, name: str = "kube-apiserver") -> None:
        """Ends one server as a crash would: etcd, kube-apiserver or kube-controller-manager."""
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

    def _start_all(self) -> None:
        etcd, apiserver, controllers = self._files.services
        for service in (etcd, apiserver):
            self._running[service.name] = self._processes.start(service.program)
        for service in (etcd, apiserver):
            await_ready(service, self._running[service.name], _SECONDS_TO_START)
        self._running[controllers.name] = self._processes.start(controllers.program)
        await_ready(controllers, self._running[controllers.name], _SECONDS_TO_START)
        await_controllers(self._files)

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
        log = files.services[-1].program.log
        raise LocalError(f"kube-controller-manager does no work; see {log}.")


def write_control_plane(folder: Path, binaries: Binaries) -> ControlPlaneFiles:
    """Certificates, kubeconfig and commands in `folder`; starts nothing."""
    pki, logs = folder / "pki", folder / "logs"
    for path in (folder, pki, logs, folder / "etcd"):
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
    now = dt.datetime.now(dt.UTC)
    cluster, storage = Authority(pki, "kubernetes", now), Authority(pki, "etcd", now)
    local = ("localhost", "127.0.0.1")
    names = ("kubernetes", "kubernetes.default", "kubernetes.default.svc", "10.96.0.1", *local)
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
    etcd = _service(
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
    apiserver = _service(
        folder,
        "kube-apiserver",
        binaries.apiserver,
        {
            "etcd-servers": etcd_url,
            "etcd-cafile": storage.certificate,
            "etcd-certfile": etcd_serving.certificate,
            "etcd-keyfile": etcd_serving.key,
            "bind-address": "127.0.0.1",
            "advertise-address": "127.0.0.1",
            "endpoint-reconciler-type": "none",
            "secure-port": ports["apiserver"],
            "tls-cert-file": serving.certificate,
            "tls-private-key-file": serving.key,
            "client-ca-file": cluster.certificate,
            "service-account-issuer": "https://kubernetes.default.svc.cluster.local",
            "service-account-key-file": tokens.certificate,
            "service-account-signing-key-file": tokens.key,
            "service-cluster-ip-range": _SERVICE_ADDRESSES,
            "authorization-mode": "RBAC",
            "allow-privileged": "true",
            "profiling": "false",
        },
        Probe(f"{url}/readyz", cluster.certificate),
        url,
    )
    controllers_url = f"https://127.0.0.1:{ports['controllers']}"
    controllers = _service(
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
            "controllers": ",".join(_CONTROLLERS),
            "leader-elect": "false",
            "kube-api-qps": 200,
            "kube-api-burst": 400,
            "profiling": "false",
        },
        Probe(f"{controllers_url}/healthz", cluster.certificate),
        controllers_url,
    )
    return ControlPlaneFiles((etcd, apiserver, controllers), kubeconfig, binaries.kubectl, url)


def write_kubeconfig(path: Path, url: str, ca: Path, client: KeyPair) -> None:
    """One cluster, one user, one context, everything inside the file (mode 0600)."""
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {"name": _CONTEXT, "cluster": {"server": url, "certificate-authority-data": _encoded(ca)}}
        ],
        "users": [
            {
                "name": _CONTEXT,
                "user": {
                    "client-certificate-data": _encoded(client.certificate),
                    "client-key-data": _encoded(client.key),
                },
            }
        ],
        "contexts": [{"name": _CONTEXT, "context": {"cluster": _CONTEXT, "user": _CONTEXT}}],
        "current-context": _CONTEXT,
    }
    write_secret(path, yaml.safe_dump(config, sort_keys=False).encode())


def _service(
    folder: Path, name: str, binary: Path, flags: Mapping[str, object], probe: Probe, address: str
) -> Service:
    argv = (str(binary), *(f"--{flag}={value}" for flag, value in flags.items()))
    return Service(Program(name, argv, folder, folder / "logs" / f"{name}.log"), address, probe)


def _tls(ca: Path, pair: KeyPair, prefix: str) -> dict[str, object]:
    return {
        f"{prefix}trusted-ca-file": ca,
        f"{prefix}cert-file": pair.certificate,
        f"{prefix}key-file": pair.key,
        f"{prefix}client-cert-auth": "true",
    }


def _encoded(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()
