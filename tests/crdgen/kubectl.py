"""kubectl as a person calls it, in a namespace of the test's own."""

import json
import os
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import yaml


class Cluster(Protocol):
    """What the session's cluster is asked for here."""

    @property
    def kubeconfig(self) -> Path: ...

    @property
    def kubectl(self) -> Path: ...


@dataclass(frozen=True)
class Answer:
    """What kubectl said, and whether it was content."""

    ok: bool
    out: str
    err: str

    @property
    def value(self) -> Any:
        assert self.ok, self.err
        return json.loads(self.out)


@dataclass(frozen=True)
class Kubectl:
    """Calls in one namespace."""

    cluster: Cluster
    namespace: str

    def __call__(self, *arguments: str, documents: Iterable[dict[str, Any]] | None = None) -> Answer:
        command = [str(self.cluster.kubectl), f"--namespace={self.namespace}", *arguments]
        done = subprocess.run(
            command,
            env=os.environ | {"KUBECONFIG": str(self.cluster.kubeconfig)},
            input=None if documents is None else yaml.safe_dump_all(documents),
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        return Answer(done.returncode == 0, done.stdout, done.stderr)
