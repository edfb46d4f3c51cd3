"""What is missing is said in one line each, with the remedy, all at once."""

from pathlib import Path

import pytest

from podium.local.errors import MissingPrerequisites
from podium.local.prerequisites import (
    Found,
    Need,
    Tool,
    Version,
    find_java,
    missing,
    parse_go_version,
    parse_java_version,
    parse_maven_version,
    require,
)

PLENTY = 100 * 1024**3
ALL = frozenset({Need.GO, Need.MAVEN, Need.JAVA, Need.ROOM_TO_BUILD})


def _tool(*version: int) -> Tool:
    return Tool(Path("/usr/bin/tool"), version)


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("go version go1.26.8 linux/amd64\n", (1, 26, 8)),
        ("go version go1.27rc1 darwin/arm64\n", (1, 27)),
        ("go version devel go1.27-3a84e1e Mon Jan 5 linux/amd64\n", (1, 27)),
        ("bash: go: command not found\n", ()),
        ("", ()),
    ],
)
def test_go_versions(text: str, version: Version) -> None:
    assert parse_go_version(text) == version


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("\x1b[1mApache Maven 3.8.7\x1b[m\nMaven home: /usr/share/maven\nJava version: 17.0.15", (3, 8, 7)),
        ("Apache Maven 4.0.0-rc-5 (fb3ecaef)\nMaven home: /opt/maven\n", (4, 0, 0)),
        ("The JAVA_HOME environment variable is not defined correctly\n", ()),
    ],
)
def test_maven_versions(text: str, version: Version) -> None:
    assert parse_maven_version(text) == version


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ('openjdk version "17.0.15" 2025-04-15\nOpenJDK Runtime Environment (build 17.0.15+6)', (17, 0, 15)),
        ('openjdk version "25" 2025-09-16\n', (25,)),
        ('java version "1.8.0_392"\n', (8, 0)),
        ('openjdk version "26-ea" 2026-03-17\n', (26,)),
        (
            'IMPLEMENTOR="Eclipse Adoptium"\nJAVA_RUNTIME_VERSION="25.0.3+9-LTS"\nJAVA_VERSION="25.0.3"\n',
            (25, 0, 3),
        ),
        ("The operation couldn't be completed. Unable to locate a Java Runtime.\n", ()),
    ],
)
def test_java_versions(text: str, version: Version) -> None:
    assert parse_java_version(text) == version


def test_nothing_is_missing_on_a_good_machine() -> None:
    found = Found(go=_tool(1, 26, 8), maven=_tool(3, 8, 7), java=_tool(21), free_bytes=PLENTY)
    assert missing(ALL, found, Path("/cache")) == ()


def test_only_what_is_needed_is_asked_for() -> None:
    assert missing(frozenset({Need.JAVA}), Found(java=_tool(25), free_bytes=0), Path("/cache")) == ()


def test_everything_is_said_at_once() -> None:
    found = Found(go=_tool(1, 21), java=_tool(17, 0, 15), free_bytes=2 * 1024**3)
    go, java, maven, disk = missing(ALL, found, Path("/cache"))
    assert go == (
        "Go 1.26 or newer is needed to build the Kubernetes components (found 1.21): install it, start a "
        "container engine and install kind, or name a cluster: --context NAME"
    )
    assert "version 21 or newer" in java
    assert "found 17.0.15" in java
    assert "--conductor-url" in java
    assert "none found" in maven
    assert "6 GB" in disk
    assert "2.0 GB are free for /cache" in disk
    assert "PODIUM_CACHE" in disk


def test_a_bare_machine_lacks_them_all(tmp_path: Path) -> None:
    with pytest.raises(MissingPrerequisites) as caught:
        require({Need.GO, Need.MAVEN, Need.KUBECTL}, tmp_path / "cache" / "podium", {"PATH": ""})
    assert [remedy.split()[0] for remedy in caught.value.remedies] == ["Go", "Maven", "kubectl"]


def _java_home(folder: Path, version: str) -> Path:
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "java").write_text("#!/bin/sh\n")
    (folder / "bin" / "java").chmod(0o755)
    (folder / "release").write_text(f'JAVA_VERSION="{version}"\n')
    return folder


def test_a_java_that_is_new_enough_is_taken_wherever_it_is(tmp_path: Path) -> None:
    old = _java_home(tmp_path / "old", "17.0.15")
    new = _java_home(tmp_path / "home" / ".sdkman" / "candidates" / "java" / "99-tem", "99.0.1")
    named = _java_home(tmp_path / "named", "88")
    environment = {"PATH": str(old / "bin"), "HOME": str(tmp_path / "home")}
    assert find_java({**environment, "JAVA_HOME": str(named)}) == Tool(named / "bin" / "java", (88,))
    found = find_java({**environment, "JAVA_HOME": str(old)})
    assert found is not None
    assert found.version >= (21,)
    assert new.exists()
