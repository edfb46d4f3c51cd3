"""What a device goes back to: the very image that it ran, never another board's, never the bad one."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from podium_workers import Reject
from podium_workers.services.artifacts import open_store
from podium_workers.simulator.firmware import build_image
from podium_workers.simulator.sites import DeviceSite
from support.eventually import eventually
from support.firmware import Run
from support.fleets import Bench, build_fleet, open_bench

OLD, NEW = "1111111" + "a" * 33, "2222222" + "b" * 33
DEVICE = {"host": "127.77.9.1", "name": "k1-07"}
HOLDER = "device/default/k1-07"
CHECK = {"within": "6s", "interval": "100ms"}


pytestmark = pytest.mark.usefixtures("ota_on_loopback")


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    """A device without a password that runs the old build, which nobody has sent it."""
    async with open_bench(build_fleet(auth="none", build=OLD[:7])) as opened:
        yield opened


def about(bench: Bench) -> dict[str, Any]:
    spec = bench.fleet.devices[0].spec
    ports = {"otaPort": bench.fleet.world.ota_port, "healthPort": bench.fleet.health_port}
    return {"host": spec.address, "mac": spec.mac, **ports}


async def no_such_page(_: DeviceSite, __: web.Request) -> web.Response:
    return web.Response(status=404)


async def until_it_runs(bench: Bench, commit: str) -> None:
    device = bench.fleet.devices[0]

    async def build() -> str:
        return device.board.build() if device.power == "on" else ""

    await eventually(build, lambda found: found == commit[:12])


def keep(
    run: Run,
    commit: str,
    environment: str = "s3",
    seed: int = 0,
    faults: tuple[str, ...] = (),
    **metadata: Any,
) -> str:
    """Stores an image as an artifact; its SHA-256."""
    store = open_store(run.context.data_dir)
    sha256 = store.put(build_image(commit[:12], seed=seed, faults=faults, size=16 * 1024))
    store.put_artifact(sha256, {"commit": commit, "environment": environment, "repository": "r", **metadata})
    return sha256


def hold(run: Run, sha256: str, *, runs: bool) -> None:
    open_store(run.context.data_dir).hold(sha256, HOLDER, runs=runs)


async def find(run: Run, **given: Any) -> str:
    return str((await run("find_rollback_artifact", **given))["sha256"])


async def test_a_device_goes_back_to_the_image_that_it_ran_however_many_were_built(run: Run) -> None:
    ran = keep(run, OLD, "c3-devkit")
    keep(run, OLD, "c3-mini", seed=1)
    hold(run, ran, runs=True)
    bad = keep(run, NEW, "c3-devkit")
    keep(run, NEW, "c3-mini", seed=1)
    hold(run, bad, runs=False)
    assert await find(run, device=DEVICE, failed=bad, build=OLD[:7]) == ran
    assert await find(run, device=DEVICE, failed=bad) == ran
    assert await find(run, device=DEVICE) == ran


async def test_two_projects_with_one_name_for_their_board_are_told_apart(run: Run) -> None:
    lamp = keep(run, OLD, "esp32dev", path="lamp")
    hold(run, lamp, runs=True)
    sensor = keep(run, OLD, "esp32dev", seed=1, path="sensor")
    assert sensor != lamp
    bad = keep(run, NEW, "esp32dev", path="lamp")
    hold(run, bad, runs=False)
    assert await find(run, device=DEVICE, failed=bad, build=OLD[:7]) == lamp
    # One that got its old firmware by a cable: nothing says what it ran, but what it was sent is a lamp's.
    other = {"host": "127.77.9.2"}
    assert await find(run, device=other, failed=bad, build=OLD[:7]) == lamp
    assert (
        await find(run, device=other, failed=keep(run, NEW, "esp32dev", 2, path="/sensor/"), build=OLD)
        == sensor
    )


async def test_what_is_not_certain_is_not_sent(run: Run) -> None:
    keep(run, OLD, "esp32dev", path="lamp")
    keep(run, OLD, "esp32dev", seed=1, path="sensor")
    with pytest.raises(
        Reject, match="was stored for esp32dev of lamp in r, esp32dev of sensor in r: say which"
    ):
        await find(run, device=DEVICE, build=OLD[:7])
    with pytest.raises(
        Reject, match="was stored for esp32dev of lamp in r, esp32dev of sensor in r, and not for"
    ):
        await find(run, device=DEVICE, failed=keep(run, NEW, "esp32dev", path="valve"), build=OLD[:7])
    with pytest.raises(Reject, match="nothing is known that the device ran before"):
        await find(run, device=DEVICE)
    assert await find(run, build=OLD, environment="c3", sha256=keep(run, NEW, "c3")) == keep(run, NEW, "c3")


async def test_an_import_does_not_say_its_project_and_fits_any(run: Run) -> None:
    imported = keep(run, OLD, repository="", path="")
    assert await find(run, failed=keep(run, NEW, path="lamp"), build=OLD) == imported


async def test_a_device_never_goes_back_to_what_failed(run: Run) -> None:
    good, bad = keep(run, OLD), keep(run, NEW)
    hold(run, good, runs=True)
    hold(run, bad, runs=True)
    assert await find(run, device=DEVICE, failed=bad) == good
    built_again = keep(run, NEW, seed=1)
    assert await find(run, device=DEVICE, failed=built_again) == good
    for given in ({"build": NEW}, {"sha256": bad}):
        with pytest.raises(Reject, match="is what the device is to go back from"):
            await find(run, device=DEVICE, failed=bad, **given)
    # A person may well want it.
    assert await find(run, device=DEVICE, build=NEW) == bad


@pytest.mark.parametrize("again", ["the worker died", "the commit was released again"])
async def test_what_it_ran_before_is_known_also_if_it_was_sent_before(
    bench: Bench, run: Run, again: str
) -> None:
    device, old, bad = about(bench), keep(run, OLD), keep(run, NEW, faults=("low-heap:free=30000",))
    sent = await run("deploy_firmware_ota", device=device, sha256=bad)
    await until_it_runs(bench, NEW)
    if again == "the commit was released again":
        checked = await run("device_health_check", device=device, commit=NEW, deployment=sent, **CHECK)
        assert checked["reason"] == "LowHeap"
    sent = await run("deploy_firmware_ota", device=device, sha256=bad)
    assert (sent["verdict"], sent["before"]["build"]) == ("Current", OLD[:7])
    checked = await run("device_health_check", device=device, commit=NEW, deployment=sent, **CHECK)
    assert (checked["verdict"], checked["reason"]) == ("Unhealthy", "LowHeap")
    assert await find(run, device=device, failed=bad) == old
    back = await run("deploy_firmware_ota", device=device, sha256=old)
    assert back["verdict"] == "Succeeded"
    checked = await run("device_health_check", device=device, commit=OLD, deployment=back, **CHECK)
    assert checked["healthy"], checked
    await until_it_runs(bench, OLD)


async def test_what_it_ran_well_goes_over_what_it_ran(bench: Bench, run: Run) -> None:
    """It had the bad one twice in between, and a build by a cable."""
    device, good, bad = about(bench), keep(run, "3333333" + "c" * 33), keep(run, NEW)
    open_store(run.context.data_dir).hold(good, f"device/default/{device['host']}", runs=True)
    keep(run, OLD)
    for _ in range(2):
        await run("deploy_firmware_ota", device=device, sha256=bad)
        await until_it_runs(bench, NEW)
    assert await find(run, device=device) == good


@pytest.mark.parametrize("can", [True, False], ids=["goes back by itself", "cannot"])
async def test_a_firmware_that_nobody_confirmed_is_gone_back_from(
    run: Run, monkeypatch: pytest.MonkeyPatch, can: bool
) -> None:
    if not can:
        monkeypatch.setattr(DeviceSite, "_roll_back", no_such_page)
    old, bad = keep(run, OLD), keep(run, NEW, faults=("low-heap:free=30000",))
    async with open_bench(build_fleet(auth="none", build=OLD[:7], confirm="api")) as bench:
        device, simulated = about(bench), bench.fleet.devices[0]
        sent = await run("deploy_firmware_ota", device=device, sha256=bad)
        checked = await run("device_health_check", device=device, commit=NEW, deployment=sent, **CHECK)
        assert checked["reason"] == "LowHeap"
        assert simulated.board.slot.state == "pending_verify"
        assert await find(run, device=device, failed=bad) == old
        back = await run("deploy_firmware_ota", device=device, sha256=old, rollback=True)
        assert back["verdict"] == ("Current" if can else "Succeeded")
        checked = await run("device_health_check", device=device, commit=OLD, deployment=back, **CHECK)
        assert checked["healthy"], checked
        assert simulated.updates == (1 if can else 2)
        assert OLD.startswith(simulated.board.build())
        # Nor is the bad one what it could go back to now.
        with pytest.raises(Reject, match="nothing is known that the device ran before"):
            await find(run, device=device)
