"""The project's own images, built from its Dockerfile by whatever engine this machine has.

docker and podman keep them in their own stores, under the names below. buildah, which needs no service, keeps
them in the cache; so does anything that asks for archives, as a node does: `node.load_image(archive)`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from podium.local.cache import Cache, fingerprint, hold
from podium.local.cluster import find_engine
from podium.local.errors import LocalError, MissingPrerequisites
from podium.local.processes import Processes, Program
from podium.local.progress import Progress, Silence
from podium.local.services import tail

TARGETS = ("operator", "worker")
_USUAL_BASE = "python:3.12-slim"
# Debian with Python and pip, and without what only people read.
_DEBIAN = (
    "--variant=minbase",
    "--include=ca-certificates,python3,python3-pip",
    "--dpkgopt=path-exclude=/usr/share/doc/*",
    "--dpkgopt=path-exclude=/usr/share/man/*",
    "--dpkgopt=path-exclude=/usr/share/locale/*",
    "bookworm",
)
_AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt"


@dataclass(frozen=True)
class Builder:
    """What builds, on what. `base` is None where a Debian is made as the base."""

    engine: str
    base: str | None


def image_name(target: str) -> str:
    """What an image is called: without a registry, so that a cluster uses what it was given."""
    return f"localhost/podium-{target}:dev"


def choose_builder(engine: str | None, buildah: bool, mmdebstrap: bool, base: str | None) -> Builder:
    """An engine that answers, else buildah, which makes its base itself if it can.

    Raises MissingPrerequisites.
    """
    if engine:
        return Builder(engine, base or _USUAL_BASE)
    if not buildah:
        remedy = "start docker or podman, or install Debian's buildah and mmdebstrap"
        raise MissingPrerequisites([f"something that builds images is needed: {remedy}"])
    return Builder("buildah", base or (None if mmdebstrap else _USUAL_BASE))


def find_builder(base: str | None = None, environment: Mapping[str, str] = os.environ) -> Builder:
    """Looks around; up to 10 s if container engines hang. Raises MissingPrerequisites."""
    path = environment.get("PATH")
    buildah, mmdebstrap = (shutil.which(name, path=path) is not None for name in ("buildah", "mmdebstrap"))
    return choose_builder(find_engine(environment), buildah, mmdebstrap, base)


def build_images(
    checkout: Path,
    builder: Builder,
    cache: Cache,
    processes: Processes,
    progress: Progress | None = None,
    *,
    archives: bool = False,
) -> dict[str, Path]:
    """Builds both images; with `archives`, also says in which files they are, by target.

    Two minutes the first time, then seconds. Raises LocalError with the engine's last words.
    """
    if not (checkout / "Dockerfile").is_file():
        raise LocalError(f"there is no Dockerfile in {checkout}: images are built from a checkout of Podium.")
    progress = progress or Silence()
    folder = cache.path("images")
    (folder / "archives").mkdir(parents=True, exist_ok=True)
    with hold(cache.path("locks/images.lock"), "the images", progress, lambda: processes.closed):
        build = _Build(builder, checkout, cache, processes, folder / "build.log")
        build.log.unlink(missing_ok=True)
        base = builder.base or build.make_base(progress)
        with progress.step("building the images of the operator and the worker"):
            for target in TARGETS:
                build.build(target, base)
        if not archives:
            return {}
        with progress.step("writing the archives of the images"):
            return {target: build.save(target) for target in TARGETS}


@dataclass(frozen=True)
class _Build:
    builder: Builder
    checkout: Path
    cache: Cache
    processes: Processes
    log: Path

    def make_base(self, progress: Progress) -> str:
        """A Debian of packages, made once."""
        key = fingerprint(_DEBIAN)
        name = f"localhost/podium-base:{key}"

        def make(half: Path) -> None:
            half.mkdir()
            with progress.step("making a Debian with Python as the base of images (once)"):
                self._run("mmdebstrap", *_DEBIAN, str(half / "base.tar"))

        folder = self.cache.once(f"images/base-{key}", "the base of images", make, progress)
        if not self._say("images", "--quiet", name):
            (folder / "Dockerfile").write_text("FROM scratch\nADD base.tar /\n")
            self._run(*self._engine, "build", "--tag", name, str(folder))
        return name

    def build(self, target: str, base: str) -> None:
        arguments = ["--build-arg", f"BASE_IMAGE={base}", "--target", target, "--tag", image_name(target)]
        if self.builder.engine == "buildah":
            arguments += ["--layers", "--isolation", "chroot", "--network", "host"]
            if Path(_AUTHORITIES).exists():
                # What this machine trusts, the build must trust too, or pip reaches no index behind a proxy.
                arguments += ["--volume", f"{_AUTHORITIES}:{_AUTHORITIES}:ro"]
        self._run(*self._engine, "build", *arguments, str(self.checkout))

    def save(self, target: str) -> Path:
        """Writes an archive, unless this very image has one."""
        name = image_name(target)
        identity = self._say("inspect", "--type", "image", "--format", self._identity, name)
        archive = self.cache.path(f"images/archives/{target}-{fingerprint([identity])}.tar")
        if archive.exists():
            return archive
        for older in archive.parent.glob(f"{target}-*"):
            older.unlink()
        half = archive.with_suffix(".half")
        if self.builder.engine == "buildah":
            self._run(*self._engine, "push", name, f"docker-archive:{half}:{name}")
        else:
            self._run(*self._engine, "save", "--output", str(half), name)
        return half.replace(archive)

    @property
    def _engine(self) -> tuple[str, ...]:
        if self.builder.engine != "buildah":
            return (self.builder.engine,)
        store = self.cache.path("images/store")
        where = ("--root", str(store / "root"), "--runroot", str(store / "run"))
        return ("buildah", *where, "--storage-driver", "overlay" if os.geteuid() == 0 else "vfs")

    @property
    def _identity(self) -> str:
        return "{{.FromImageID}}" if self.builder.engine == "buildah" else "{{.Id}}"

    def _say(self, *arguments: str) -> str:
        """What the engine answers; empty if it knows of no such thing."""
        answer = subprocess.run([*self._engine, *arguments], capture_output=True, text=True, check=False)
        return answer.stdout.strip() if answer.returncode == 0 else ""

    def _run(self, *argv: str) -> None:
        program = Program(Path(argv[0]).name, argv, self.checkout, self.log)
        if self.processes.start(program).wait() != 0:
            raise LocalError(f"{program.name} failed; the end of {self.log}:\n{tail(self.log, 20)}")
