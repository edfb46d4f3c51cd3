"""Conductor's server program: downloaded once, unpacked, and prepared to start in seconds.

Unpacked, because the Java machine cannot keep an archive of classes that sit in jars within a jar. With such
an archive (made by one start and stop) the server is up after a third of the time and a third of the CPU.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from podium.local.cache import Cache, fingerprint
from podium.local.errors import Interrupted, LocalError
from podium.local.prerequisites import Need, Tool, find_maven
from podium.local.processes import Processes, Program
from podium.local.progress import Progress, Silence, Step
from podium.local.services import tail

CONDUCTOR_VERSION = "3.32.3"
_GROUP, _ARTIFACT = "org.conductoross", "conductor-server"
_JAR = f"{_ARTIFACT}-{CONDUCTOR_VERSION}-boot.jar"
_SHA256 = "6b1615a5beb82bbbfa05219d0f1b84440aa8c0bef1371662803ef5588d7d507b"
_BYTES = 457_760_812
_COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy"
_KEY = f"conductor/{CONDUCTOR_VERSION}-{_SHA256[:12]}"
_WHAT = f"Conductor {CONDUCTOR_VERSION}"
# The serial collector: a small heap and few cores; fewer threads, no loss of throughput was seen.
_FLAGS = ("-Xmx1g", "-XX:+UseSerialGC", "-XX:-UsePerfData", "--enable-native-access=ALL-UNNAMED")


@dataclass(frozen=True)
class ConductorServer:
    """How to start it: put `--spring…` arguments behind `argv(…)`."""

    java: Path
    jar: Path
    archive_flags: tuple[str, ...] = ()

    def argv(self, temporary: Path) -> tuple[str, ...]:
        """The command; `temporary` is the folder for what it throws away."""
        own = (f"-Djava.io.tmpdir={temporary}",)
        return (str(self.java), *_FLAGS, *own, *self.archive_flags, "-jar", str(self.jar))


def needs_for_conductor(cache: Cache, environment: Mapping[str, str] = os.environ) -> frozenset[Need]:
    """What has to be on this machine to run Conductor: always Java, Maven only for the first time."""
    there = cache.path(_KEY).exists() or _in_local_repository(environment) is not None
    return frozenset({Need.JAVA} if there else {Need.JAVA, Need.MAVEN})


def provide_conductor(
    cache: Cache,
    java: Tool,
    processes: Processes,
    train: Callable[[ConductorServer], None],
    progress: Progress | None = None,
    environment: Mapping[str, str] = os.environ,
) -> ConductorServer:
    """The server, downloading at most once (458 MB).

    `train` starts the server it is given, and stops it politely when it is ready: Java then writes its
    archive. Raises LocalError with Maven's words.
    """
    progress = progress or Silence()

    def given_up() -> bool:
        return processes.closed

    def unpack(half: Path) -> None:
        half.mkdir()
        jar = _in_local_repository(environment)
        if jar is None:
            with progress.step(f"downloading {_WHAT} (458 MB, once)") as step:
                jar = _download(half, processes, step, environment)
        with progress.step(f"unpacking {_WHAT} (once)"):
            _unpack(java.path, jar, half / "server")
        (half / _JAR).unlink(missing_ok=True)

    server = ConductorServer(java.path, cache.once(_KEY, _WHAT, unpack, progress, given_up) / "server" / _JAR)
    return _with_archive(server, java, cache, train, progress, given_up)


def _with_archive(
    server: ConductorServer,
    java: Tool,
    cache: Cache,
    train: Callable[[ConductorServer], None],
    progress: Progress,
    given_up: Callable[[], bool],
) -> ConductorServer:
    # From 25 on, Java also keeps what it has linked and compiled: 5 s instead of 8 s.
    write, use = (
        ("AOTCacheOutput", "AOTCache")
        if java.version >= (25,)
        else ("ArchiveClassesAtExit", "SharedArchiveFile")
    )
    release = java.path.parent.parent / "release"
    identity = release.read_bytes() if release.exists() else str(java.version)
    # Java refuses an archive of another build of itself, of other flags, or of a jar that was elsewhere.
    key = f"{_KEY}-{fingerprint([identity, str(java.path), str(server.jar), *_FLAGS])}.archive"

    def make(half: Path) -> None:
        half.mkdir()
        with progress.step(f"preparing {_WHAT} for quick starts (once)"):
            try:
                train(ConductorServer(server.java, server.jar, (f"-XX:{write}={half / 'classes'}",)))
            except Interrupted:
                raise
            except LocalError as error:
                # It only starts more slowly without. The empty folder keeps us from trying each time.
                progress.say(f"Conductor will start slowly: {error}")

    archive = cache.once(key, _WHAT, make, progress, given_up) / "classes"
    if not archive.exists():
        return server
    return ConductorServer(server.java, server.jar, (f"-XX:{use}={archive}",))


def _in_local_repository(environment: Mapping[str, str]) -> Path | None:
    """What Maven has already, if it is whole: people who build on Conductor have it."""
    home = Path(environment.get("HOME", "/nonexistent"))
    jar = home / ".m2/repository" / _GROUP.replace(".", "/") / _ARTIFACT / CONDUCTOR_VERSION / _JAR
    return jar if jar.is_file() and jar.stat().st_size == _BYTES else None


def _download(folder: Path, processes: Processes, step: Step, environment: Mapping[str, str]) -> Path:
    maven = find_maven(environment)
    if maven is None:
        raise LocalError(f"Maven is needed to download {_WHAT}.")
    repository = folder / "repository"
    log = folder / "download.log"
    program = Program(
        name="mvn",
        argv=(
            str(maven.path),
            "--batch-mode",
            "--no-transfer-progress",
            "--strict-checksums",
            f"-Dmaven.repo.local={repository}",
            _COPY,
            f"-Dartifact={_GROUP}:{_ARTIFACT}:{CONDUCTOR_VERSION}:jar:boot",
            f"-DoutputDirectory={folder}",
        ),
        folder=folder,
        log=log,
    )
    maven_run = processes.start(program)
    while True:
        try:
            code = maven_run.wait(timeout=1.0)
        except subprocess.TimeoutExpired:
            files = repository.glob(f"**/{_ARTIFACT}/{CONDUCTOR_VERSION}/*")
            done = sum(path.stat().st_size for path in files if path.exists())
            step.update(f"{done / 1e6:.0f} MB", done, _BYTES)
            continue
        break
    jar = folder / _JAR
    if code != 0 or not jar.exists():
        raise LocalError(f"downloading {_WHAT} failed; the end of what Maven said:\n{tail(log)}")
    shutil.rmtree(repository)
    return jar


def _unpack(java: Path, jar: Path, target: Path) -> None:
    with jar.open("rb") as content:
        if hashlib.file_digest(content, "sha256").hexdigest() != _SHA256:
            raise LocalError(f"{jar} is not the Conductor {CONDUCTOR_VERSION} that was published; remove it.")
    command = [str(java), "-Djarmode=tools", "-jar", str(jar), "extract", "--destination", str(target)]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    if answer.returncode != 0:
        raise LocalError(f"unpacking {jar} failed: {answer.stderr.strip() or answer.stdout.strip()}")
