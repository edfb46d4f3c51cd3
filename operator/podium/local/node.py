"""A node for the local control plane: pods really run, in namespaces of their own, and nothing is left.

containerd, kubelet, kube-proxy and CoreDNS live in namespaces (see namespaces.py); kube-scheduler and the
control plane on this machine, on loopback as ever. This machine reaches pods by their IP addresses. Pods
reach what listens on this machine's loopback where it was relayed to: the API server always, others by
`Node.expose`. Nothing else is in reach: images have to be loaded.
"""

from __future__ import annotations

import hashlib
import io
import json
import platform
import subprocess
import sys
import tarfile
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
from podium.local.pki import Authority
from podium.local.prerequisites import Need, require
from podium.local.processes import Processes, Program, wait_until
from podium.local.progress import Progress
from podium.local.services import Probe, Service, await_ready, build_server, free_port

NAME = "podium-node"
_SCRIPT = Path(__file__).with_name("namespaces.py")
_PAUSE_IMAGE = "localhost/podium-pause:1"
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
    _write_pause_image(own / "pause.tar", binaries.pause)

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
    kubelet = build_server(
        own,
        "kubelet",
        _enter(files, binaries.kubelet),
        {
            "config": _write_kubelet(own, network, cluster),
            "kubeconfig": kubeconfig("kubelet", f"system:node:{NAME}", "system:nodes"),
            "root-dir": own / "kubelet",
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
    (own / "Corefile").write_text(
        _COREFILE.format(address=network.there, kubeconfig=kubeconfig("coredns", "coredns", "system:masters"))
    )
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
    (own / "containerd.toml").write_text(
        _CONTAINERD.format(
            root=own / "containerd",
            metrics=metrics,
            pause=_PAUSE_IMAGE,
            plugins=setup.host.plugins,
            networks=own / "cni",
        )
    )
    (own / "cni" / "10-podium.conflist").write_text(json.dumps(_build_pod_network(network)))
    plan = {
        "name": network.name,
        "here": f"{network.here}/30",
        "there": network.there,
        "routes": [str(network.pods), str(network.services)],
        "folder": str(own),
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


def _build_pod_network(network: Network) -> dict[str, object]:
    # Point to point: no bridge to make, and every packet between pods passes the node's own rules.
    addresses = {
        "type": "host-local",
        "ranges": [[{"subnet": str(network.pods)}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    plugin = {"type": "ptp", "ipMasq": False, "ipam": addresses}
    return {"cniVersion": "0.4.0", "name": "podium", "plugins": [plugin]}


def _write_kubelet(own: Path, network: Network, cluster: Authority) -> Path:
    serving = cluster.issue("kubelet-serving", f"system:node:{NAME}", hosts=(NAME, network.there))
    settings = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": network.there,
        "healthzBindAddress": network.there,
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(cluster.certificate)},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(serving.certificate),
        "tlsPrivateKeyFile": str(serving.key),
        "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{network.name}",
        "enforceNodeAllocatable": ["pods"],
        "failCgroupV1": False,
        "failSwapOn": False,
        "clusterDNS": [network.there],
        "clusterDomain": "cluster.local",
        # Names of this machine's network are of no use to pods that cannot reach it.
        "resolvConf": str(own / "resolv.conf"),
        "podLogsDir": str(own / "pods"),
        "volumePluginDir": str(own / "kubelet" / "volume-plugins"),
        "makeIPTablesUtilChains": False,
        "serializeImagePulls": False,
        "nodeStatusUpdateFrequency": "5s",
        "maxPods": 200,
        # A disk that is full of other things is no reason to throw the images or the pods away.
        "imageGCHighThresholdPercent": 100,
        "evictionHard": {"memory.available": "100Mi"},
        "localStorageCapacityIsolation": False,
    }
    path = own / "kubelet.yaml"
    path.write_text(yaml.safe_dump(settings, sort_keys=False))
    return path


def _write_pause_image(archive: Path, program: Path) -> None:
    """An image of one file, as `docker save` would write it."""
    layer = _tar({"pause": program.read_bytes()}, mode=0o755)
    config = {
        "architecture": {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine()),
        "os": "linux",
        "config": {"Entrypoint": ["/pause"], "User": "65535:65535"},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
    }
    manifest = [{"Config": "config.json", "RepoTags": [_PAUSE_IMAGE], "Layers": ["layer.tar"]}]
    archive.write_bytes(
        _tar(
            {
                "config.json": json.dumps(config).encode(),
                "layer.tar": layer,
                "manifest.json": json.dumps(manifest).encode(),
            }
        )
    )


def _tar(files: Mapping[str, bytes], mode: int = 0o644) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), mode
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


# Braces of TOML and of a Corefile are doubled for `format`.
_CONTAINERD = """\
version = 2
root = "{root}"
state = "/run/containerd"
[grpc]
address = "/run/containerd/containerd.sock"
[metrics]
address = "{metrics}"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{pause}"
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".containerd]
default_runtime_name = "runc"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{plugins}"
conf_dir = "{networks}"
"""
# Without `forward`, a name that is not of the cluster fails at once instead of after five seconds.
_COREFILE = """\
.:53 {{
  bind {address}
  errors
  health {address}:8091
  ready {address}:8181
  kubernetes cluster.local in-addr.arpa ip6.arpa {{
    kubeconfig {kubeconfig}
    ttl 5
  }}
  cache 5
}}
"""
