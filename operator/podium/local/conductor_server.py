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
from dataclasses import dataclass, field, replace
from pathlib import Path

from podium.local.cache import Cache, fingerprint
from podium.local.errors import Interrupted, LocalError
from podium.local.prerequisites import Need, Tool, find_maven
from podium.local.processes import Processes, Program
from podium.local.progress import Progress, Silence, Step
from podium.local.services import tail

_GROUP, _ARTIFACT = "org.conductoross", "conductor-server"
_COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy"
# The serial collector: a small heap and few cores; fewer threads, no loss of throughput was seen.
_FLAGS = ("-Xmx1g", "-XX:+UseSerialGC", "-XX:-UsePerfData", "--enable-native-access=ALL-UNNAMED")


@dataclass(frozen=True)
class Release:
    """A version of the server as it was published. `settings` make it keep all in a file, if it does not."""

    version: str
    sha256: str
    size: int
    """Bytes."""
    settings: Mapping[str, str] = field(default_factory=dict)

    @property
    def jar(self) -> str:
        return f"{_ARTIFACT}-{self.version}-boot.jar"

    @property
    def key(self) -> str:
        """Where it is in the cache."""
        return f"conductor/{self.version}-{self.sha256[:12]}"

    def __str__(self) -> str:
        return f"Conductor {self.version}"


CURRENT = Release("3.32.3", "6b1615a5beb82bbbfa05219d0f1b84440aa8c0bef1371662803ef5588d7d507b", 457_760_812)
"""What is run unless something else is asked for."""
OLDEST = Release(
    "3.21.14",
    "f0cfdf1cfd2eae1a925109a9d64ec328019af1dd57a0a209c41da0f320a7f31b",
    402_762_920,
    {
        "conductor.db.type": "sqlite",
        "conductor.queue.type": "sqlite",
        "conductor.indexing.enabled": "true",
        "conductor.indexing.type": "sqlite",
        "conductor.elasticsearch.version": "0",
        "spring.datasource.url": "jdbc:sqlite:conductor.db?busy_timeout=15000&journal_mode=WAL",
        "spring.datasource.driver-class-name": "org.sqlite.JDBC",
        # Workflows of its own, made at each start.
        "loadSample": "false",
    },
)
"""The oldest that is tried: what operators may still have."""


@dataclass(frozen=True)
class ConductorServer:
    """How to start it: put `--spring…` arguments behind `argv(…)`."""

    java: Path
    jar: Path
    archive_flags: tuple[str, ...] = ()
    settings: Mapping[str, str] = field(default_factory=dict)

    def argv(self, temporary: Path) -> tuple[str, ...]:
        """The command; `temporary` is the folder for what it throws away."""
        own = (f"-Djava.io.tmpdir={temporary}",)
        return (str(self.java), *_FLAGS, *own, *self.archive_flags, "-jar", str(self.jar))


def needs_for_conductor(
    cache: Cache, environment: Mapping[str, str] = os.environ, release: Release = CURRENT
) -> frozenset[Need]:
    """What has to be on this machine to run Conductor: always Java, Maven only for the first time."""
    there = cache.path(release.key).exists() or _in_local_repository(release, environment) is not None
    return frozenset({Need.JAVA} if there else {Need.JAVA, Need.MAVEN})


def provide_conductor(
    cache: Cache,
    java: Tool,
    processes: Processes,
    train: Callable[[ConductorServer], None],
    progress: Progress | None = None,
    environment: Mapping[str, str] = os.environ,
    release: Release = CURRENT,
) -> ConductorServer:
    """The server, downloading at most once (some 450 MB).

    `train` starts the server it is given, and stops it politely when it is ready: Java then writes its
    archive. Raises LocalError with Maven's words.
    """
    progress = progress or Silence()

    def given_up() -> bool:
        return processes.closed

    def unpack(half: Path) -> None:
        half.mkdir()
        jar = _in_local_repository(release, environment)
        if jar is None:
            with progress.step(f"downloading {release} ({release.size / 1e6:.0f} MB, once)") as step:
                jar = _download(release, half, processes, step, environment)
        with progress.step(f"unpacking {release} (once)"):
            _unpack(release, java.path, jar, half / "server")
        (half / release.jar).unlink(missing_ok=True)

    folder = cache.once(release.key, str(release), unpack, progress, given_up) / "server"
    server = ConductorServer(java.path, folder / release.jar, settings=release.settings)
    return _with_archive(release, server, java, cache, train, progress, given_up)


def _with_archive(
    release: Release,
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
    about = java.path.parent.parent / "release"
    identity = about.read_bytes() if about.exists() else str(java.version)
    # Java refuses an archive of another build of itself, of other flags, or of a jar that was elsewhere.
    key = f"{release.key}-{fingerprint([identity, str(java.path), str(server.jar), *_FLAGS])}.archive"

    def make(half: Path) -> None:
        half.mkdir()
        with progress.step(f"preparing {release} for quick starts (once)"):
            try:
                train(replace(server, archive_flags=(f"-XX:{write}={half / 'classes'}",)))
            except Interrupted:
                raise
            except LocalError as error:
                # It only starts more slowly without. The empty folder keeps us from trying each time.
                progress.say(f"Conductor will start slowly: {error}")

    archive = cache.once(key, str(release), make, progress, given_up) / "classes"
    if not archive.exists():
        return server
    return replace(server, archive_flags=(f"-XX:{use}={archive}",))


def _in_local_repository(release: Release, environment: Mapping[str, str]) -> Path | None:
    """What Maven has already, if it is whole: people who build on Conductor have it."""
    home = Path(environment.get("HOME", "/nonexistent"))
    folder = home / ".m2/repository" / _GROUP.replace(".", "/") / _ARTIFACT / release.version
    jar = folder / release.jar
    return jar if jar.is_file() and jar.stat().st_size == release.size else None


def _download(
    release: Release, folder: Path, processes: Processes, step: Step, environment: Mapping[str, str]
) -> Path:
    maven = find_maven(environment)
    if maven is None:
        raise LocalError(f"Maven is needed to download {release}.")
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
            f"-Dartifact={_GROUP}:{_ARTIFACT}:{release.version}:jar:boot",
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
            files = repository.glob(f"**/{_ARTIFACT}/{release.version}/*")
            done = sum(path.stat().st_size for path in files if path.exists())
            step.update(f"{done / 1e6:.0f} MB", done, release.size)
            continue
        break
    jar = folder / release.jar
    if code != 0 or not jar.exists():
        raise LocalError(f"downloading {release} failed; the end of what Maven said:\n{tail(log)}")
    shutil.rmtree(repository)
    return jar


def _unpack(release: Release, java: Path, jar: Path, target: Path) -> None:
    with jar.open("rb") as content:
        if hashlib.file_digest(content, "sha256").hexdigest() != release.sha256:
            raise LocalError(f"{jar} is not the {release} that was published; remove it.")
    command = [str(java), "-Djarmode=tools", "-jar", str(jar), "extract", "--destination", str(target)]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    if answer.returncode != 0:
        raise LocalError(f"unpacking {jar} failed: {answer.stderr.strip() or answer.stdout.strip()}")
