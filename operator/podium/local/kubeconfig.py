"""Kubeconfigs that need nothing beside them."""

from __future__ import annotations

import base64
from pathlib import Path

import yaml

from podium.local.pki import KeyPair, write_secret

CONTEXT = "podium-local"


def write_kubeconfig(path: Path, url: str, ca: Path, client: KeyPair) -> None:
    """One cluster, one user, one context, everything inside the file (mode 0600)."""
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {"name": CONTEXT, "cluster": {"server": url, "certificate-authority-data": _encoded(ca)}}
        ],
        "users": [
            {
                "name": CONTEXT,
                "user": {
                    "client-certificate-data": _encoded(client.certificate),
                    "client-key-data": _encoded(client.key),
                },
            }
        ],
        "contexts": [{"name": CONTEXT, "context": {"cluster": CONTEXT, "user": CONTEXT}}],
        "current-context": CONTEXT,
    }
    write_secret(path, yaml.safe_dump(config, sort_keys=False).encode())


def _encoded(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()
