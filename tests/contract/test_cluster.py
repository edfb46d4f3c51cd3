"""What `KubernetesCluster` promises, on a real API server."""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from kubernetes.aio import client
from kubernetes.aio.client.exceptions import ApiException

from podium.adapters import kubernetes
from podium.adapters.kubernetes import KubernetesCluster, load_configuration
from podium.api.v1alpha1 import FINALIZER
from podium.local import ControlPlane
from podium.ports import Conflict, Gone, Json, Key, PortError, RetryLater
from support.bed import workflow_run

pytestmark = pytest.mark.slow

STATUS: Json = {"observedGeneration": 1, "phase": "Running"}


class Place:
    """A namespace, what speaks to it, and what people do there."""

    def __init__(self, plane: ControlPlane, port: KubernetesCluster) -> None:
        self.plane = plane
        self.port = port
        self.namespace = f"c-{secrets.token_hex(3)}"
        self.made: Key | None = None

    def make(self, name: str) -> Key:
        text = yaml.safe_dump(workflow_run(name, "video"))
        self.plane.run("apply", "-n", self.namespace, "-f", "-", stdin=text)
        return Key("WorkflowRun", self.namespace, name)

    def label(self, key: Key) -> None:
        self.plane.run(
            "label", "workflowrun", key.name, "-n", key.namespace, f"x={secrets.token_hex(2)}", "--overwrite"
        )


@pytest.fixture
async def place(cluster: ControlPlane) -> AsyncIterator[Place]:
    async with KubernetesCluster(await load_configuration(str(cluster.kubeconfig))) as port:
        ready = Place(cluster, port)
        cluster.run("create", "namespace", ready.namespace)
        yield ready
        cluster.run("delete", "namespace", ready.namespace, "--wait=false")


async def test_a_status_is_written_only_to_what_was_seen(place: Place) -> None:
    key = place.make("a")
    seen = (await place.port.get(key))["metadata"]
    place.label(key)
    with pytest.raises(Conflict):
        await place.port.apply_status(key, STATUS, uid=seen["uid"], resource_version=seen["resourceVersion"])
    assert (await place.port.get(key))["status"] == {"observedGeneration": -1}
    stored = await place.port.apply_status(key, STATUS, uid=seen["uid"])
    assert stored["status"] == STATUS
    again = await place.port.apply_status(
        key,
        {**STATUS, "phase": "Paused"},
        uid=seen["uid"],
        resource_version=stored["metadata"]["resourceVersion"],
    )
    assert again["status"]["phase"] == "Paused"


@given(st.text(max_size=60))
@example("a 🎬 failed: \\ud83c\\udfac \x7f\x85\u2028\ufeff\uffff\x00 \ud83c")
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_every_text_that_a_task_may_say_can_be_in_a_status(place: Place, text: str) -> None:
    if not place.made:
        place.made = place.make("a")
    uid = (await place.port.get(place.made))["metadata"]["uid"]
    stored = await place.port.apply_status(place.made, {**STATUS, "message": text}, uid=uid)
    wanted = "".join("\ufffd" if 0xD800 <= ord(letter) < 0xE000 else letter for letter in text)
    assert stored["status"]["message"] == wanted


async def test_what_a_status_leaves_out_is_gone(place: Place) -> None:
    key = place.make("a")
    uid = (await place.port.get(key))["metadata"]["uid"]
    await place.port.apply_status(key, {**STATUS, "message": "no"}, uid=uid)
    assert (await place.port.apply_status(key, STATUS, uid=uid))["status"] == STATUS


async def test_an_object_made_again_is_not_taken_for_the_old_one(place: Place) -> None:
    key = place.make("a")
    seen = (await place.port.get(key))["metadata"]
    old, version = seen["uid"], seen["resourceVersion"]
    await place.port.delete(key, uid=old)
    with pytest.raises(PortError):
        await place.port.apply_status(key, STATUS, uid=old)
    with pytest.raises(Gone):
        await place.port.get(key)  # an apply to what is gone made nothing
    place.make("a")
    # The status subresource ignores a uid that is another's: the version is what tells them apart.
    with pytest.raises(Conflict):
        await place.port.apply_status(key, STATUS, uid=old, resource_version=version)
    await place.port.delete(key, uid=old)  # neither is it deleted
    assert (await place.port.get(key))["status"] == {"observedGeneration": -1}


async def test_an_object_is_deleted_only_as_it_was_seen(place: Place) -> None:
    key = place.make("a")
    seen = (await place.port.get(key))["metadata"]
    place.label(key)
    with pytest.raises(Conflict):
        await place.port.delete(key, uid=seen["uid"], resource_version=seen["resourceVersion"])
    now = (await place.port.get(key))["metadata"]
    with pytest.raises(Conflict):
        await place.port.delete(key, uid="another", resource_version=now["resourceVersion"])
    await place.port.delete(key, uid=now["uid"], resource_version=now["resourceVersion"])
    with pytest.raises(Gone):
        await place.port.get(key)
    # What is gone is gone, whoever deleted it.
    await place.port.delete(key, uid=now["uid"], resource_version=now["resourceVersion"])


async def test_finalizers_are_replaced_only_on_what_was_seen(place: Place) -> None:
    key = place.make("a")
    seen = (await place.port.get(key))["metadata"]["resourceVersion"]
    stored = await place.port.patch_finalizers(key, [FINALIZER], resource_version=seen)
    assert stored["metadata"]["finalizers"] == [FINALIZER]
    with pytest.raises(Conflict):
        await place.port.patch_finalizers(key, [], resource_version=seen)
    place.plane.run("delete", "workflowrun", "a", "-n", key.namespace, "--wait=false")
    deleted = await place.port.get(key)
    assert deleted["metadata"]["deletionTimestamp"]
    await place.port.patch_finalizers(key, [], resource_version=deleted["metadata"]["resourceVersion"])
    with pytest.raises(Gone):
        await place.port.patch_finalizers(key, [], resource_version="1")


async def test_lists_are_read_in_pages(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kubernetes, "_PAGE", 2)
    keys = [place.make(f"r{number}") for number in range(5)]
    listed = await place.port.list("WorkflowRun", place.namespace)
    assert [item["metadata"]["name"] for item in listed] == [key.name for key in keys]
    everywhere = await place.port.list("WorkflowRun")
    assert {item["metadata"]["uid"] for item in listed} <= {item["metadata"]["uid"] for item in everywhere}


async def test_only_a_name_that_is_taken_is_a_conflict_when_something_is_made(place: Place) -> None:
    def body(name: str) -> Json:
        made = workflow_run(name, "video")
        return {**made, "metadata": {**made["metadata"], "namespace": place.namespace}}

    await place.port.create(body("a"))
    with pytest.raises(Conflict):
        await place.port.create(body("a"))

    made: list[str] = []

    async def make_on() -> None:
        while True:
            made.append(f"b{len(made)}")
            await place.port.create(body(made[-1]))

    # Whoever makes something under a quota writes down there what is used. When many do at once, some
    # of them are told 409, and nothing of theirs was made.
    async with contended_quota(place), asyncio.timeout(30):
        with pytest.raises(RetryLater, match="Operation cannot be fulfilled on resourcequotas"):
            await make_on()
    with pytest.raises(Gone):
        await place.port.get(Key("WorkflowRun", place.namespace, made[-1]))


@contextlib.asynccontextmanager
async def contended_quota(place: Place) -> AsyncIterator[None]:
    """A quota for WorkflowRuns that is written all the time."""
    much = {"count/workflowruns.podium.dev": "100000"}
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q"}, "spec": {"hard": much}}
    place.plane.run("apply", "-n", place.namespace, "-f", "-", stdin=yaml.safe_dump(quota))
    core = client.CoreV1Api(place.port.api)
    # What is allowed and used is the work of a controller, which learns of our kinds only after a while.
    status = {"status": {"hard": much, "used": dict.fromkeys(much, "0")}}
    await core.patch_namespaced_resource_quota_status("q", place.namespace, status)

    async def write_on() -> None:
        while True:
            change = {"metadata": {"labels": {"x": secrets.token_hex(4)}}}
            with contextlib.suppress(ApiException):
                await core.patch_namespaced_resource_quota("q", place.namespace, change)

    async with asyncio.TaskGroup() as tasks:
        writers = [tasks.create_task(write_on()) for _ in range(8)]
        yield
        for writer in writers:
            writer.cancel()


async def test_what_people_approve_survives_our_writes(place: Place) -> None:
    key = place.make("a")
    uid = (await place.port.get(key))["metadata"]["uid"]
    approval = {
        "task": "check",
        "attempt": 1,
        "decision": "Approve",
        "by": "ann",
        "at": "2026-01-01T00:00:00Z",
    }
    said = {
        "apiVersion": "podium.dev/v1alpha1",
        "kind": "WorkflowRun",
        "metadata": {"name": "a", "namespace": key.namespace},
        "status": {"approvals": [approval]},
    }
    place.plane.run(
        "apply",
        "--server-side",
        "--subresource=status",
        "--field-manager=ann",
        "-f",
        "-",
        stdin=yaml.safe_dump(said),
    )
    stored = await place.port.apply_status(key, STATUS, uid=uid)
    assert stored["status"] == {**STATUS, "approvals": [approval]}
    stored = await place.port.apply_status(key, {**STATUS, "phase": "Succeeded"}, uid=uid)
    assert stored["status"]["approvals"] == [approval]
