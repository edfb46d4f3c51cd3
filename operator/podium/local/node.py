"""A node for the local control plane: pods really run, in namespaces of their own, and nothing is left.

containerd, kubelet, kube-proxy and CoreDNS live in namespaces (see namespaces.py); kube-scheduler and the
control plane on this machine, on loopback as ever. This machine reaches pods by their IP addresses. Pods
reach what listens on this machine's loopback where it was relayed to: the API server always, others by
`Node.expose`. Nothing else is in reach: images have to be loaded.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import yaml

from podium.local.build import NodeBinaries, needs_for_node, provide_node_binaries
from podium.local.cache import Cache
from podium.local.errors import LocalError
from podium.local.kubeconfig import write_kubeconfig
from podium.local.network import Network, find_network, is_locked
from podium.local.node_host import NodeHost
from podium.local.node_settings import (
    KUBELET,
    NAME,
    build_containerd,
    build_corefile,
    build_kubelet,
    build_pod_network,
    write_pause_image,
)
from podium.local.pki import Authority
from podium.local.prerequisites import Need, require
from podium.local.processes import Processes, Program, wait_until
from podium.local.progress import Progress
from podium.local.services import Probe, Service, await_ready, build_server, free_port

_SCRIPT = Path(__file__).with_name("namespaces.py")
_SECONDS_TO_START = 60.0
_SECONDS_TO_CLEAN = 30.0


@dataclass(frozen=True)
class NodeSetup:
    """What is decided before anything is written: where the programs are, and which addresses to use."""

    binaries: NodeBinaries
    host: NodeHost
    network: Network


@dataclass(frozen=True)
class NodeFiles:
    """What is written before anything starts. `services` are in the order of their start.

    The first is containerd, and with it the namespaces: the node ends when it does.
    """

    services: tuple[Service, ...]
    network: Network
    folder: Path
    ctr: Path

    @property
    def pid_file(self) -> Path:
        return self.folder / "pid"


class Node:
    """A running node."""

    def __init__(self, files: NodeFiles, processes: Processes) -> None:
        self._files = files
        self._processes = processes
        self._exposed: dict[str, str] = {}
        self.name = NAME
        self.network = files.network
        self.address = files.network.there
        """Its IP address, in reach of this machine and of pods."""

    def load_image(self, archive: Path) -> None:
        """Gives it the images of an archive (of `docker save`, or OCI); pods name them as the archive does.

        Takes about 1 s for 50 MB. Raises LocalError.
        """
        load_image(self._files, archive)

    def expose(self, url: str) -> str:
        """Lets pods reach a server that listens on this machine's loopback; its URL, for them and for us.

        The relay ends with the node. Raises LocalError.
        """
        if url not in self._exposed:
            service = build_relay(self._files, url)
            await_ready(service, self._processes.start(service.program), _SECONDS_TO_START)
            self._exposed[url] = service.address
        return self._exposed[url]

    def await_gone(self) -> None:
        """Waits until nothing of it is left on this machine. Raises LocalError if that takes too long."""
        await_gone(self._files)


def prepare_node(
    cache: Cache, processes: Processes, progress: Progress, environment: Mapping[str, str], seed: float
) -> NodeSetup:
    """Builds what is not built, and chooses addresses. Raises MissingPrerequisites, LocalError."""
    host = require(needs_for_node(cache) | {Need.ROOM_TO_RUN}, cache.root, environment).node
    binaries = provide_node_binaries(cache, processes, progress, environment)
    return NodeSetup(binaries, host, find_network(seed))


def write_node(folder: Path, setup: NodeSetup, cluster: Authority, api_port: int) -> NodeFiles:
    """Certificates, settings and commands in `folder`/node; starts nothing.

    `api_port` is where the API server listens: on this machine's loopback, and by a relay on the node.
    """
    own = folder / "node"
    for path in (own, own / "logs", own / "cni", own / "pods"):
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
    network, binaries = setup.network, setup.binaries
    files = NodeFiles((), network, own, setup.host.ctr)
    api = f"https://{network.there}:{api_port}"
    (own / "resolv.conf").write_text("")
    write_pause_image(own / "pause.tar", binaries.pause)

    def kubeconfig(name: str, user: str, group: str = "", url: str = api) -> Path:
        client = cluster.issue(name, user, organizations=(group,) if group else ())
        path = own / f"{name}.kubeconfig"
        write_kubeconfig(path, url, cluster.certificate, client)
        return path

    loopback = f"https://127.0.0.1:{api_port}"
    scheduler_url = f"https://127.0.0.1:{free_port()}"
    scheduler_serving = cluster.issue("kube-scheduler-serving", "kube-scheduler", hosts=("127.0.0.1",))
    scheduler = build_server(
        own,
        "kube-scheduler",
        binaries.scheduler,
        {
            "kubeconfig": kubeconfig("kube-scheduler", "system:kube-scheduler", url=loopback),
            "bind-address": "127.0.0.1",
            "secure-port": urlsplit(scheduler_url).port,
            "tls-cert-file": scheduler_serving.certificate,
            "tls-private-key-file": scheduler_serving.key,
            "leader-elect": "false",
            "kube-api-qps": 200,
            "kube-api-burst": 400,
        },
        Probe(f"{scheduler_url}/healthz", cluster.certificate),
        scheduler_url,
    )
    kubelet_serving = cluster.issue("kubelet-serving", f"system:node:{NAME}", hosts=(NAME, network.there))
    (own / "kubelet.yaml").write_text(
        yaml.safe_dump(build_kubelet(own, network, cluster.certificate, kubelet_serving))
    )
    kubelet = build_server(
        own,
        "kubelet",
        _enter(files, binaries.kubelet),
        {
            "config": own / "kubelet.yaml",
            "kubeconfig": kubeconfig("kubelet", f"system:node:{NAME}", "system:nodes"),
            "root-dir": KUBELET,
            "hostname-override": NAME,
            "node-ip": network.there,
        },
        Probe(f"http://{network.there}:10248/healthz"),
        f"https://{network.there}:10250",
    )
    proxy = build_server(
        own,
        "kube-proxy",
        _enter(files, binaries.proxy),
        {
            "kubeconfig": kubeconfig("kube-proxy", "system:kube-proxy"),
            "hostname-override": NAME,
            "proxy-mode": "nftables",
            "cluster-cidr": network.pods,
            "healthz-bind-address": f"{network.there}:10256",
            # These are settings of the whole machine.
            "conntrack-max-per-core": 0,
            "conntrack-tcp-timeout-established": "0s",
            "conntrack-tcp-timeout-close-wait": "0s",
        },
        Probe(f"http://{network.there}:10256/livez"),
        f"http://{network.there}:10256",
    )
    dns = build_server(
        own,
        "coredns",
        (*_enter(files, binaries.coredns), "-conf", str(own / "Corefile")),
        {},
        Probe(f"http://{network.there}:8181/ready"),
        f"dns://{network.there}:53",
    )
    (own / "Corefile").write_text(build_corefile(network, kubeconfig("coredns", "coredns", "system:masters")))
    api_relay = build_relay(files, loopback, "api-relay", Probe(f"{api}/readyz", cluster.certificate))
    containerd = _write_containerd(files, setup)
    return NodeFiles((containerd, api_relay, scheduler, kubelet, proxy, dns), network, own, setup.host.ctr)


def await_gone(files: NodeFiles) -> None:
    """Waits until nothing of the node is left on this machine. Raises LocalError if that takes too long."""
    if not wait_until(lambda: not is_locked(files.network.lock), _SECONDS_TO_CLEAN):
        log = files.services[0].program.log
        raise LocalError(f"the node has ended, but is not cleaned up; see {log}.")


def build_relay(files: NodeFiles, url: str, name: str = "", probe: Probe | None = None) -> Service:
    """What makes a server on this machine's loopback answer at the same port of the node."""
    parts = urlsplit(url)
    if parts.port is None:
        raise LocalError(f"{url} names no port, so there is nothing to relay.")
    there = f"{files.network.there}:{parts.port}"
    address = parts._replace(netloc=there).geturl()
    name = name or f"relay-{parts.port}"
    argv = (*_script("relay"), str(files.pid_file), there, parts.netloc)
    program = Program(name, argv, files.folder, files.folder / "logs" / f"{name}.log")
    return Service(program, address, probe or Probe(f"tcp://{there}"))


def load_image(files: NodeFiles, archive: Path) -> None:
    """Gives the images of an archive to the node's containerd. Raises LocalError."""
    argv = [*_enter(files, files.ctr), "-n", "k8s.io", "images", "import", str(archive.resolve())]
    answer = subprocess.run(argv, capture_output=True, text=True, check=False)
    if answer.returncode != 0:
        raise LocalError(f"the images of {archive} cannot be loaded: {answer.stderr.strip()}")


def load_pause_image(files: NodeFiles) -> None:
    """The image that every pod needs. Raises LocalError."""
    load_image(files, files.folder / "pause.tar")


def _script(what: str) -> tuple[str, ...]:
    return (sys.executable, "-I", "-S", str(_SCRIPT), what)


def _enter(files: NodeFiles, program: Path) -> tuple[str, ...]:
    return (*_script("enter"), str(files.pid_file), str(program))


def _write_containerd(files: NodeFiles, setup: NodeSetup) -> Service:
    own, network = files.folder, files.network
    metrics = f"{network.there}:1338"
    (own / "containerd.toml").write_text(build_containerd(own, setup.host.plugins, metrics))
    (own / "cni" / "10-podium.conflist").write_text(json.dumps(build_pod_network(network)))
    plan = {
        "name": network.name,
        "here": f"{network.here}/30",
        "there": network.there,
        "routes": [str(network.pods), str(network.services)],
        "folder": str(own),
        "places": {KUBELET: str(own / "kubelet")},
        "scratch": [str(own / "containerd"), str(own / "kubelet")],
        "lock": str(network.lock),
        "pid_file": str(files.pid_file),
        "argv": [str(setup.host.containerd), "--config", str(own / "containerd.toml")],
    }
    (own / "plan.json").write_text(json.dumps(plan, indent=1))
    program = Program(
        "containerd", (*_script("hold"), str(own / "plan.json")), own, own / "logs" / "containerd.log"
    )
    return Service(program, network.there, Probe(f"http://{metrics}/v1/metrics"))
