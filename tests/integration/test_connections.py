"""ConductorConnections: another Conductor for a team, whoever guards it, and what is said when it fails.

All of them lead to the one real Conductor, through doors of their own.
"""

import base64
import datetime as dt
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from podium.local.pki import Authority
from podium.ports import Json
from support.bed import Bed, condition, workflow, workflow_run
from support.guarded_proxy import GuardedProxy, pem_of, serve_with
from support.pools import pool, sleeping

pytestmark = pytest.mark.slow

Doors = Callable[..., Any]


@pytest.fixture
async def door(bed: Bed) -> AsyncIterator[Doors]:
    """`await door(tls=…)`: a guarded door in front of the real Conductor."""
    async with AsyncExitStack() as open_ones:

        async def make(**options: Any) -> GuardedProxy:
            return await open_ones.enter_async_context(GuardedProxy(bed.server.url, **options))

        yield make
        await bed.stop_operator()


def connection(name: str, url: str, **spec: Any) -> Json:
    return {
        "apiVersion": "podium.dev/v1alpha1",
        "kind": "ConductorConnection",
        "metadata": {"name": name},
        "spec": {"url": url, **spec},
    }


def secret(name: str, **data: str) -> Json:
    coded = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": coded}


KEYED = {"auth": {"secret": {"name": "conductor"}}}


async def until_connected(bed: Bed, name: str, *, within: float = 30.0) -> Json:
    return await bed.until("ConductorConnection", name, connected, within=within)


def connected(body: Json) -> bool:
    current = body.get("status", {}).get("observedGeneration") == body["metadata"]["generation"]
    return current and condition(body, "Ready").get("status") == "True"


def because(reason: str, status: str = "False") -> Callable[[Json], bool]:
    """Ready has this reason."""

    def look(body: Json) -> bool:
        ready = condition(body, "Ready")
        return (ready.get("reason"), ready.get("status")) == (reason, status)

    return look


async def test_each_workflow_and_its_runs_go_through_their_own_connection(bed: Bed, door: Doors) -> None:
    one, two, default = await door(), await door(), await door()
    one.keys = {"me": "s3cret"}
    two.wanted_headers = {"X-Team": "lights"}
    await bed.start_operator(conductor_url=default.url)
    await bed.start_worker("make")
    await bed.apply(
        secret("conductor", key="me", secret="s3cret\n"),
        secret("headers", **{"X-Team": "lights"}),
        connection("one", one.url, **KEYED),
        connection("two", two.url, auth={"headersSecret": {"name": "headers"}}),
        *(workflow(f"w-{name}", "make", connection=name) for name in ("one", "two")),
        workflow("w-default", "make"),
        *(workflow_run(f"r-{name}", f"w-{name}") for name in ("one", "two", "default")),
    )
    for name in ("one", "two", "default"):
        body = await bed.until_phase(f"r-{name}", "Succeeded")
        assert body["status"]["conductor"].get("connection") == (None if name == "default" else name)
    assert [proxy.starts() for proxy in (one, two, default)] == [1, 1, 1]
    body = await until_connected(bed, "one")
    assert body["status"]["version"][0].isdigit()
    assert condition(body, "Ready")["reason"] == "Connected"
    assert one.issued == 1
    shown = await bed.kubectl("get", "conductorconnections", "-n", bed.namespace)
    assert "Connected" in shown
    assert "s3cret" not in str(body)


async def test_a_token_that_is_withdrawn_is_renewed_at_once_and_once(bed: Bed, door: Doors) -> None:
    proxy = await door()
    proxy.keys = {"me": "s3cret"}
    await bed.start_operator()
    await bed.apply(
        secret("conductor", key="me", secret="s3cret"),
        connection("team", proxy.url, **KEYED),
        workflow("w", "make", connection="team"),
    )
    await bed.until_ready("w")
    await bed.apply(*(workflow_run(f"r{n}", "w") for n in range(8)))
    for n in range(8):
        await bed.until_phase(f"r{n}", "Running")
    proxy.tokens.clear()
    await bed.start_worker("make")
    for n in range(8):
        await bed.until_phase(f"r{n}", "Succeeded")
    assert proxy.issued == 2
    assert proxy.starts() == 8


async def test_rotated_credentials_work_without_a_restart(bed: Bed, door: Doors) -> None:
    proxy = await door()
    proxy.keys = {"me": "old"}
    await bed.start_operator()
    await bed.start_worker("make")
    await bed.apply(
        secret("conductor", key="me", secret="old"),
        connection("team", proxy.url, **KEYED),
        workflow("w", "make", connection="team"),
    )
    await bed.until_ready("w")
    proxy.keys = {"me": "new"}
    proxy.tokens.clear()
    await bed.apply(workflow_run("r", "w"))
    body = await bed.until("ConductorConnection", "team", because("LoginRefused"))
    assert condition(body, "Stalled")["status"] == "True"
    assert "no such key" in condition(body, "Ready")["message"]
    waiting = await bed.get("WorkflowRun", "r")
    assert waiting["status"]["phase"] in ("Pending", "Starting")
    await bed.apply(secret("conductor", key="me", secret="new"))
    await until_connected(bed, "team", within=60)
    await bed.until_phase("r", "Succeeded")
    assert proxy.starts() == 1


async def test_a_rotation_before_the_old_key_ends_is_taken_up_after_the_first_refusal(
    bed: Bed, door: Doors
) -> None:
    proxy = await door()
    proxy.wanted_headers = {"X-Key": "old"}
    await bed.start_operator()
    await bed.start_worker("make")
    await bed.apply(
        secret("headers", **{"X-Key": "old"}),
        connection("team", proxy.url, auth={"headersSecret": {"name": "headers"}}),
        workflow("w", "make", connection="team"),
    )
    await bed.until_ready("w")
    await bed.apply(secret("headers", **{"X-Key": "new"}))
    proxy.wanted_headers = {"X-Key": "new"}
    await bed.apply(workflow_run("r", "w"))
    # No minute passes: the first request that is refused has the Secret read.
    await bed.until_phase("r", "Succeeded", within=15)


async def test_what_a_secret_lacks_is_said_and_mended(bed: Bed, door: Doors) -> None:
    proxy = await door()
    proxy.keys = {"me": "s3cret"}
    await bed.start_operator()
    await bed.apply(
        connection("team", proxy.url, **KEYED),
        workflow("w", "make", connection="team"),
        workflow_run("r", "w"),
    )
    body = await bed.until("ConductorConnection", "team", because("SecretNotFound"))
    assert condition(body, "Ready")["message"] == "there is no Secret conductor here"
    assert condition(body, "Reconciling")["status"] == "True"
    why = "ConductorConnection team: there is no Secret conductor here"
    await bed.until("Workflow", "w", lambda body: condition(body, "Ready").get("message") == why)
    await bed.until("WorkflowRun", "r", because("ConnectionNotReady"))
    await bed.apply(secret("conductor", key="me", wrong="s3cret"))
    body = await bed.until("ConductorConnection", "team", because("InvalidSecret"), within=20)
    assert condition(body, "Ready")["message"] == "Secret conductor has no key secret"
    assert condition(body, "Stalled")["status"] == "True"
    await bed.apply(secret("conductor", key="me", secret="s3cret"))
    await until_connected(bed, "team", within=60)
    await bed.until_phase("r", "Running")


async def test_only_the_authority_that_is_named_is_trusted(bed: Bed, door: Doors, tmp_path: Path) -> None:
    now = dt.datetime.now(dt.UTC)
    for folder in ("ours", "theirs"):
        (tmp_path / folder).mkdir()
    ours, theirs = Authority(tmp_path / "ours", "ours", now), Authority(tmp_path / "theirs", "theirs", now)
    proxy = await door(tls=serve_with(ours, "conductor"))
    spec = {"caSecret": {"name": "ca"}}
    await bed.start_operator()
    await bed.apply(
        secret("ca", **{"ca.crt": pem_of(theirs.certificate)}),
        connection("team", proxy.url, **spec),
        connection("plain", proxy.url),
    )
    for name in ("team", "plain"):
        body = await bed.until("ConductorConnection", name, because("ConductorUnavailable"))
        assert "is not trusted: " in condition(body, "Ready")["message"]
    await bed.apply(secret("ca", **{"ca.crt": "not a certificate"}))
    body = await bed.until("ConductorConnection", "team", because("InvalidSecret"), within=20)
    assert condition(body, "Ready")["message"] == "spec.caSecret: these are no certificates in PEM"
    await bed.apply(secret("ca", **{"ca.crt": pem_of(ours.certificate)}))
    await until_connected(bed, "team", within=60)
    assert condition(await bed.get("ConductorConnection", "plain"), "Ready")["status"] == "False"


async def test_requests_wait_for_the_budget_and_none_fails(bed: Bed, door: Doors) -> None:
    proxy = await door()
    await bed.start_operator()
    await bed.start_worker("make")
    await bed.apply(
        connection("team", proxy.url, budget={"requestsPerSecond": 10}),
        workflow("w", "make", connection="team"),
        *(workflow_run(f"r{n}", "w") for n in range(20)),
    )
    for n in range(20):
        await bed.until_phase(f"r{n}", "Succeeded", within=60)
    assert proxy.starts() == 20
    # A busy machine hands requests over late and then together: half a second of them, at most.
    assert 35 <= proxy.most_within(5.0) <= 55


async def test_a_deleted_connection_fails_nothing_and_comes_back(bed: Bed, door: Doors) -> None:
    proxy = await door()
    await bed.start_operator()
    await bed.apply(
        connection("team", proxy.url),
        workflow("w", "make", connection="team"),
        workflow_run("r", "w"),
    )
    await bed.until_phase("r", "Running")
    await bed.kubectl("delete", "conductorconnection", "team", "-n", bed.namespace, "--timeout=5s")
    await bed.until("Workflow", "w", because("ConnectionNotFound"))
    body = await bed.until("WorkflowRun", "r", because("ConnectionNotFound"))
    assert body["status"]["phase"] == "Running"
    assert condition(body, "Succeeded")["status"] == "Unknown"
    await bed.apply(workflow_run("late", "w"))
    body = await bed.until("WorkflowRun", "late", because("ConnectionNotFound"))
    assert body["status"]["phase"] == "Pending"
    await bed.start_worker("make")
    await bed.apply(connection("team", proxy.url))
    await bed.until_phase("r", "Succeeded")
    await bed.until_phase("late", "Succeeded")
    assert proxy.starts() == 2


async def test_runs_and_workflows_without_their_connection_can_still_be_deleted(
    bed: Bed, door: Doors
) -> None:
    proxy = await door()
    await bed.start_operator(deletion_timeout=3.0)
    await bed.apply(
        connection("team", proxy.url),
        workflow("w", "make", connection="team"),
        workflow_run("r", "w"),
    )
    await bed.until_phase("r", "Running")
    await bed.kubectl("delete", "conductorconnection", "team", "-n", bed.namespace, "--timeout=5s")
    await bed.until("WorkflowRun", "r", because("ConnectionNotFound"))
    await bed.kubectl("delete", "workflowrun/r", "workflow/w", "-n", bed.namespace, "--timeout=12s")


async def test_a_server_that_moved_is_followed_without_losing_a_run(bed: Bed, door: Doors) -> None:
    before, after = await door(), await door()
    await bed.start_operator()
    await bed.apply(
        connection("team", before.url),
        workflow("w", "make", connection="team"),
        workflow_run("r", "w"),
    )
    await bed.until_phase("r", "Running")
    await bed.apply(connection("team", after.url))
    await until_connected(bed, "team")
    asked = len(before.answers)
    await bed.start_worker("make")
    await bed.until_phase("r", "Succeeded")
    assert len(before.answers) == asked
    assert (before.starts(), after.starts()) == (1, 0)


async def test_a_restart_says_nothing_false_of_what_goes_through_a_connection(bed: Bed, door: Doors) -> None:
    proxy = await door()
    await bed.start_operator()
    await bed.apply(
        connection("team", proxy.url),
        workflow("w", "make", connection="team"),
        workflow_run("r", "w"),
    )
    before = await bed.until_phase("r", "Running")
    await bed.until("Workflow", "w", lambda body: body["status"].get("runs", {}).get("active") == 1)
    await bed.stop_operator()
    await bed.start_operator()
    await bed.start_worker("make")
    await bed.until_phase("r", "Succeeded")
    events = await bed.kubectl("get", "events.events.k8s.io", "-n", bed.namespace, "-o", "json")
    assert "ConnectionNot" not in events
    assert before["status"]["conductor"]["connection"] == "team"


async def test_the_operators_own_conductor_is_for_those_that_may_use_it(bed: Bed, door: Doors) -> None:
    proxy = await door()
    await bed.start_operator(default_connection_namespaces=("someone-else",))
    await bed.start_worker("make")
    await bed.apply(workflow("w", "make"), workflow_run("r", "w"))
    body = await bed.until("Workflow", "w", because("DefaultNotAllowed"))
    assert condition(body, "Stalled")["status"] == "True"
    assert f"namespace {bed.namespace} may not use" in condition(body, "Ready")["message"]
    body = await bed.until("WorkflowRun", "r", because("DefaultNotAllowed"))
    assert body["status"]["phase"] == "Pending"
    await bed.apply(
        connection("team", proxy.url),
        workflow("own", "make", connection="team"),
        workflow_run("own-1", "own"),
    )
    await bed.until_phase("own-1", "Succeeded")


async def test_two_namespaces_have_connections_of_the_same_name(bed: Bed, door: Doors) -> None:
    other = f"{bed.namespace}-b"
    await bed.kubectl("create", "namespace", other)
    here, there = await door(), await door()
    try:
        await bed.start_operator(namespaces=(bed.namespace, other))
        await bed.start_worker("make")
        await bed.start_worker("make", domain=other)
        names = (bed.namespace, other)
        for namespace, proxy in zip(names, (here, there), strict=True):
            bed.namespace = namespace
            await bed.apply(
                connection("team", proxy.url),
                workflow("w", "make", connection="team"),
                workflow_run("r", "w"),
            )
        for namespace in names:
            bed.namespace = namespace
            await bed.until_phase("r", "Succeeded")
        assert (here.starts(), there.starts()) == (1, 1)
    finally:
        bed.namespace = other.removesuffix("-b")
        await bed.stop_operator()
        await bed.remove_namespace(other)


async def test_shared_isolation_is_the_connections_own(bed: Bed, door: Doors) -> None:
    proxy = await door()
    await bed.start_operator()
    task = f"make-{bed.namespace}"
    await bed.start_worker(task, domain="")
    await bed.apply(
        connection("team", proxy.url, isolation="Shared"),
        workflow("w", task, connection="team"),
        workflow_run("r", "w"),
    )
    await bed.until_phase("r", "Succeeded")
    body = await bed.until(
        "Workflow", "w", lambda body: condition(body, "WorkersAvailable").get("status") == "True"
    )
    assert condition(body, "WorkersAvailable")["reason"] == "Polled"


async def test_the_operators_own_connection_logs_in_by_its_settings(
    bed: Bed, door: Doors, tmp_path: Path
) -> None:
    authority = Authority(tmp_path, "own", dt.datetime.now(dt.UTC))
    proxy = await door(tls=serve_with(authority, "conductor"))
    proxy.keys = {"me": "s3cret"}
    proxy.wanted_headers = {"X-Gate": "one"}
    headers = tmp_path / "headers"
    headers.write_text("# for the gate\nX-Gate: one\n", encoding="utf-8")
    await bed.start_operator(
        conductor_url=proxy.url,
        conductor_auth_key="me",
        conductor_auth_secret="s3cret",
        conductor_ca_file=authority.certificate,
        conductor_headers_file=headers,
    )
    await bed.start_worker("make")
    await bed.apply(workflow("w", "make"), workflow_run("r", "w"))
    await bed.until_phase("r", "Succeeded")
    headers.write_text("X-Gate: two\n", encoding="utf-8")
    proxy.wanted_headers = {"X-Gate": "two"}
    await bed.apply(workflow_run("r2", "w"))
    await bed.until_phase("r2", "Succeeded")


async def test_an_address_that_is_not_conductors_says_so(bed: Bed, door: Doors) -> None:
    proxy = await door()
    await bed.start_operator()
    await bed.apply(connection("team", proxy.url.removesuffix("/api") + "/nowhere"))
    body = await bed.until("ConductorConnection", "team", because("ConductorUnavailable"))
    assert "should it end in /api?" in condition(body, "Ready")["message"]


async def test_pods_of_a_pool_come_through_the_gateway_too(bed: Bed, door: Doors) -> None:
    guarded = await door()
    guarded.wanted_headers = {"X-Gate-Pass": "letmein"}
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "pass"},
        "stringData": {"X-Gate-Pass": "letmein"},
    }
    await bed.start_process_node()
    await bed.start_operator()
    await bed.apply(
        secret,
        connection("gate", guarded.url, auth={"headersSecret": {"name": "pass"}}),
        sleeping("nap", 0.1, connection="gate"),
    )
    body = pool(bed, "nappers", "wait", connection="gate", scaling={})
    del body["spec"]["template"]["spec"]["containers"][0]["env"]
    await bed.apply(body)
    await bed.until_ready("nap")
    await bed.apply(workflow_run("r", "nap"))
    await bed.until_phase("r", "Succeeded", within=60)
