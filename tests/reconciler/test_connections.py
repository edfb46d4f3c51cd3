"""Whose Conductor it is: one link for each connection, replaced when it changes, gone when it is deleted."""

from collections.abc import Callable
from datetime import timedelta

import pytest

from podium.core.effects import Unknown
from podium.core.objects import project_connection, project_workflow, project_workflow_run
from podium.core.runs import Policy
from podium.ports import Access, Credentials, Json, Key, LoginRefused, Refused
from podium.reconciler.conductor_connections import ConnectionReconciler
from podium.reconciler.connections import Connections, Link
from podium.reconciler.runs import RunReconciler
from podium.reconciler.store import Store
from support.fakes import FakeClock, FakeCluster, FakeConductor, FakeRecorder, FakeTracker

KEYED = {"auth": {"secret": {"name": "conductor"}}}
TEAM = Key("ConductorConnection", "studio", "team")


class Client(FakeConductor):
    """One that was dialed."""

    def __init__(self, access: Access, on_refused: Callable[[], None]) -> None:
        super().__init__(FakeClock())
        self.access = access
        self.on_refused = on_refused
        self.used: list[Credentials] = []
        self.closed = False

    def use(self, credentials: Credentials) -> None:
        self.used.append(credentials)

    async def close(self) -> None:
        self.closed = True


class World:
    """A cluster with one connection `team`, and what is dialed for it."""

    def __init__(self, **options: frozenset[str]) -> None:
        self.cluster, self.store, self.recorder = FakeCluster(), Store(), FakeRecorder()
        self.cluster.secrets["conductor"] = {"key": b"me", "secret": b"s3cret"}
        self.clients: list[Client] = []
        self.woken: list[Key] = []
        self.own = Link(FakeConductor(FakeClock()), FakeTracker(FakeConductor(FakeClock())))  # type: ignore[arg-type]
        self.connections = Connections(self.own, self.store, **options)
        self.reconciler = ConnectionReconciler(
            self.cluster,
            FakeClock(),
            self.recorder,
            self.store,
            self.connections,
            self._dial,  # type: ignore[arg-type]
            FakeTracker,  # type: ignore[arg-type]
            wake=self.woken.append,
        )

    async def _dial(self, access: Access, on_refused: Callable[[], None]) -> Client:
        if access.ca == "nonsense":
            raise Refused("these are no certificates in PEM")
        self.clients.append(Client(access, on_refused))
        return self.clients[-1]

    def put(self, spec: Json | None = None) -> None:
        body = {"spec": {"url": "https://conductor.example/api", **(spec or {})}}
        self.cluster.put("ConductorConnection", "team", body)
        self.store.put_connection(project_connection(self.cluster.objects[TEAM]))

    def delete(self) -> None:
        del self.cluster.objects[TEAM]
        self.store.remove_connection(TEAM)

    def workflow(self, **spec: str) -> Key:
        key = self.cluster.put("Workflow", "w", {"spec": {"definition": {"tasks": []}, **spec}})
        self.store.put_workflow(project_workflow(self.cluster.objects[key]))
        return key

    def run(self, name: str, **status: object) -> Key:
        key = self.cluster.put("WorkflowRun", name, {"spec": {"workflow": "w"}, "status": status})
        self.store.put_run(project_workflow_run(self.cluster.objects[key]))
        return key

    async def step(self) -> float | None:
        return await self.reconciler.reconcile(TEAM)

    @property
    def link(self) -> Link | Unknown | None:
        return self.connections.get(TEAM)

    def ready(self) -> tuple[str, str]:
        [found] = [
            item for item in self.cluster.objects[TEAM]["status"]["conditions"] if item["type"] == "Ready"
        ]
        return found["status"], found["reason"]


def of(world: World, key: Key) -> Link | Unknown:
    if key.kind == "Workflow":
        return world.connections.of_workflow(world.store.workflows[key])
    return world.connections.of_run(world.store.runs[key])


def reason(link: Link | Unknown) -> str:
    assert isinstance(link, Unknown)
    return link.reason


async def test_one_pass_makes_a_link_and_says_connected_and_the_next_writes_nothing() -> None:
    world = World()
    world.put(KEYED)
    assert await world.step() == 60
    assert world.ready() == ("True", "Connected")
    version = world.cluster.objects[TEAM]["metadata"]["resourceVersion"]
    link = world.link
    assert await world.step() == 60
    assert world.link is link
    assert len(world.clients) == 1
    assert world.cluster.objects[TEAM]["metadata"]["resourceVersion"] == version
    assert [event[1] for event in world.recorder.events] == ["Connected"]


async def test_rotated_credentials_are_used_by_the_same_client() -> None:
    world = World()
    world.put(KEYED)
    await world.step()
    link = world.link
    world.cluster.secrets["conductor"]["secret"] = b"new"
    await world.step()
    [client] = world.clients
    assert client.used == [Credentials({}, "me", "new")]
    assert world.link is link


@pytest.mark.parametrize(
    "change",
    [
        {"url": "https://other.example/api"},
        {"isolation": "Shared"},
        {"budget": {"requestsPerSecond": 1}},
    ],
)
async def test_another_server_is_another_link_and_the_old_client_is_closed(change: Json) -> None:
    world = World()
    world.put()
    await world.step()
    before = world.link
    user = world.workflow(connection="team")
    world.woken.clear()
    world.put(change)
    await world.step()
    assert world.link is not before
    assert user in world.woken
    await world.reconciler.close_all()
    assert [client.closed for client in world.clients] == [True, True]


async def test_a_refused_login_is_stalled_and_looked_at_again_soon() -> None:
    world = World()
    world.put(KEYED)
    await world.step()
    world.clients[0].away = LoginRefused
    assert await world.step() == 10
    assert world.ready() == ("False", "LoginRefused")
    world.clients[0].on_refused()
    assert world.woken[-1] == TEAM


async def test_certificates_that_are_none_are_said_until_they_are_some() -> None:
    world = World()
    world.put({"caSecret": {"name": "ca"}})
    world.cluster.secrets["ca"] = {"ca.crt": b"nonsense"}
    for _ in range(2):
        assert await world.step() == 10
        assert world.ready() == ("False", "InvalidSecret")
    world.cluster.secrets["ca"] = {"ca.crt": b"better"}
    await world.step()
    assert world.ready() == ("True", "Connected")


async def test_a_secret_that_goes_takes_the_login_with_it_and_tells_whoever_used_it() -> None:
    world = World()
    world.put(KEYED)
    await world.step()
    user, run = world.workflow(connection="team"), world.run("r", conductor={"connection": "team"})
    done = world.run("done", phase="Succeeded", conductor={"connection": "team"})
    world.woken.clear()
    del world.cluster.secrets["conductor"]
    await world.step()
    assert world.ready() == ("False", "SecretNotFound")
    assert reason(of(world, user)) == "ConnectionNotReady"
    assert set(world.woken) == {user, run}
    assert done not in world.woken
    await world.reconciler.close_all()
    assert world.clients[0].closed


async def test_a_deleted_connection_is_not_found_and_one_that_is_new_is_not_ready() -> None:
    world = World()
    user = world.workflow(connection="team")
    assert reason(of(world, user)) == "ConnectionNotFound"
    world.put()
    assert reason(of(world, user)) == "ConnectionNotReady"
    await world.step()
    assert of(world, user) is world.link
    world.delete()
    await world.step()
    assert reason(of(world, user)) == "ConnectionNotFound"
    assert list(world.connections.links()) == [world.own]


async def test_at_the_start_every_connection_has_a_client_before_anything_is_asked() -> None:
    world = World()
    world.put(KEYED)
    await world.reconciler.open_all()
    assert isinstance(world.link, Link)
    assert world.clients[0].calls["describe"] == 0


def test_a_run_keeps_the_connection_that_it_was_started_through() -> None:
    world = World()
    world.workflow()
    begun, own, new = (
        world.run("begun", conductor={"connection": "team"}),
        world.run("own", conductor={"name": "studio.w"}),
        world.run("new"),
    )
    assert reason(of(world, begun)) == "ConnectionNotFound"
    assert of(world, own) is of(world, new) is world.own


def test_the_operators_own_is_refused_for_new_work_only() -> None:
    world = World(default_namespaces=frozenset({"other"}))
    workflow, begun, new = (
        world.workflow(),
        world.run("begun", conductor={"name": "studio.w"}),
        world.run("n"),
    )
    for refused in (of(world, workflow), of(world, new)):
        assert isinstance(refused, Unknown)
        assert refused.reason == "DefaultNotAllowed"
        assert refused.stalled
    assert of(world, begun) is world.own


class Runs:
    """Passes over runs whose connection is not there."""

    def __init__(self, status: Json, spec: Json | None = None) -> None:
        self.world = World()
        self.world.workflow(connection="team")
        body = {"spec": {"workflow": "w", **(spec or {})}, "status": status}
        body["metadata"] = {"finalizers": ["podium.dev/conductor"]}
        self.key = self.world.cluster.put("WorkflowRun", "r", body)
        self.clock = FakeClock()
        self.reconciler = RunReconciler(
            self.world.cluster,
            self.world.connections,
            self.clock,
            self.world.recorder,
            self.world.store,
            Policy("cluster", deletion_timeout=timedelta(seconds=120)),
            status_interval=1.0,
        )
        self.watch()

    def watch(self) -> None:
        self.world.store.put_run(project_workflow_run(self.world.cluster.objects[self.key]))

    async def step(self) -> float | None:
        again = await self.reconciler.reconcile(self.key)
        if self.key in self.world.cluster.objects:
            self.watch()
        return again

    @property
    def status(self) -> Json:
        status: Json = self.world.cluster.objects[self.key]["status"]
        return status


INTENT = {
    "connection": "team",
    "name": "studio.w",
    "version": 1,
    "correlationId": "cluster.u",
    "requestedAt": "2026-01-01T00:00:00.000000Z",
}
STARTED = {**INTENT, "workflowId": "w1"}


@pytest.mark.parametrize(
    "status",
    [
        {},
        {"phase": "Starting", "conductor": INTENT},
        {"phase": "Running", "conductor": STARTED},
        {"phase": "Paused", "conductor": STARTED},
    ],
    ids=["pending", "starting", "running", "paused"],
)
async def test_without_its_connection_a_run_waits_in_every_phase_for_ever(status: Json) -> None:
    runs = Runs(status)
    for _ in range(50):
        assert await runs.step()
        runs.clock.advance(600)
    assert runs.status["phase"] == status.get("phase", "Pending")
    assert runs.status.get("conductor") == status.get("conductor")
    words = {item["type"]: (item["status"], item["reason"]) for item in runs.status["conditions"]}
    assert words["Ready"] == ("False", "ConnectionNotFound")
    assert words["Succeeded"] == ("Unknown", "ConnectionNotFound")


@pytest.mark.parametrize("conductor", [INTENT, STARTED], ids=["starting", "running"])
async def test_without_its_connection_a_deleted_run_is_let_go_in_time(conductor: Json) -> None:
    runs = Runs({"phase": "Starting", "conductor": conductor})
    runs.world.cluster.request_deletion(runs.key, runs.clock.now())
    runs.watch()
    await runs.step()
    assert runs.status["conditions"][0]["reason"] == "Deleting"
    assert "there is no ConductorConnection team here" in runs.status["conditions"][0]["message"]
    runs.clock.advance(121)
    await runs.step()
    assert runs.key not in runs.world.cluster.objects


async def test_a_finished_run_needs_no_connection_and_is_not_looked_at_again() -> None:
    done = {"phase": "Succeeded", "conductor": STARTED, "conditions": []}
    runs = Runs(done)
    assert await runs.step() is None
    assert runs.status["phase"] == "Succeeded"


async def test_an_action_on_a_finished_run_waits_for_the_connection() -> None:
    done = {"phase": "Failed", "conductor": STARTED, "conditions": []}
    runs = Runs(done, {"action": {"id": "1", "type": "Retry"}})
    assert await runs.step() == 5
    assert "lastAction" not in runs.status
