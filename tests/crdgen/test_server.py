"""The real API server: it takes the CRDs, accepts what is good and refuses what is not."""

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kubernetes import client, config

from crdgen.instances import instances
from crdgen.kubectl import Cluster, Kubectl
from podium.api.v1alpha1 import API_VERSION, GROUP, KINDS, VERSION, Kind
from podium.api.v1alpha1.meta import Model

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
ACCEPTED = sorted((ROOT / "tests/crdgen/accepted").glob("*.yaml"))
EXAMPLES = sorted((ROOT / "manifests/examples").rglob("*.yaml"))
REJECTS = sorted((ROOT / "tests/rejects/api").glob("*.yaml"))
KNOWN = {kind.kind for kind in KINDS}

by_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)


@pytest.fixture(scope="module")
def kubectl(cluster: Cluster) -> Kubectl:
    """In a namespace of this module's own; nothing is left in it that an operator would act on."""
    mine = Kubectl(cluster, f"crdgen-{uuid.uuid4().hex[:8]}")
    assert mine("create", "namespace", mine.namespace).ok
    return mine


@pytest.fixture
def emptied(kubectl: Kubectl) -> Iterator[Kubectl]:
    yield kubectl
    assert kubectl("delete", "podium", "--all").ok


def read(path: Path) -> list[dict[str, Any]]:
    """The documents of kinds that are ours, to be made in the test's namespace."""
    documents = [
        document
        for document in yaml.safe_load_all(path.read_text(encoding="utf-8"))
        if document and document.get("apiVersion") == API_VERSION and document["kind"] in KNOWN
    ]
    for document in documents:
        document["metadata"].pop("namespace", None)
    return documents


def run_of(workflow: str, name: str) -> dict[str, Any]:
    return {
        "apiVersion": API_VERSION,
        "kind": "WorkflowRun",
        "metadata": {"name": name},
        "spec": {"workflow": workflow},
    }


@by_kind
def test_the_crd_is_accepted_established_and_structural(kubectl: Kubectl, kind: Kind) -> None:
    path = ROOT / "crds" / f"{GROUP}_{kind.plural}.yaml"
    answer = kubectl(
        "apply",
        "--server-side",
        "--force-conflicts",
        "--validate=strict",
        "--dry-run=server",
        "-f",
        str(path),
    )
    assert answer.ok, answer.err
    assert "Warning" not in answer.err
    there = kubectl("get", "crd", f"{kind.plural}.{GROUP}", "-o", "json").value
    conditions = {condition["type"]: condition["status"] for condition in there["status"]["conditions"]}
    assert conditions.get("Established") == "True"
    assert conditions.get("NamesAccepted") == "True"
    assert "NonStructuralSchema" not in conditions


@pytest.mark.parametrize("path", [*ACCEPTED, *EXAMPLES], ids=lambda path: path.stem)
@pytest.mark.parametrize("verb", [("create",), ("apply",), ("apply", "--server-side")], ids=" ".join)
def test_a_good_manifest_is_accepted(kubectl: Kubectl, path: Path, verb: tuple[str, ...]) -> None:
    documents = read(path)
    if not documents:
        pytest.skip("nothing of ours in it")
    answer = kubectl(*verb, "--validate=strict", "--dry-run=server", "-f", "-", documents=documents)
    assert answer.ok, answer.err
    assert "Warning" not in answer.err


@pytest.mark.parametrize("path", REJECTS, ids=lambda path: path.stem)
def test_a_bad_manifest_is_refused_in_words_that_help(emptied: Kubectl, path: Path) -> None:
    wants = path.read_text(encoding="utf-8").splitlines()[0].removeprefix("# wants: ")
    *before, refused = read(path)
    if before:
        accepted = emptied("create", "--validate=strict", "-f", "-", documents=before)
        assert accepted.ok, accepted.err
        answer = emptied("replace", "--validate=strict", "-f", "-", documents=[refused])
    else:
        answer = emptied("create", "--validate=strict", "--dry-run=server", "-f", "-", documents=[refused])
    assert not answer.ok, "it was accepted"
    assert wants in answer.err


def test_a_fresh_object_is_in_progress_and_shows_what_holds(emptied: Kubectl) -> None:
    (flow,) = read(ROOT / "tests/crdgen/accepted/workflow-flow.yaml")
    smallest = flow | {"spec": {"definition": {"tasks": []}}}
    made = emptied("create", "-f", "-", "-o", "json", documents=[smallest]).value
    read_back = emptied("get", "workflow", flow["metadata"]["name"], "-o", "json").value
    for workflow in (made, read_back):
        assert workflow["status"] == {"observedGeneration": -1}
        assert workflow["spec"] == {
            "definition": {"tasks": []},
            "deletionPolicy": "Delete",
            "revisionHistoryLimit": 10,
            "runHistory": {"purge": False},
            "suspend": False,
        }


def test_nobody_sets_status_while_creating(emptied: Kubectl) -> None:
    made = emptied(
        "create",
        "-f",
        "-",
        "-o",
        "json",
        documents=[run_of("video", "a") | {"status": {"phase": "Succeeded"}}],
    ).value
    assert made["status"] == {"observedGeneration": -1}


def test_null_of_server_side_apply(kubectl: Kubectl) -> None:
    """Kept where it is Nullable or the user's own; a default replaces it; elsewhere it is refused."""

    def apply(spec: dict[str, Any]) -> Any:
        workflow = {
            "apiVersion": API_VERSION,
            "kind": "Workflow",
            "metadata": {"name": "nulls"},
            "spec": spec,
        }
        return kubectl(
            "apply", "--server-side", "--dry-run=server", "-o", "json", "-f", "-", documents=[workflow]
        )

    kept = apply(
        {"stateMachine": {"startAt": "a", "steps": {"a": {"functionName": "f", "nextStepId": None}}}}
    )
    assert kept.value["spec"]["stateMachine"]["steps"]["a"]["nextStepId"] is None
    own = apply({"definition": {"tasks": [], "x": None}})
    assert own.value["spec"]["definition"] == {"tasks": [], "x": None}
    defaulted = apply({"definition": {}, "suspend": None, "runHistory": None})
    assert defaulted.value["spec"]["suspend"] is False
    assert defaulted.value["spec"]["runHistory"] == {"purge": False}
    refused = apply({"definition": {}, "timeout": None})
    assert not refused.ok
    assert "spec.timeout in body must be of type string" in refused.err


@pytest.mark.parametrize(
    ("path", "phrases"),
    [
        (
            "workflow.spec --recursive",
            [
                "Exactly one of flow, graph, stateMachine",
                "nodes\t<[]Object> -required-",
                "enum: Allow, Forbid, Replace",
                "steps\t<map[string]Object> -required-",
            ],
        ),
        ("workflow.spec.graph.nodes.dependsOn", ["Ids of the nodes that must be done first"]),
        ("workflow.spec.deletionPolicy", ["ENUM:", "Orphan", "Conductor is left as it is"]),
        ("pwf.spec.runHistory", ["succeeded\t<integer>", "Succeeded runs kept;"]),
        (
            "workflowrun.status.conditions",
            ["Ready, Reconciling, Stalled", "enum: True, False, Unknown", "The reason in words for people."],
        ),
        ("workflowrun", ["Podium starts it exactly once", "metadata\t<ObjectMeta>"]),
    ],
)  # fmt: skip
def test_explain_reads_well(kubectl: Kubectl, path: str, phrases: list[str]) -> None:
    answer = kubectl("explain", *path.split())
    assert answer.ok, answer.err
    assert [phrase for phrase in phrases if phrase not in answer.out] == []
    assert "<no description>" not in answer.out


def test_short_names_category_and_selectors(emptied: Kubectl) -> None:
    (flow,) = read(ROOT / "tests/crdgen/accepted/workflow-flow.yaml")
    documents = [flow, run_of("video", "one"), run_of("video", "two"), run_of("other", "three")]
    assert emptied("create", "-f", "-", documents=documents).ok
    phase = ("--subresource=status", "--type=merge", '--patch={"status":{"phase":"Running"}}')
    assert emptied("patch", "pwr", "two", *phase).ok

    def names(*arguments: str) -> list[str]:
        return emptied("get", *arguments, "-o", "name").out.split()

    runs = [f"workflowrun.{GROUP}/{name}" for name in ("one", "three", "two")]
    assert sorted(names("podium")) == sorted([f"workflow.{GROUP}/product-video", *runs])
    assert names("pwf") == [f"workflow.{GROUP}/product-video"]
    assert names("pwr") == runs
    assert names("pwr", "--field-selector=spec.workflow=video") == [runs[0], runs[2]]
    assert names("pwr", "--field-selector=status.phase=Running") == [runs[2]]
    assert names("pwr", "--field-selector=spec.workflow=video,status.phase!=Running") == [runs[0]]
    # A run that nobody has seen yet has no phase, and is selected by the empty one.
    assert names("pwr", "--field-selector=status.phase=") == [runs[0], runs[1]]
    assert emptied("get", "pwr").out.split("\n")[0].split() == [
        "NAME", "WORKFLOW", "PHASE", "PROGRESS", "CURRENT", "STARTED", "AGE",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def objects(cluster: Cluster) -> client.CustomObjectsApi:
    return client.CustomObjectsApi(config.new_client_from_config(str(cluster.kubeconfig)))


# The cluster is the same for all examples, and nothing is stored.
steady = settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


@by_kind
def test_a_spec_comes_back_as_it_was(kubectl: Kubectl, objects: client.CustomObjectsApi, kind: Kind) -> None:
    @steady
    @given(instances(kind.spec))
    def property_of(spec: Model) -> None:
        body = {
            "apiVersion": API_VERSION,
            "kind": kind.kind,
            "metadata": {"name": "round-trip"},
            "spec": spec.model_dump(by_alias=True, exclude_none=True),
        }
        back = objects.create_namespaced_custom_object(
            GROUP, VERSION, kubectl.namespace, kind.plural, body, dry_run="All", field_validation="Strict"
        )
        assert kind.spec.model_validate(back["spec"]) == spec

    property_of()


@by_kind
def test_a_spec_of_defaults_comes_back_as_it_was(
    kubectl: Kubectl, objects: client.CustomObjectsApi, kind: Kind
) -> None:
    """What was never written: the API server and pydantic put the same in its place."""

    @steady
    @given(instances(kind.spec))
    def property_of(spec: Model) -> None:
        body = {
            "apiVersion": API_VERSION,
            "kind": kind.kind,
            "metadata": {"name": "round-trip"},
            "spec": spec.model_dump(by_alias=True, exclude_defaults=True),
        }
        back = objects.create_namespaced_custom_object(
            GROUP, VERSION, kubectl.namespace, kind.plural, body, dry_run="All", field_validation="Strict"
        )
        assert kind.spec.model_validate(back["spec"]) == spec

    property_of()


@by_kind
def test_a_status_comes_back_as_it_was(
    emptied: Kubectl, objects: client.CustomObjectsApi, kind: Kind
) -> None:
    where = (GROUP, VERSION, emptied.namespace, kind.plural)
    spec: dict[str, Any] = {
        "Workflow": {"definition": {}},
        "WorkflowRun": {"workflow": "video"},
        "ConductorConnection": {"url": "http://conductor.example/api"},
        "WorkerPool": {
            "taskTypes": ["resize"],
            "template": {"spec": {"containers": [{"name": "worker", "image": "worker:1"}]}},
        },
        "DeviceModel": {"chip": "ESP32S3", "board": "devkit", "slotSize": "3264Ki"},
        "Device": {"model": "k1-node", "address": {"host": "10.1.4.21"}},
    }[kind.kind]
    stored = objects.create_namespaced_custom_object(
        *where,
        {"apiVersion": API_VERSION, "kind": kind.kind, "metadata": {"name": "round-trip"}, "spec": spec},
    )

    @steady
    @given(st.data())
    def property_of(data: st.DataObject) -> None:
        status = data.draw(instances(kind.status))
        back = objects.replace_namespaced_custom_object_status(
            *where,
            "round-trip",
            stored | {"status": status.model_dump(by_alias=True, exclude_none=True)},
            dry_run="All",
            field_validation="Strict",
        )
        assert kind.status.model_validate(back["status"]) == status

    property_of()
