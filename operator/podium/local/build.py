"""The Kubernetes components: those in `$KUBEBUILDER_ASSETS`, the rest compiled from their Go module."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from podium.local.cache import Cache, fingerprint
from podium.local.errors import LocalError
from podium.local.prerequisites import GO_AT_LEAST, Need
from podium.local.processes import Processes, Program
from podium.local.progress import Progress, Silence, Step
from podium.local.services import tail

KUBERNETES_VERSION = "v1.36.3"
COMPONENTS = ("etcd", "kube-apiserver", "kube-controller-manager", "kubectl")
_WHAT = "the Kubernetes components"
_VERSION_PACKAGE = "k8s.io/component-base/version"


@dataclass(frozen=True)
class Binaries:
    """Where each component is."""

    etcd: Path
    apiserver: Path
    controller_manager: Path
    kubectl: Path


def find_assets(environment: Mapping[str, str] = os.environ) -> dict[str, Path]:
    """The components that `$KUBEBUILDER_ASSETS` holds, by name. Empty if the variable is not set."""
    folder = environment.get("KUBEBUILDER_ASSETS")
    if not folder:
        return {}
    candidates = {name: Path(folder) / name for name in COMPONENTS}
    return {name: path for name, path in candidates.items() if os.access(path, os.X_OK)}


def needs_for_binaries(cache: Cache, environment: Mapping[str, str] = os.environ) -> frozenset[Need]:
    """What has to be on this machine before `provide_binaries`; nothing once they are there."""
    if set(find_assets(environment)) == set(COMPONENTS) or cache.path(_key()).exists():
        return frozenset()
    return frozenset({Need.GO, Need.ROOM_TO_BUILD})


def provide_binaries(
    cache: Cache,
    processes: Processes,
    progress: Progress | None = None,
    environment: Mapping[str, str] = os.environ,
) -> Binaries:
    """All components, building at most once what is not there.

    Takes 7–12 minutes on two cores the first time, then no time. Raises LocalError with the compiler's words.
    """
    found = find_assets(environment)
    if set(found) != set(COMPONENTS):
        progress = progress or Silence()

        def build(half: Path) -> None:
            with progress.step(f"building Kubernetes {KUBERNETES_VERSION} (once)") as step:
                build_components(half, processes, step, environment)

        built = cache.once(_key(), _WHAT, build, progress, lambda: processes.closed)
        found = {name: built / "bin" / name for name in COMPONENTS} | found
    return Binaries(
        etcd=found["etcd"],
        apiserver=found["kube-apiserver"],
        controller_manager=found["kube-controller-manager"],
        kubectl=found["kubectl"],
    )


def build_components(
    folder: Path, processes: Processes, step: Step, environment: Mapping[str, str] = os.environ
) -> None:
    """Compiles one binary into `folder`/bin and links each component's name to it."""
    go = shutil.which("go", path=environment.get("PATH"))
    if go is None:
        raise LocalError(f"Go {'.'.join(map(str, GO_AT_LEAST))} or newer is needed to build {_WHAT}.")
    source, binaries = folder / "source", folder / "bin"
    shutil.copytree(_source(), source)
    binaries.mkdir()
    scratch = folder / "tmp"
    scratch.mkdir()
    # A killed compiler leaves its scratch files; in here, they go with the half-built rest.
    env = {"CGO_ENABLED": "0", "GOFLAGS": "", "GOWORK": "off", "GOTMPDIR": str(scratch)}
    log = folder / "build.log"
    program = Program(
        name="go build",
        argv=(go, "build", "-v", *_flags(), "-o", str(binaries / "kubernetes"), "."),
        folder=source,
        log=log,
        env=env,
    )
    step.update("starting the compiler")
    log.touch()
    build = processes.start(program)
    total: int | None = None
    while True:
        try:
            code = build.wait(timeout=1.0)
        except subprocess.TimeoutExpired:
            lines = log.read_text(errors="replace").splitlines()
            downloads = sum(line.startswith("go: downloading") for line in lines)
            compiled = len(lines) - downloads
            if compiled and total is None:
                total = _count_packages(go, source, {**environment, **env})
            if compiled:
                step.update(f"package {compiled} of about {total}", compiled, total)
            elif downloads:
                step.update(f"downloading the modules ({downloads} so far)")
            continue
        break
    if code != 0:
        raise LocalError(f"building {_WHAT} failed; the end of what Go said:\n{tail(log)}")
    for name in COMPONENTS:
        (binaries / name).symlink_to("kubernetes")
    shutil.rmtree(source)
    shutil.rmtree(scratch)


def _flags() -> tuple[str, ...]:
    # Without a stamped version, kubectl and helm cannot tell what server they talk to.
    major, minor, _ = KUBERNETES_VERSION.removeprefix("v").split(".")
    stamps = {"gitVersion": KUBERNETES_VERSION, "gitMajor": major, "gitMinor": minor}
    ldflags = " ".join(["-s -w", *(f"-X {_VERSION_PACKAGE}.{key}={value}" for key, value in stamps.items())])
    return ("-trimpath", "-ldflags", ldflags)


def _key() -> str:
    files = sorted(path for path in _source().iterdir() if path.is_file())
    contents = [part for path in files for part in (path.name, path.read_bytes())]
    target = f"{platform.system()}/{platform.machine()}"
    return f"kubernetes/{KUBERNETES_VERSION}-{fingerprint([*contents, *_flags(), target])}"


def _source() -> Path:
    return Path(__file__).with_name("kubernetes")


def _count_packages(go: str, source: Path, environment: Mapping[str, str]) -> int:
    """How many packages there are to compile at most; some may be in Go's own cache already."""
    listing = subprocess.run(
        [go, "list", "-deps", "."], cwd=source, capture_output=True, text=True, check=False, env=environment
    )
    return max(1, len(listing.stdout.splitlines()))
