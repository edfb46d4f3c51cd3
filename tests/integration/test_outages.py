"""Conductor and the API server go away in every way, and come back: nothing fails, all goes on."""

import asyncio
import json
import shutil
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable
from datetime import timedelta
from pathlib import Path

import pytest

from podium import app
from podium.adapters import conductor_http, gate
from podium.core.runs import outage as sitting_out
from podium.local import Conductor, ControlPlane, free_port
from podium.ports import Json
from podium.reconciler import outages as noticing
from support.bed import Bed, condition, workflow, workflow_run
from support.eventually import eventually
from support.outage_proxy import OutageProxy, Way, api_proxy, write_token

pytestmark = pytest.mark.slow

SOON = 15.0
"""Seconds after a server's return in which everything has to be as it should."""


@pytest.fixture
async def proxy(conductor: Conductor) -> AsyncIterator[OutageProxy]:
    """Before the shared Conductor; the worker and the tests reach it past the proxy."""
    async with OutageProxy(conductor.url) as ready:
        yield ready


def ready(body: Json) -> str:
    """Why it is (not) ready."""
    return str(condition(body, "Ready").get("reason"))


async def measured(what: str, job: Awaitable[object]) -> float:
    """Waits for it and says how long it took."""
    begun = time.monotonic()
    await job
    took = time.monotonic() - begun
    print(f"{what}: {took:.1f} s")
    return took


async def metric(bed: Bed, name: str) -> float:
    import aiohttp

    address, _ = bed._notices
    async with aiohttp.ClientSession() as session, session.get(f"http://{address}/metrics") as answer:
        text = await answer.text()
    return next(float(line.split()[1]) for line in text.splitlines() if line.startswith(name + " "))


# --- Conductor --------------------------------------------------------------------------------------


async def test_it_starts_while_conductor_is_down_and_everything_waits(bed: Bed, proxy: OutageProxy) -> None:
    await proxy.go("refuse")
    await bed.start_operator(conductor_url=proxy.url)
    await bed.start_worker("a")
    await bed.apply(workflow("w", "a"), workflow_run("r", "w"))
    body = await bed.until("Workflow", "w", lambda body: ready(body) == "ConductorUnavailable")
    assert "since" in condition(body, "Ready")["message"]
    body = await bed.until_phase("r", "Pending")
    assert await metric(bed, "podium_conductor_up") == 0
    # That the run counts is written once more.
    body = await bed.until("Workflow", "w", lambda body: body["status"].get("runs", {}).get("active") == 1)
    before = body["metadata"]["resourceVersion"]
    await asyncio.sleep(6.0)
    # The same words as long as it lasts: no write.
    assert (await bed.get("Workflow", "w"))["metadata"]["resourceVersion"] == before
    await proxy.go("pass")
    assert await measured("a start with Conductor down", bed.until_phase("r", "Succeeded")) < SOON
    assert await metric(bed, "podium_conductor_up") == 1
    assert await metric(bed, "podium_conductor_outage_seconds_total") >= 6


async def test_however_conductor_is_away_no_run_fails(
    bed: Bed, proxy: OutageProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sitting_out, "TOLD_AFTER", timedelta(seconds=1))
    monkeypatch.setattr(sitting_out, "_SPREAD", timedelta(seconds=1))
    monkeypatch.setattr(noticing, "TOLD_AFTER", timedelta(seconds=1))
    # Silence is found out in 6 s instead of 18.
    monkeypatch.setattr(gate, "_QUIET", 1.5)
    monkeypatch.setattr(conductor_http, "_PROBE_TIMEOUT", 1.0)
    await bed.start_operator(conductor_url=proxy.url)
    await bed.start_worker("a")
    await bed.apply(workflow("w", "a"), workflow("long", "nobody"), workflow_run("active", "long"))
    await bed.until_ready("w")
    await bed.until_phase("active", "Running")
    ways: tuple[Way, ...] = ("refuse", "500", "rubbish", "429", "cut", "stall")
    for way in ways:
        await proxy.go(way)
        await bed.apply(workflow_run(f"new-{way}", "w"))
        begun = time.monotonic()
        told = await bed.until("WorkflowRun", "active", lambda body: ready(body) == "ConductorUnavailable")
        print(f"{way}: told after {time.monotonic() - begun:.1f} s: {condition(told, 'Ready')['message']}")
        assert told["status"]["phase"] == "Running"
        assert (await bed.get("WorkflowRun", f"new-{way}"))["status"].get("phase") in ("Pending", "Starting")
        await proxy.go("pass")
        took = await measured(
            f"{way}: both are right again",
            asyncio.gather(
                bed.until_phase(f"new-{way}", "Succeeded"),
                bed.until("WorkflowRun", "active", lambda body: ready(body) == "Running"),
            ),
        )
        assert took < SOON


async def test_the_return_of_conductor_brings_no_storm(bed: Bed, proxy: OutageProxy) -> None:
    await bed.start_operator(conductor_url=proxy.url)
    await bed.start_worker("a")
    await bed.apply(workflow("w", "a"))
    await bed.until_ready("w")
    await proxy.go("refuse")
    await bed.apply(*(workflow_run(f"r{n}", "w") for n in range(100)))
    await bed.until("WorkflowRun", "r99", lambda body: ready(body) == "ConductorUnavailable")
    await proxy.go("500")
    away = time.monotonic()
    await asyncio.sleep(5.0)
    probes = sum(at >= away for at in proxy.seen)
    assert probes <= 6
    back = time.monotonic()
    await proxy.go("pass")
    names = [f"r{n}" for n in range(100)]
    took = await measured(
        "100 waiting runs", asyncio.gather(*(bed.until_phase(name, "Succeeded") for name in names))
    )
    print(f"{probes} probes in 5 s; {proxy.busiest_second(back)} requests in the busiest second")
    assert took < 30
    assert proxy.busiest_second(back) < 150


async def test_a_conductor_that_was_killed_and_lost_its_data_makes_no_run_fail(
    bed: Bed, tmp_path: Path
) -> None:
    with await asyncio.to_thread(Conductor.start, tmp_path / "own") as own:
        bed.server = own
        await bed.start_operator()
        await bed.start_worker("a")
        await bed.apply(workflow("w", "a"), workflow("long", "later"))
        await bed.apply(workflow_run("kept", "long"), workflow_run("ended", "long"))
        await bed.until_phase("kept", "Running")
        await bed.until_phase("ended", "Running")

        await asyncio.to_thread(own.kill)
        backup = tmp_path / "backup"
        await asyncio.to_thread(_move_database, own.folder, backup)
        await asyncio.to_thread(own.resume)
        lost = bed.until("WorkflowRun", "kept", lambda body: ready(body) == "ConductorLostData")
        assert await measured("the loss is told", lost) < SOON
        body = await bed.get("WorkflowRun", "kept")
        assert body["status"]["phase"] == "Running"
        assert condition(body, "Reconciling")["status"] == "True"
        assert "Restart" in condition(body, "Ready")["message"]
        await bed.apply(workflow_run("fresh", "w"))
        assert await measured("a new run", bed.until_phase("fresh", "Succeeded")) < SOON
        await bed.apply(workflow_run("ended", "long", desiredState="Terminated"))
        await bed.until_phase("ended", "Terminated")

        await asyncio.to_thread(own.kill)
        await asyncio.to_thread(_move_database, own.folder, tmp_path / "second")
        await asyncio.to_thread(_move_database, backup, own.folder)
        await asyncio.to_thread(own.resume)
        await bed.start_worker("later")
        took = await measured("a restored database", bed.until_phase("kept", "Succeeded"))
        assert took < SOON
        # The run's end may be heard of before the database is looked at.
        await eventually(
            lambda: metric(bed, "podium_conductor_data_losses_total"), lambda losses: losses >= 2, within=SOON
        )
        for worker in bed.workers:
            await worker.stop()
        bed.workers.clear()
        await bed.stop_operator()


def _move_database(source: Path, target: Path) -> None:
    target.mkdir(exist_ok=True)
    files = [path for path in source.iterdir() if ".db" in path.name]
    assert files, [path.name for path in source.iterdir()]
    for path in files:
        shutil.move(path, target / path.name)


# --- the API server ---------------------------------------------------------------------------------


async def test_however_the_api_server_is_away_all_goes_on(
    bed: Bed, cluster: ControlPlane, tmp_path: Path
) -> None:
    proxy, kubeconfig = api_proxy(cluster.kubeconfig, tmp_path)
    async with proxy:
        await bed.start_operator(kubeconfig=str(kubeconfig))
        await bed.start_worker("a")
        await bed.apply(workflow("w", "a"))
        await bed.until_ready("w")
        ways: tuple[Way, ...] = ("refuse", "429", "500", "cut", "stall")
        for way in ways:
            await bed.apply(workflow_run(f"before-{way}", "w"))
            await proxy.go(way)
            await bed.apply(workflow_run(f"new-{way}", "w"))
            await bed.kubectl("delete", "workflowrun", "-n", bed.namespace, f"before-{way}", "--wait=false")
            await asyncio.sleep(2.0)
            back = time.monotonic()
            await proxy.go("pass")
            took = await measured(
                f"{way}: all is done",
                asyncio.gather(
                    bed.until_phase(f"new-{way}", "Succeeded"),
                    bed.until("WorkflowRun", f"before-{way}", lambda body: not body),
                ),
            )
            print(f"{way}: {proxy.busiest_second(back)} requests in the busiest second")
            assert took < SOON
        await proxy.go("pass")
        # A watch whose connection is dead, while everything else works.
        proxy.silence()
        await bed.apply(workflow_run("dead-watch", "w"))
        assert await measured("a dead watch", bed.until_phase("dead-watch", "Succeeded")) < SOON
        await bed.stop_operator()


async def test_expired_credentials_are_read_anew(bed: Bed, cluster: ControlPlane, tmp_path: Path) -> None:
    account = f"{bed.namespace}-operator"

    async def new_token() -> str:
        await bed.kubectl("create", "serviceaccount", account, "-n", "default")
        return (await bed.kubectl("create", "token", account, "-n", "default")).strip()

    await bed.kubectl(
        "create",
        "clusterrolebinding",
        account,
        "--clusterrole=cluster-admin",
        f"--serviceaccount=default:{account}",
    )
    proxy, kubeconfig = api_proxy(cluster.kubeconfig, tmp_path, token=await new_token())
    async with proxy:
        await bed.start_operator(kubeconfig=str(kubeconfig))
        await bed.start_worker("a")
        await bed.apply(workflow("w", "a"))
        await bed.until_ready("w")
        # The token of an account that was deleted is worth nothing, once the server's cache forgets it.
        await bed.kubectl("delete", "serviceaccount", account, "-n", "default")
        token = await new_token()
        await asyncio.sleep(11.0)
        await bed.apply(workflow_run("r", "w"))
        await asyncio.sleep(2.0)
        assert not (await bed.get("WorkflowRun", "r"))["status"].get("phase")
        write_token(kubeconfig, proxy.url, tmp_path / "proxy-ca.crt", token)
        assert await measured("fresh credentials", bed.until_phase("r", "Succeeded")) < SOON
        await bed.stop_operator()


async def test_a_leader_that_is_cut_off_steps_down_and_stands_by_again(
    bed: Bed, cluster: ControlPlane, tmp_path: Path
) -> None:
    """Never two leaders; and the process goes on."""
    proxy, kubeconfig = api_proxy(cluster.kubeconfig, tmp_path)
    lease = {"lease": f"{bed.namespace}/podium", "lease_duration": 3.0}
    async with proxy:
        await bed.start_operator(kubeconfig=str(kubeconfig), **lease)
        leading = asyncio.Event()
        stop = asyncio.Event()
        settings = bed.settings(listen=f"127.0.0.1:{free_port()}", **lease)
        second = asyncio.create_task(app.operate(settings, stop, ready=leading))
        await bed.start_worker("a")
        await bed.apply(workflow("w", "a"))
        await bed.until_ready("w")

        async def transitions() -> int:
            found = await bed.kubectl("get", "lease", "podium", "-n", bed.namespace, "-o", "json")
            return int(json.loads(found)["spec"].get("leaseTransitions") or 0)

        assert not leading.is_set()
        await proxy.go("stall")
        took = await measured("a cut-off leader is replaced", asyncio.wait_for(leading.wait(), 20))
        assert took < SOON
        await bed.apply(workflow_run("r1", "w"))
        await bed.until_phase("r1", "Succeeded")
        await proxy.go("pass")
        stop.set()
        await second
        await bed.apply(workflow_run("r2", "w"))
        await measured("the first leads again", bed.until_phase("r2", "Succeeded", within=SOON))
        assert await transitions() >= 2
        assert not bed._operating.done()  # type: ignore[union-attr]
        await bed.stop_operator()


# --- deletion ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("away", [False, True], ids=["Conductor up", "Conductor silent"])
async def test_a_namespace_with_200_runs_is_deleted_in_time(bed: Bed, proxy: OutageProxy, away: bool) -> None:
    await bed.start_operator(conductor_url=proxy.url, deletion_timeout=5.0)
    await bed.apply(workflow("w", "nobody"))
    await bed.until_ready("w")
    active = [workflow_run(f"active{n}", "w") for n in range(50)]
    over = [workflow_run(f"over{n}", "w", desiredState="Terminated") for n in range(150)]
    await bed.apply(*active, *over)

    async def phases() -> Counter[str]:
        listed = await bed.cluster.list("WorkflowRun", bed.namespace)
        return Counter(body["status"].get("phase", "") for body in listed)

    await eventually(phases, lambda seen: seen == {"Running": 50, "Terminated": 150}, within=60, every=0.5)
    if away:
        await proxy.go("stall")
    await bed.kubectl("delete", "namespace", bed.namespace, "--wait=false")

    async def gone() -> bool:
        return not await bed.kubectl("get", "namespace", bed.namespace, "--ignore-not-found", "-o", "name")

    took = await measured("200 runs are deleted", eventually(gone, bool, within=120, every=0.5))
    assert took < (60 if away else 120)
    await proxy.go("pass")
    await bed.stop_operator()
    await bed.kubectl("create", "namespace", bed.namespace)
