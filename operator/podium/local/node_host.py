"""What makes a machine fit to carry a node: root on Linux, and a few of Debian's packages."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

# What is run, and the package that has it. All are in Debian 12 and in Ubuntu 24.04.
_PROGRAMS = {
    "containerd": "containerd",
    "containerd-shim-runc-v2": "containerd",
    "ctr": "containerd",
    "ip": "iproute2",
    "nft": "nftables",
    "runc": "runc",
}
_PLUGINS = ("host-local", "loopback", "ptp")
_PLUGIN_FOLDERS = (Path("/usr/lib/cni"), Path("/opt/cni/bin"))
_PLUGINS_PACKAGE = "containernetworking-plugins"
# Root's PATH lacks these in some places, cron among them.
_ADMINISTRATORS = "/usr/local/sbin:/usr/sbin:/sbin"
_INSTEAD = "start a container engine and install kind, whose clusters have a node"


@dataclass(frozen=True)
class NodeHost:
    """What was found. `refusal` is the kernel's answer to new namespaces; empty if it makes them."""

    system: str = sys.platform
    user: int = 0
    refusal: str = ""
    lacking: tuple[str, ...] = ()
    """Packages."""
    containerd: Path = Path("containerd")
    ctr: Path = Path("ctr")
    plugins: Path = _PLUGIN_FOLDERS[0]


def find_node_host(environment: Mapping[str, str] = os.environ) -> NodeHost:
    """Looks around, and tries whether namespaces can be made; some milliseconds."""
    user = os.geteuid()
    if sys.platform != "linux" or user != 0:
        return NodeHost(user=user)
    path = f"{environment.get('PATH', '')}:{_ADMINISTRATORS}"
    found = {name: shutil.which(name, path=path) for name in _PROGRAMS}
    lacking = {package for name, package in _PROGRAMS.items() if found[name] is None}
    plugins = next((folder for folder in _PLUGIN_FOLDERS if _has_plugins(folder)), None)
    if plugins is None:
        lacking.add(_PLUGINS_PACKAGE)
    return NodeHost(
        user=user,
        refusal=_try_namespaces() or _try_cgroups(),
        lacking=tuple(sorted(lacking)),
        containerd=Path(found["containerd"] or "containerd"),
        ctr=Path(found["ctr"] or "ctr"),
        plugins=plugins or _PLUGIN_FOLDERS[0],
    )


def why_no_node(host: NodeHost) -> str:
    """One sentence with the reason and the remedy; empty if a node can run."""
    if host.system != "linux":
        return f"a node needs Linux (this is {host.system}): {_INSTEAD}"
    if host.user != 0:
        return f"a node needs root (you are user {host.user}): run this as root, or {_INSTEAD}"
    if host.refusal:
        return f"a node cannot run in this place ({host.refusal}): {_INSTEAD}"
    if host.lacking:
        packages = " ".join(host.lacking)
        return f"a node needs programs that are not here: install Debian's {packages}, or {_INSTEAD}"
    return ""


def _has_plugins(folder: Path) -> bool:
    return all(os.access(folder / name, os.X_OK) for name in _PLUGINS)


def _try_namespaces() -> str:
    try:
        subprocess.run(
            ["unshare", "--net", "--mount", "--pid", "--fork", "--mount-proc", "true"],
            capture_output=True,
            text=True,
            check=True,
            timeout=20,
        )
    except subprocess.CalledProcessError as error:
        return str(error.stderr).strip() or "unshare fails"
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return ""


def _try_cgroups() -> str:
    root = Path("/sys/fs/cgroup")
    hierarchies = [root] if (root / "cgroup.controllers").exists() else [root / "memory", root / "pids"]
    for hierarchy in hierarchies:
        if not os.access(hierarchy / "cgroup.procs", os.W_OK):
            return f"{hierarchy} is no control group that can be written"
    return ""
