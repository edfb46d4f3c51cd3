"""Which cluster `podium dev` and the tests use, from what there is on the machine."""

from pathlib import Path

import pytest

from podium.local.cluster import Source, Surroundings, choose_source, survey

SERVERS = frozenset({"etcd", "kube-apiserver"})


@pytest.mark.parametrize(
    ("surroundings", "source"),
    [
        (Surroundings(), Source.BUILD),
        (Surroundings(context="mine"), Source.CONTEXT),
        (Surroundings(context="mine", assets=SERVERS, kind=True, engine="docker"), Source.CONTEXT),
        (Surroundings(assets=SERVERS, kind=True, engine="docker"), Source.ASSETS),
        (Surroundings(assets=SERVERS | {"kubectl"}), Source.ASSETS),
        (Surroundings(assets=frozenset({"kubectl"}), kind=True, engine="docker"), Source.KIND),
        (Surroundings(kind=True, engine="docker"), Source.KIND),
        (Surroundings(kind=True, engine="podman"), Source.KIND),
        (Surroundings(kind=True), Source.BUILD),
        (Surroundings(engine="docker"), Source.BUILD),
    ],
)
def test_the_first_that_will_work_is_chosen(surroundings: Surroundings, source: Source) -> None:
    assert choose_source(surroundings) is source


def _program(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


@pytest.mark.parametrize(
    ("programs", "expected"),
    [
        ({}, Surroundings()),
        ({"docker": "exit 0"}, Surroundings()),
        ({"kind": "exit 0", "docker": "exit 1"}, Surroundings(kind=True)),
        ({"kind": "exit 0", "docker": "exit 0"}, Surroundings(kind=True, engine="docker")),
        ({"kind": "", "docker": "exit 1", "podman": ""}, Surroundings(kind=True, engine="podman")),
    ],
)
def test_an_engine_counts_only_if_it_answers(
    tmp_path: Path, programs: dict[str, str], expected: Surroundings
) -> None:
    for name, script in programs.items():
        _program(tmp_path, name, script)
    assert survey(None, {"PATH": str(tmp_path)}) == expected


def test_the_environment_names_a_context_and_the_command_line_wins() -> None:
    environment = {"PATH": "", "PODIUM_CONTEXT": "theirs"}
    assert survey(None, environment).context == "theirs"
    assert survey("mine", environment).context == "mine"


def test_ready_binaries_are_found_by_name(tmp_path: Path) -> None:
    for name in ("etcd", "kube-apiserver", "kubectl"):
        _program(tmp_path, name, "")
    (tmp_path / "kube-controller-manager").write_text("not executable")
    found = survey(None, {"PATH": "", "KUBEBUILDER_ASSETS": str(tmp_path)})
    assert found == Surroundings(assets=frozenset({"etcd", "kube-apiserver", "kubectl"}))
