"""What the programs of a node are told: their settings, and the image that every pod needs."""

from __future__ import annotations

import hashlib
import io
import json
import platform
import tarfile
from collections.abc import Mapping
from pathlib import Path

from podium.local.network import Network
from podium.local.pki import KeyPair

NAME = "podium-node"
PAUSE_IMAGE = "localhost/podium-pause:1"
# Seen by the node alone. It has sockets in it, whose paths may not be long, as those of folders of tests are.
KUBELET = "/var/lib/kubelet"


def build_containerd(own: Path, plugins: Path, metrics: str) -> str:
    """containerd's, in TOML; it serves metrics at `metrics` (host:port)."""
    return f"""\
version = 2
root = "{own / "containerd"}"
state = "/run/containerd"
[grpc]
address = "/run/containerd/containerd.sock"
[metrics]
address = "{metrics}"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{PAUSE_IMAGE}"
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".containerd]
default_runtime_name = "runc"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{plugins}"
conf_dir = "{own / "cni"}"
"""


def build_pod_network(network: Network) -> dict[str, object]:
    """How containers get their addresses (CNI)."""
    # Point to point: no bridge to make, and every packet between pods passes the node's own rules.
    addresses = {
        "type": "host-local",
        "ranges": [[{"subnet": str(network.pods)}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    plugin = {"type": "ptp", "ipMasq": False, "ipam": addresses}
    return {"cniVersion": "0.4.0", "name": "podium", "plugins": [plugin]}


def build_kubelet(own: Path, network: Network, authority: Path, serving: KeyPair) -> dict[str, object]:
    """The kubelet's; `serving` is what it shows to the API server, `authority` whom it trusts."""
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": network.there,
        "healthzBindAddress": network.there,
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(authority)},
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
        "volumePluginDir": f"{KUBELET}/volume-plugins",
        "makeIPTablesUtilChains": False,
        "serializeImagePulls": False,
        "nodeStatusUpdateFrequency": "5s",
        "maxPods": 200,
        # A disk that is full of other things is no reason to throw the images or the pods away.
        "imageGCHighThresholdPercent": 100,
        "evictionHard": {"memory.available": "100Mi"},
        "localStorageCapacityIsolation": False,
    }


def build_corefile(network: Network, kubeconfig: Path) -> str:
    """CoreDNS's."""
    # Without `forward`, a name that is not of the cluster fails at once instead of after five seconds.
    return f"""\
.:53 {{
  bind {network.there}
  errors
  health {network.there}:8091
  ready {network.there}:8181
  kubernetes cluster.local in-addr.arpa ip6.arpa {{
    kubeconfig {kubeconfig}
    ttl 5
  }}
  cache 5
}}
"""


def write_pause_image(archive: Path, program: Path) -> None:
    """An image of one file, as `docker save` would write it."""
    layer = _tar({"pause": program.read_bytes()}, mode=0o755)
    config = {
        "architecture": {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine()),
        "os": "linux",
        "config": {"Entrypoint": ["/pause"], "User": "65535:65535"},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
    }
    manifest = [{"Config": "config.json", "RepoTags": [PAUSE_IMAGE], "Layers": ["layer.tar"]}]
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
