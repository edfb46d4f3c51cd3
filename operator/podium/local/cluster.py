"""Which cluster to use on this machine, and clusters that are somebody else's work."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from podium.local.build import find_assets, needs_for_binaries
from podium.local.cache import Cache
from podium.local.errors import LocalError
from podium.local.pki import write_secret
from podium.local.prerequisites import Need
from podium.local.processes import Processes, Program
from podium.local.progress import Progress
from podium.local.services import tail

_SECONDS_FOR_AN_ENGINE = 5


class Source(StrEnum):
    """Where the cluster comes from."""

    CONTEXT = "context"
    """A cluster of the user's, by the name of its kubeconfig context."""
    ASSETS = "assets"
    """Processes here, from the binaries in `$KUBEBUILDER_ASSETS`."""
    KIND = "kind"
    """A kind cluster of our own, in a container engine."""
    BUILD = "build"
    """Processes here, from binaries that we compile."""

    @property
    def runs_here(self) -> bool:
        """Whether its servers are plain processes that we start."""
        return self in (Source.ASSETS, Source.BUILD)


@dataclass(frozen=True)
class Surroundings:
    """What the choice depends on. `engine` is docker or podman, if one really answers."""

    context: str | None = None
    assets: frozenset[str] = frozenset()
    kind: bool = False
    engine: str | None = None


def choose_source(surroundings: Surroundings) -> Source:
    """A named context, else ready binaries, else kind, else our own build."""
    if surroundings.context:
        return Source.CONTEXT
    if {"etcd", "kube-apiserver"} <= surroundings.assets:
        return Source.ASSETS
    if surroundings.kind and surroundings.engine:
        return Source.KIND
    return Source.BUILD


def survey(context: str | None, environment: Mapping[str, str] = os.environ) -> Surroundings:
    """Looks around; up to 10 s if container engines hang. `$PODIUM_CONTEXT` stands in for `context`."""
    context = context or environment.get("PODIUM_CONTEXT") or None
    assets = frozenset(find_assets(environment))
    if context or choose_source(Surroundings(assets=assets)) is Source.ASSETS:
        return Surroundings(context=context, assets=assets)
    kind = shutil.which("kind", path=environment.get("PATH")) is not None
    return Surroundings(assets=assets, kind=kind, engine=find_engine(environment) if kind else None)


def needs_for_source(
    source: Source, cache: Cache, environment: Mapping[str, str] = os.environ
) -> frozenset[Need]:
    """What has to be on this machine for a cluster from there."""
    return needs_for_binaries(cache, environment) if source.runs_here else frozenset({Need.KUBECTL})


def export_context(context: str, kubeconfig: Path, kubectl: Path) -> str:
    """Writes a kubeconfig (mode 0600) with that context alone, and makes it current; the cluster's URL.

    Reads the ordinary kubeconfig and changes nothing there. Raises LocalError if there is no such context.
    """
    names = _kubectl_config(kubectl, "get-contexts", "--output=name").split()
    if context not in names:
        known = ", ".join(names) or "none"
        raise LocalError(f'there is no context "{context}" in the kubeconfig; there are: {known}.')
    alone = _kubectl_config(kubectl, "view", "--raw", "--flatten", "--minify", f"--context={context}")
    write_secret(kubeconfig, f"{alone}\n".encode())
    return read_cluster_url(kubectl, kubeconfig)


def read_cluster_url(kubectl: Path, kubeconfig: Path) -> str:
    """The address of the API server that a kubeconfig leads to."""
    server = "--output=jsonpath={.clusters[0].cluster.server}"
    return _kubectl_config(kubectl, "view", "--minify", f"--kubeconfig={kubeconfig}", server)


def create_kind_cluster(
    name: str, kubeconfig: Path, log: Path, processes: Processes, progress: Progress, engine: str
) -> None:
    """A kind cluster named `name` with a kubeconfig of its own; about a minute. Raises LocalError."""
    argv = ("kind", "create", "cluster", "--name", name, "--kubeconfig", str(kubeconfig), "--wait", "180s")
    program = Program("kind", argv, kubeconfig.parent, log, env=_kind_environment(engine))
    with progress.step(f"creating the kind cluster {name}"):
        if processes.start(program).wait() != 0:
            raise LocalError(f"kind could not create a cluster; the end of {log}:\n{tail(log)}")
    kubeconfig.chmod(0o600)


def delete_kind_cluster(name: str, kubeconfig: Path, engine: str) -> None:
    """Deletes it if it is there. Raises LocalError with what kind said."""
    argv = ["kind", "delete", "cluster", "--name", name, "--kubeconfig", str(kubeconfig)]
    try:
        answer = subprocess.run(
            argv, capture_output=True, text=True, check=False, env={**os.environ, **_kind_environment(engine)}
        )
    except FileNotFoundError:
        raise LocalError(f"kind is not on PATH any more; delete its cluster {name} by hand.") from None
    if answer.returncode != 0:
        raise LocalError(f"kind could not delete the cluster {name}: {answer.stderr.strip()}")


def _kind_environment(engine: str) -> dict[str, str]:
    return {"KIND_EXPERIMENTAL_PROVIDER": engine} if engine != "docker" else {}


def find_engine(environment: Mapping[str, str]) -> str | None:
    """A client on PATH says little: only an engine that answers can run a node."""
    for engine in ("docker", "podman"):
        path = shutil.which(engine, path=environment.get("PATH"))
        if path is None:
            continue
        try:
            subprocess.run(
                [path, "info"],
                capture_output=True,
                check=True,
                timeout=_SECONDS_FOR_AN_ENGINE,
                env=environment,
            )
        except (OSError, subprocess.SubprocessError):
            continue
        return engine
    return None


def _kubectl_config(kubectl: Path, *arguments: str) -> str:
    argv = [str(kubectl), "config", *arguments]
    answer = subprocess.run(argv, capture_output=True, text=True, check=False)
    if answer.returncode != 0:
        raise LocalError(f"the kubeconfig cannot be read: {answer.stderr.strip()}")
    return answer.stdout.strip()
