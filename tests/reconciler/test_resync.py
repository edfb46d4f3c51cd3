"""Listing everything takes a while, and the watch goes on telling meanwhile: neither undoes the other."""

from collections.abc import AsyncIterator, Callable

import pytest

from podium.core.objects import Projection, project_workflow, project_workflow_run
from podium.ports import Json, Key
from podium.reconciler.resync import resync
from podium.reconciler.store import Store
from support.fakes import FakeCluster

RUN: Json = {"spec": {"workflow": "video"}, "status": {"phase": "Running"}}
WORKFLOW: Json = {"spec": {"definition": {"name": "v", "tasks": []}}}


class Listing:
    """A cluster, a store, and what happens while a kind is listed: after its answer was made."""

    def __init__(self) -> None:
        self.cluster, self.store = FakeCluster(), Store()
        self.meanwhile: dict[str, Callable[[], None]] = {}
        self.woken: set[Key] = set()
        self.missed = 0
        pages = self.cluster.pages

        async def list_slowly(kind: str, namespace: str | None = None) -> AsyncIterator[list[Json]]:
            async for page in pages(kind, namespace):
                self.meanwhile.pop(kind, lambda: None)()
                yield page

        self.cluster.pages = list_slowly  # type: ignore[method-assign]

    def make(self, kind: str, name: str, body: Json) -> Key:
        """Someone makes an object, or changes it, and the watch tells of it."""
        key = self.cluster.put(kind, name, body)
        stored = self.cluster.objects[key]
        if kind == "Workflow":
            self.store.put_workflow(project_workflow(stored))
        else:
            self.store.put_run(project_workflow_run(stored))
        return key

    def known(self, key: Key) -> Projection | None:  # type: ignore[type-arg]
        return self.store.runs.get(key) or self.store.workflows.get(key)

    async def resync(self) -> None:
        def miss() -> None:
            self.missed += 1

        self.woken.clear()
        await resync(self.cluster, self.store, self.woken.add, miss, (), first=False)


@pytest.mark.parametrize(("kind", "body"), [("WorkflowRun", RUN), ("Workflow", WORKFLOW)])
@pytest.mark.parametrize("while_listing", ["its own kind", "a later kind"])
async def test_what_is_made_while_objects_are_listed_stays(kind: str, body: Json, while_listing: str) -> None:
    listing = Listing()
    moment = kind if while_listing == "its own kind" else "Device"
    listing.meanwhile[moment] = lambda: void(listing.make(kind, "new", body))
    await listing.resync()
    key = Key(kind, "studio", "new")
    assert listing.known(key) is not None
    assert listing.missed == 0
    if kind == "WorkflowRun":
        assert [run.key for run in listing.store.runs_of("studio", "video")] == [key]


async def test_what_is_made_again_under_its_name_meanwhile_stays() -> None:
    listing = Listing()
    key = listing.make("WorkflowRun", "a", RUN)
    del listing.cluster.objects[key]  # the watch did not tell

    listing.meanwhile["DeviceModel"] = lambda: void(listing.make("WorkflowRun", "a", RUN))
    await listing.resync()
    assert listing.store.runs[key].uid == listing.cluster.objects[key]["metadata"]["uid"]
    assert listing.missed == 0


async def test_what_was_gone_before_goes_whatever_is_made_meanwhile() -> None:
    listing = Listing()
    gone = listing.make("WorkflowRun", "gone", RUN)
    del listing.cluster.objects[gone]
    listing.meanwhile["Device"] = lambda: void(listing.make("WorkflowRun", "new", RUN))
    await listing.resync()
    assert set(listing.store.runs) == {Key("WorkflowRun", "studio", "new")}
    assert listing.missed == 1
    assert gone in listing.woken


async def test_what_ends_while_objects_are_listed_does_not_come_back() -> None:
    listing = Listing()
    key = listing.make("WorkflowRun", "a", RUN)
    listing.meanwhile["WorkflowRun"] = lambda: listing.store.remove_run(key)
    await listing.resync()
    assert listing.store.runs == {}
    assert listing.missed == 0


def void(_: object) -> None:
    """For what is made in passing."""
