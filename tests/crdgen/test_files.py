"""The generated files: they are what the types say, and fit for people and servers to read."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from podium.api.v1alpha1 import KINDS, Kind
from podium.crdgen import build_crd
from podium.crdgen.__main__ import main, render_crds, render_pages

ROOT = Path(__file__).parents[2]
REJECTS = sorted((ROOT / "tests/rejects/api").glob("*.yaml"))
by_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)


@pytest.mark.parametrize(
    ("folder", "rendered"), [("crds", render_crds), ("docs/reference", render_pages)], ids=["crds", "docs"]
)
def test_the_files_are_what_the_types_say(folder: str, rendered: Any) -> None:
    there = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / folder).iterdir()}
    assert there == rendered(), "run: make crds"


@by_kind
def test_a_crd_is_small(kind: Kind) -> None:
    assert len(yaml.safe_dump(build_crd(kind)).encode()) < 200_000


@by_kind
def test_every_field_is_described(kind: Kind) -> None:
    (version,) = build_crd(kind)["spec"]["versions"]
    missing = [
        path
        for path, field in walk("", version["schema"]["openAPIV3Schema"])
        if not field.get("description") and path != ".metadata"
    ]
    assert missing == []


@by_kind
def test_status_has_no_defaults_but_the_fresh_one(kind: Kind) -> None:
    (version,) = build_crd(kind)["spec"]["versions"]
    status = version["schema"]["openAPIV3Schema"]["properties"]["status"]
    assert status["default"] == {"observedGeneration": -1}
    keys = {key for _, field in walk("", status) for key in field.get("x-kubernetes-list-map-keys", ())}
    defaulted = {path.rpartition(".")[2] for path, field in walk("", status) if path and "default" in field}
    assert defaulted <= keys, "only the keys of list maps, which Kubernetes wants to have one"


def test_two_builds_are_equal_to_the_byte() -> None:
    assert render_crds() == render_crds()


def test_check_names_the_file_that_differs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    crds, docs = tmp_path / "crds", tmp_path / "docs"
    assert main([str(crds), "--docs", str(docs)]) == 0
    assert main(["--check", str(crds), "--docs", str(docs)]) == 0
    edited = crds / "podium.dev_workflows.yaml"
    edited.write_text(edited.read_text(encoding="utf-8").replace("pwf", "wf"), encoding="utf-8")
    before = edited.read_text(encoding="utf-8")
    capsys.readouterr()
    assert main(["--check", str(crds), "--docs", str(docs)]) == 1
    said = capsys.readouterr().err
    assert "podium.dev_workflows.yaml" in said
    assert "make crds" in said
    assert edited.read_text(encoding="utf-8") == before, "--check writes nothing"
    assert main([str(crds)]) == 0
    assert "pwf" in edited.read_text(encoding="utf-8")


def test_check_misses_a_file_that_is_not_there(tmp_path: Path) -> None:
    assert main(["--check", str(tmp_path)]) == 1


def test_every_refused_manifest_says_what_it_wants() -> None:
    assert len(REJECTS) >= 20
    assert [
        path.name for path in REJECTS if not path.read_text(encoding="utf-8").startswith("# wants: ")
    ] == []


def test_every_rule_has_a_manifest_that_breaks_it() -> None:
    wanted = "\n".join(path.read_text(encoding="utf-8").splitlines()[0] for path in REJECTS)
    rules = {
        rule["message"]
        for kind in KINDS
        for _, field in walk("", build_crd(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"])
        for rule in field.get("x-kubernetes-validations", ())
    }
    assert {rule for rule in rules if rule not in wanted} == set()


def walk(path: str, node: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every field with its path, and every object that is an item or a value."""
    yield path, node
    for name, field in node.get("properties", {}).items():
        yield from walk(f"{path}.{name}", field)
    for key, suffix in (("items", "[]"), ("additionalProperties", "{}")):
        if node.get(key, {}).get("type") == "object":
            yield from walk(path + suffix, node[key])
