"""The folder of a pod: what stands in for its volumes, its token, its logs."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from podium.local.pki import write_secret

Json = dict[str, Any]


def write_volumes(folder: Path, volumes: Mapping[str, Mapping[str, bytes]]) -> dict[str, str]:
    """Makes the folders of a pod; mount path → folder. What is in an emptyDir stays through restarts."""
    for name in ("work", "logs", "volumes"):
        (folder / name).mkdir(parents=True, exist_ok=True, mode=0o700)
    folders = {}
    for number, (path, files) in enumerate(volumes.items()):
        own = folder / "volumes" / str(number)
        own.mkdir(exist_ok=True)
        for name, value in files.items():
            target = own / name
            target.parent.mkdir(parents=True, exist_ok=True)
            write_secret(target, value)
        folders[path] = str(own)
    return folders


def remove(folder: Path) -> None:
    """All of it, if there is any."""
    shutil.rmtree(folder, ignore_errors=True)


def tidy(folder: Path) -> None:
    """Only the logs stay."""
    for name in ("work", "volumes"):
        shutil.rmtree(folder / name, ignore_errors=True)
    (folder / "kubeconfig").unlink(missing_ok=True)


def write_kubeconfig(folder: Path, cluster: Json, token: str, namespace: str) -> Path:
    """A kubeconfig (mode 0600) with this token."""
    name = "pod"
    context = {"cluster": name, "user": name, "namespace": namespace}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": cluster}],
        "users": [{"name": name, "user": {"token": token}}],
        "contexts": [{"name": name, "context": context}],
        "current-context": name,
    }
    kubeconfig = folder / "kubeconfig"
    write_secret(kubeconfig, yaml.safe_dump(config, sort_keys=False).encode())
    return kubeconfig
