"""The programs and the room this machine must have, found or asked for all at once."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from podium.local.errors import MissingPrerequisites
from podium.local.node_host import NodeHost, find_node_host, why_no_node

Version = tuple[int, ...]
"""(1, 26, 8): only numbers, compared from the left."""

GO_AT_LEAST: Version = (1, 26)
MAVEN_AT_LEAST: Version = (3, 8)
JAVA_AT_LEAST: Version = (21,)
_GIB = 1024**3
_SECONDS_TO_ANSWER = 20
_SECONDS_TO_FETCH_GO = 300


class Need(Enum):
    """What a piece of work cannot do without."""

    GO = "go"
    MAVEN = "maven"
    JAVA = "java"
    KUBECTL = "kubectl"
    NODE = "node"
    ROOM_TO_BUILD = "room to build"
    ROOM_TO_RUN = "room to run"


@dataclass(frozen=True)
class Tool:
    """A program that was found. `version` is () if it did not say."""

    path: Path
    version: Version


@dataclass(frozen=True)
class Found:
    """What this machine has; `free_bytes` is on the disk of the cache. Tools may be too old."""

    go: Tool | None = None
    maven: Tool | None = None
    java: Tool | None = None
    kubectl: Tool | None = None
    node: NodeHost = field(default_factory=NodeHost)
    free_bytes: int = 0


def require(needs: Iterable[Need], cache: Path, environment: Mapping[str, str] = os.environ) -> Found:
    """What was found, if it is enough. Raises MissingPrerequisites, which names everything that is not."""
    wanted = frozenset(needs)
    found = Found(
        go=find_go(environment) if Need.GO in wanted else None,
        maven=find_maven(environment) if Need.MAVEN in wanted else None,
        java=find_java(environment) if Need.JAVA in wanted else None,
        kubectl=find_kubectl(environment) if Need.KUBECTL in wanted else None,
        node=find_node_host(environment) if Need.NODE in wanted else NodeHost(),
        free_bytes=_free_bytes(cache),
    )
    if remedies := missing(wanted, found, cache):
        raise MissingPrerequisites(remedies)
    return found


def missing(needs: frozenset[Need], found: Found, cache: Path) -> tuple[str, ...]:
    """One sentence for each need that is not met: what, what there is instead, and the remedy."""
    remedies = []
    if Need.GO in needs and not _enough(found.go, GO_AT_LEAST):
        remedies.append(
            f"Go 1.26 or newer is needed to build the Kubernetes components ({_instead(found.go)}): install "
            "it, start a container engine and install kind, or name a cluster: --context NAME"
        )
    if Need.JAVA in needs and not _enough(found.java, JAVA_AT_LEAST):
        remedies.append(
            f"a JDK of version 21 or newer is needed to run Conductor ({_instead(found.java)}): install one, "
            "set JAVA_HOME to it, or name a Conductor: --conductor-url URL"
        )
    if Need.MAVEN in needs and not _enough(found.maven, MAVEN_AT_LEAST):
        remedies.append(
            f"Maven 3.8 or newer is needed to download Conductor ({_instead(found.maven)}): install it, or "
            "name a Conductor: --conductor-url URL"
        )
    if Need.KUBECTL in needs and found.kubectl is None:
        remedies.append("kubectl is needed to talk to that cluster (none found on PATH): install it")
    if Need.NODE in needs and (obstacle := why_no_node(found.node)):
        remedies.append(obstacle)
    room = 6 if Need.ROOM_TO_BUILD in needs else 1 if Need.ROOM_TO_RUN in needs else 0
    if found.free_bytes < room * _GIB:
        remedies.append(
            f"{room} GB of free disk are needed ({found.free_bytes / _GIB:.1f} GB are free for {cache}): "
            "make room, or put the cache elsewhere: PODIUM_CACHE=FOLDER"
        )
    return tuple(remedies)


def find_go(environment: Mapping[str, str] = os.environ) -> Tool | None:
    """Go, with the version that it would build with."""
    path = shutil.which("go", path=environment.get("PATH"))
    if path is None:
        return None
    own = parse_go_version(_say([path, "version"], {**environment, "GOTOOLCHAIN": "local"}))
    if own >= GO_AT_LEAST or own < (1, 21):
        return Tool(Path(path), own)
    # From 1.21 on, an older Go fetches the newer one that a module asks for, unless told not to, or offline.
    with tempfile.TemporaryDirectory() as module:
        wanted = ".".join(map(str, GO_AT_LEAST))
        (Path(module) / "go.mod").write_text(f"module probe\n\ngo {wanted}.0\n")
        answer = _say([path, "version"], dict(environment), _SECONDS_TO_FETCH_GO, Path(module))
    return Tool(Path(path), parse_go_version(answer) or own)


def find_maven(environment: Mapping[str, str] = os.environ) -> Tool | None:
    path = shutil.which("mvn", path=environment.get("PATH"))
    return Tool(Path(path), parse_maven_version(_say([path, "-v"], environment))) if path else None


def find_java(environment: Mapping[str, str] = os.environ) -> Tool | None:
    """The first Java that is new enough; if none is, the first of all, so that it can be named."""
    first = None
    for home in _java_homes(environment):
        java = home / "bin" / "java"
        if not os.access(java, os.X_OK):
            continue
        tool = Tool(java, _java_version(home, environment))
        if _enough(tool, JAVA_AT_LEAST):
            return tool
        first = first or (tool if tool.version else None)
    return first


def find_kubectl(environment: Mapping[str, str] = os.environ) -> Tool | None:
    path = shutil.which("kubectl", path=environment.get("PATH"))
    return Tool(Path(path), ()) if path else None


def parse_go_version(text: str) -> Version:
    """`go version go1.26.8 linux/amd64` → (1, 26, 8); () if there is no version in it."""
    return _numbers(re.search(r"\bgo(\d+(?:\.\d+)*)", text))


def parse_maven_version(text: str) -> Version:
    """`Apache Maven 3.8.7 (…)`, colours or not → (3, 8, 7)."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text)
    return _numbers(re.search(r"Apache Maven (\d+(?:\.\d+)*)", plain))


def parse_java_version(text: str) -> Version:
    """`openjdk version "25.0.3" 2026-04-21` → (25, 0, 3); the old `"1.8.0_392"` → (8, 0)."""
    numbers = _numbers(re.search(r'(?:version "|JAVA_VERSION=")(\d+(?:\.\d+)*)', text))
    return numbers[1:] if numbers[:1] == (1,) else numbers


def _java_homes(environment: Mapping[str, str]) -> Iterator[Path]:
    if named := environment.get("JAVA_HOME"):
        yield Path(named)
    if on_path := shutil.which("java", path=environment.get("PATH")):
        yield Path(on_path).resolve().parent.parent
    home = Path(environment.get("HOME", "/nonexistent"))
    for folder, pattern in (
        (Path("/usr/lib/jvm"), "*"),
        (Path("/usr/java"), "*"),
        (Path("/opt"), "*/"),
        (Path("/opt/java"), "*"),
        (home / ".sdkman/candidates/java", "*"),
        (home / ".jdks", "*"),
        (Path("/Library/Java/JavaVirtualMachines"), "*/Contents/Home"),
        (home / "Library/Java/JavaVirtualMachines", "*/Contents/Home"),
        (Path("/opt/homebrew/opt"), "openjdk*/libexec/openjdk.jdk/Contents/Home"),
        (Path("/usr/local/opt"), "openjdk*/libexec/openjdk.jdk/Contents/Home"),
    ):
        if folder.is_dir():
            yield from sorted(folder.glob(pattern), reverse=True)


def _java_version(home: Path, environment: Mapping[str, str]) -> Version:
    try:
        # Every JDK since 9 writes down what it is; reading that is quicker than starting it.
        return parse_java_version((home / "release").read_text(errors="replace"))
    except OSError:
        return parse_java_version(_say([str(home / "bin" / "java"), "-version"], environment))


def _say(
    argv: list[str],
    environment: Mapping[str, str],
    timeout: int = _SECONDS_TO_ANSWER,
    folder: Path | None = None,
) -> str:
    try:
        answer = subprocess.run(
            argv, capture_output=True, text=True, check=False, timeout=timeout, env=environment, cwd=folder
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return answer.stdout + answer.stderr if answer.returncode == 0 else ""


def _numbers(match: re.Match[str] | None) -> Version:
    return tuple(int(number) for number in match[1].split(".")) if match else ()


def _enough(tool: Tool | None, at_least: Version) -> bool:
    return tool is not None and tool.version >= at_least


def _instead(tool: Tool | None) -> str:
    if tool is None:
        return "none found"
    return f"found {'.'.join(map(str, tool.version)) or 'one that does not say its version'}"


def _free_bytes(folder: Path) -> int:
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free
