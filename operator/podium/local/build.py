"""The Kubernetes components: those in `$KUBEBUILDER_ASSETS`, the rest compiled from their Go modules."""

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
_VERSION_PACKAGE = "k8s.io/component-base/version"


@dataclass(frozen=True)
class Module:
    """A Go module beside this file: one binary, which is the program that it is called by."""

    folder: str
    version: str
    """Of what it is made of, which names it in the cache."""
    what: str
    title: str
    programs: tuple[str, ...]

    @property
    def source(self) -> Path:
        return Path(__file__).with_name(self.folder)

    @property
    def key(self) -> str:
        """Where the result is in the cache."""
        files = sorted(path for path in self.source.iterdir() if path.is_file())
        contents = [part for path in files for part in (path.name, path.read_bytes())]
        target = f"{platform.system()}/{platform.machine()}"
        return f"{self.folder}/{self.version}-{fingerprint([*contents, *_flags(), target])}"


CONTROL_PLANE = Module(
    "kubernetes",
    KUBERNETES_VERSION,
    "the Kubernetes components",
    f"Kubernetes {KUBERNETES_VERSION}",
    COMPONENTS,
)
_KUBELET = Module(
    "kubelet",
    KUBERNETES_VERSION,
    "the components of a node",
    f"kubelet, kube-proxy and kube-scheduler {KUBERNETES_VERSION}",
    ("kubelet", "kube-proxy", "kube-scheduler"),
)
_COREDNS = Module("coredns", "v1.15.0", "CoreDNS", "CoreDNS v1.15.0", ("coredns",))
_PAUSE = Module("pause", "v1", "the pause program", "the pause program", ("pause",))
NODE = (_KUBELET, _COREDNS, _PAUSE)
"""Apart from the control plane, and from each other: who needs no node does not wait for them."""


@dataclass(frozen=True)
class Binaries:
    """Where each component is."""

    etcd: Path
    apiserver: Path
    controller_manager: Path
    kubectl: Path


@dataclass(frozen=True)
class NodeBinaries:
    """What a node needs besides the control plane. All of it is built: a kubelet fits its own API server."""

    control_plane: Binaries
    kubelet: Path
    proxy: Path
    scheduler: Path
    coredns: Path
    pause: Path


def find_assets(environment: Mapping[str, str] = os.environ) -> dict[str, Path]:
    """The components that `$KUBEBUILDER_ASSETS` holds, by name. Empty if the variable is not set."""
    folder = environment.get("KUBEBUILDER_ASSETS")
    if not folder:
        return {}
    candidates = {name: Path(folder) / name for name in COMPONENTS}
    return {name: path for name, path in candidates.items() if os.access(path, os.X_OK)}


def needs_for_binaries(cache: Cache, environment: Mapping[str, str] = os.environ) -> frozenset[Need]:
    """What has to be on this machine before `provide_binaries`; nothing once they are there."""
    return frozenset() if set(find_assets(environment)) == set(COMPONENTS) else _needs(cache, CONTROL_PLANE)


def needs_for_node(cache: Cache) -> frozenset[Need]:
    """What has to be on this machine before `provide_node_binaries`, and to run them."""
    return _needs(cache, CONTROL_PLANE, *NODE) | {Need.NODE}


def _needs(cache: Cache, *modules: Module) -> frozenset[Need]:
    built = all(cache.path(module.key).exists() for module in modules)
    return frozenset() if built else frozenset({Need.GO, Need.ROOM_TO_BUILD})


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
        found = _provide(CONTROL_PLANE, cache, processes, progress, environment) | found
    return Binaries(
        etcd=found["etcd"],
        apiserver=found["kube-apiserver"],
        controller_manager=found["kube-controller-manager"],
        kubectl=found["kubectl"],
    )


def provide_node_binaries(
    cache: Cache,
    processes: Processes,
    progress: Progress | None = None,
    environment: Mapping[str, str] = os.environ,
) -> NodeBinaries:
    """The same for a control plane with a node, without a look at `$KUBEBUILDER_ASSETS`.

    Takes 5–8 minutes more on two cores the first time. Raises LocalError with the compiler's words.
    """
    own = {name: value for name, value in environment.items() if name != "KUBEBUILDER_ASSETS"}
    plane = provide_binaries(cache, processes, progress, own)
    found: dict[str, Path] = {}
    for module in NODE:
        found |= _provide(module, cache, processes, progress, own)
    return NodeBinaries(
        control_plane=plane,
        kubelet=found["kubelet"],
        proxy=found["kube-proxy"],
        scheduler=found["kube-scheduler"],
        coredns=found["coredns"],
        pause=found["pause"],
    )


def _provide(
    module: Module,
    cache: Cache,
    processes: Processes,
    progress: Progress | None,
    environment: Mapping[str, str],
) -> dict[str, Path]:
    """The programs of a module by name, built now if need be."""
    progress = progress or Silence()

    def build(half: Path) -> None:
        with progress.step(f"building {module.title} (once)") as step:
            build_module(module, half, processes, step, environment)

    built = cache.once(module.key, module.what, build, progress, lambda: processes.closed)
    return {name: built / "bin" / name for name in module.programs}


def build_module(
    module: Module,
    folder: Path,
    processes: Processes,
    step: Step,
    environment: Mapping[str, str] = os.environ,
) -> None:
    """Compiles one binary into `folder`/bin and links each program's name to it."""
    go = shutil.which("go", path=environment.get("PATH"))
    if go is None:
        raise LocalError(f"Go {'.'.join(map(str, GO_AT_LEAST))} or newer is needed to build {module.what}.")
    source, binaries = folder / "source", folder / "bin"
    shutil.copytree(module.source, source)
    binaries.mkdir()
    scratch = folder / "tmp"
    scratch.mkdir()
    # A killed compiler leaves its scratch files; in here, they go with the half-built rest.
    env = {"CGO_ENABLED": "0", "GOFLAGS": "", "GOWORK": "off", "GOTMPDIR": str(scratch)}
    log = folder / "build.log"
    program = Program(
        name="go build",
        argv=(go, "build", "-v", *_flags(), "-o", str(binaries / module.folder), "."),
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
        raise LocalError(f"building {module.what} failed; the end of what Go said:\n{tail(log)}")
    for name in module.programs:
        if name != module.folder:
            (binaries / name).symlink_to(module.folder)
    shutil.rmtree(source)
    shutil.rmtree(scratch)


def _flags() -> tuple[str, ...]:
    # Without a stamped version, kubectl and helm cannot tell what server they talk to.
    major, minor, _ = KUBERNETES_VERSION.removeprefix("v").split(".")
    stamps = {"gitVersion": KUBERNETES_VERSION, "gitMajor": major, "gitMinor": minor}
    ldflags = " ".join(["-s -w", *(f"-X {_VERSION_PACKAGE}.{key}={value}" for key, value in stamps.items())])
    return ("-trimpath", "-ldflags", ldflags)


def _count_packages(go: str, source: Path, environment: Mapping[str, str]) -> int:
    """How many packages there are to compile at most; some may be in Go's own cache already."""
    listing = subprocess.run(
        [go, "list", "-deps", "."], cwd=source, capture_output=True, text=True, check=False, env=environment
    )
    return max(1, len(listing.stdout.splitlines()))
