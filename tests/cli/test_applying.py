"""A folder of manifests that a cluster is kept in step with: what is asked of kubectl, and in which order."""

from pathlib import Path

from podium.cli.applying import ManifestFolder
from podium.local.errors import LocalError

CONFIG = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a%s}\ndata: {}\n"
SPACE = "apiVersion: v1\nkind: Namespace\nmetadata: {name: burst}\n---\n"


class Kubectl:
    """Remembers what it was asked; refuses every dry run, if it shall."""

    def __init__(self, *, refuses: bool = False) -> None:
        self.refuses = refuses
        self.asked: list[tuple[str, ...]] = []

    def __call__(self, *arguments: str) -> str:
        self.asked.append(arguments[:-2])
        if self.refuses and "--dry-run=server" in arguments:
            raise LocalError("no such field")
        return "configmap/a created\n"


def folder(path: Path, text: str, kubectl: Kubectl) -> list[str]:
    """What is said when a folder with this manifest is applied."""
    (path / "a.yaml").write_text(text)
    said: list[str] = []
    ManifestFolder(path, kubectl, said.append).apply_all()
    return said


def test_a_manifest_is_tried_as_a_whole_before_it_is_applied(tmp_path: Path) -> None:
    kubectl = Kubectl()
    assert folder(tmp_path, CONFIG % "", kubectl) == ["a.yaml: configmap/a created"]
    assert kubectl.asked == [("apply", "--dry-run=server"), ("apply",)]


def test_one_that_is_refused_changes_nothing(tmp_path: Path) -> None:
    kubectl = Kubectl(refuses=True)
    assert folder(tmp_path, CONFIG % "", kubectl) == ["a.yaml is not applied: no such field"]
    assert kubectl.asked == [("apply", "--dry-run=server")]


def test_one_that_brings_its_own_namespace_cannot_be_tried_before(tmp_path: Path) -> None:
    kubectl = Kubectl(refuses=True)
    assert folder(tmp_path, SPACE + CONFIG % ", namespace: burst", kubectl) == ["a.yaml: configmap/a created"]
    assert kubectl.asked == [("apply",)]
