"""The simulator as a person uses it: commands, files, HTTP, manifests."""

from __future__ import annotations

import asyncio
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
import yaml
from click.testing import CliRunner

from podium.cli import main
from podium_workers.services.esp_image import parse_image
from podium_workers.services.ota import Gateway, GatewaySettings, Succeeded, Target
from podium_workers.simulator.commands import simulate
from podium_workers.simulator.spec import DeviceGroup, SpecError, build_specs
from support.eventually import eventually
from support.fleets import Bench, build_fleet, new_image, open_bench


def run(*arguments: str) -> str:
    done = CliRunner().invoke(simulate, arguments)
    assert done.exit_code == 0, done.output
    return done.output


def refused(*arguments: str) -> str:
    done = CliRunner().invoke(simulate, arguments)
    assert done.exit_code == 2, done.output
    return done.output


async def test_devices_run_until_they_are_interrupted_and_take_an_update(tmp_path):
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", "from podium.cli import main; main()", "simulate", "devices", "--count", "3"),
        *("--password", "glow", "--ota-port", "13232", "--health-port", "18080", "--listen", "127.0.0.1:0"),
        *("--first-address", "127.80.0.1", "--speed", "20"),
        stdout=subprocess.PIPE,
        env={"PYTHONPATH": ":".join(sys.path), "PATH": "/usr/bin:/bin"},
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(30):
            said = (await process.stdout.readline()).decode()
        assert said.startswith("3 devices from 127.80.0.1 to 127.80.0.3: OTA at UDP 13232")
        control = re.search(r"faults at (http://\S+)/devices", said)
        assert control
        async with Gateway(GatewaySettings("127.0.0.1", 0)) as gateway:
            verdict = await gateway.send(new_image(), Target("127.80.0.2", 13232, "glow"))
        assert isinstance(verdict, Succeeded)
        async with aiohttp.ClientSession() as session:

            async def build() -> str:
                async with session.get(f"{control[1]}/devices/sim-2") as answer:
                    return str((await answer.json())["build"])

            await eventually(build, lambda seen: seen == "9f1c2ab0c3")
        process.send_signal(signal.SIGINT)
        async with asyncio.timeout(10):
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()


def test_manifests_describe_the_devices_that_run_with_the_same_options():
    text = run(
        "devices", "--count", "2", "--password", "p", "--label", "site=lyon", "--manifests", "-n", "lights"
    )
    secret, model, first, second = yaml.safe_load_all(text)
    assert [item["kind"] for item in (secret, model, first, second)] == [
        "Secret",
        "DeviceModel",
        "Device",
        "Device",
    ]
    assert {item["metadata"]["namespace"] for item in (secret, model, first, second)} == {"lights"}
    assert model["spec"] == {
        "chip": "ESP32S3",
        "board": "esp32-s3-devkitc-1",
        "slotSize": "3264Ki",
        "protocol": "ArduinoOTA",
        "health": {"path": "/api/health"},
    }
    assert first["metadata"]["labels"] == {"site": "lyon"}
    assert first["spec"]["model"] == model["metadata"]["name"]
    assert first["spec"]["address"] == {"host": "127.77.0.1", "otaPort": 3232, "healthPort": 8080}
    assert first["spec"]["credentialsSecret"] == {"name": secret["metadata"]["name"], "key": "password"}
    (one, two) = build_specs([DeviceGroup(count=2, password="p", labels={"site": "lyon"})], "127.77.0.1", 1)
    assert (first["spec"]["mac"], second["spec"]["mac"]) == (one.mac, two.mac)
    assert "credentialsSecret" not in run("devices", "--manifests")


def test_a_file_has_groups_of_devices(tmp_path: Path):
    path = tmp_path / "fleet.yaml"
    path.write_text(
        "devices:\n"
        "  - {name: lyon, count: 3, password: a, labels: {site: lyon}, access_points: 2,\n"
        "     faults: ['low-heap:percent=50']}\n"
        "  - {name: oslo, chip: ESP32C3, board: esp32-c3, slot_size: 1000000}\n"
    )
    names = [
        item["metadata"]["name"]
        for item in yaml.safe_load_all(run("devices", "--file", str(path), "--manifests"))
    ]
    assert names == [
        "sim-ota-1",
        "sim-esp32-s3-devkitc-1-3264k",
        "sim-esp32-c3-976k",
        "lyon-1",
        "lyon-2",
        "lyon-3",
        "oslo",
    ]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--fault", "low-haep"], "there is no fault 'low-haep'; did you mean 'low-heap'?"),
        (["--count", "0"], "count: input should be greater than or equal to 1"),
        (["--auth", "md5"], "sim: auth md5 needs a password"),
        (["--label", "site"], "--label site: write KEY=VALUE"),
        (["--first-address", "10.0.0.1"], "10.0.0.1 is not in 127.0.0.0/8"),
        (["--first-address", "here"], "here is no IPv4 address"),
        (["--first-address", "127.255.255.250", "--count", "20"], "is not in 127.0.0.0/8"),
        (["--speed", "0"], "--speed must be more than 0"),
        (["--listen", "here"], "here"),
        (["--name", "Sim!"], "name: string should match pattern"),
        (["--file", "nowhere.yaml"], "nowhere.yaml: No such file"),
        (["--ota-port", "99999"], "99999 is not in the range 1<=x<=65535"),
    ],
)
def test_options_that_make_no_sense_are_explained(arguments, words):
    assert words in refused("devices", *arguments)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("devices: {}", "devices: input should be a valid list"),
        ("devices: [{cuont: 5}]", "devices.0.cuont: extra inputs are not permitted"),
        ("- a", "the file: input should be a valid dictionary"),
        ("devices: [{chip: ESP99}]", "chip ESP99 is not known; there are ESP32,"),
        ("devices: [{name: a}, {name: a}]", "two devices would be called a"),
        ("devices: [{faults: ['nope']}]", "there is no fault 'nope'"),
        ("a: [", "no YAML"),
    ],
)
def test_a_file_that_makes_no_sense_is_explained(tmp_path, text, words):
    path = tmp_path / "fleet.yaml"
    path.write_text(text)
    assert words in refused("devices", "--file", str(path))


async def test_a_port_that_is_taken_is_named():
    async with open_bench(build_fleet()) as bench:
        taken = str(bench.fleet.world.ota_port)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "podium_workers.simulator", "devices", "--ota-port", taken),
            *("--first-address", bench.fleet.devices[0].spec.address, "--listen", "127.0.0.1:0"),
            stderr=subprocess.PIPE,
            env={"PYTHONPATH": ":".join(sys.path), "PATH": "/usr/bin:/bin"},
        )
        _, said = await process.communicate()
    assert process.returncode == 2
    assert "is another simulator running?" in said.decode()


def test_an_image_is_made_and_is_one(tmp_path: Path):
    path = tmp_path / "bad.bin"
    assert "build 9f1c2ab" in run("image", str(path), "--build", "9f1c2ab", "--fault", "boot-loop:percent=20")
    image = parse_image(path)
    assert (image.build, image.intact, image.chip) == ("9f1c2ab", True, "ESP32S3")
    assert b"SIM_FAULT:boot-loop:percent=20" in path.read_bytes()
    assert "did you mean 'boot-loop'?" in refused("image", str(path), "--build", "x", "--fault", "bootloop")


def test_the_list_of_faults_is_complete():
    from podium_workers.simulator.faults import KINDS

    shown = run("faults")
    assert [name for name in KINDS if name not in shown] == []


def test_the_operators_command_shows_the_help_of_the_simulator():
    shown = CliRunner().invoke(main, ["simulate", "devices", "--help"])
    assert "--access-points" in shown.output


class Control:
    """The simulator's own pages."""

    def __init__(self, bench: Bench, session: aiohttp.ClientSession) -> None:
        assert bench.fleet.control is not None
        self.bench = bench
        self.url = "http://{}:{}".format(*bench.fleet.control)
        self.session = session

    async def call(self, method: str, path: str, body: object = None) -> tuple[int, object]:
        async with self.session.request(method, self.url + path, json=body) as answer:
            return answer.status, await answer.json()

    async def page(self, url: str) -> str:
        async with self.session.get(url) as answer:
            return await answer.text()


@pytest.fixture
async def control() -> AsyncIterator[Control]:
    specs = build_fleet(count=10, labels={"site": "lyon"}) + [
        spec.__class__(**{**spec.__dict__, "address": "127.77.0.200"})
        for spec in build_fleet(name="oslo", labels={"site": "oslo"})
    ]
    async with open_bench(specs, control=("127.0.0.1", 0)) as bench, aiohttp.ClientSession() as session:
        yield Control(bench, session)


async def test_faults_are_given_and_taken_over_http(control):
    status, seen = await control.call("POST", "/devices/sim-03/faults", {"fault": "low-heap:free=9000"})
    assert (status, seen["faults"]) == (200, ["low-heap:free=9000"])
    outcome = await control.bench.update(control.bench.fleet.named("sim-03"), new_image())
    assert str(outcome) == "Failed/LowHeap"
    status, seen = await control.call("DELETE", "/devices/sim-03/faults/low-heap")
    assert (status, seen["faults"], seen["build"]) == (200, [], "9f1c2ab0c3")


async def test_a_site_loses_its_power_and_gets_it_back(control):
    _, seen = await control.call("POST", "/power", {"select": {"site": "lyon"}, "on": False})
    assert len(seen["devices"]) == 10
    _, all_of_them = await control.call("GET", "/devices")
    assert {device["power"] for device in all_of_them if device["labels"]["site"] == "lyon"} == {"off"}
    await control.call("POST", "/power", {"select": {"site": "lyon"}, "on": True})

    async def on() -> int:
        return sum(device.power == "on" for device in control.bench.fleet.devices)

    await eventually(on, lambda count: count == 11)


async def test_a_share_of_the_devices_gets_a_fault(control):
    body = {"fault": "hang:percent=40", "select": {"site": "lyon"}}
    _, first = await control.call("POST", "/faults", body)
    _, second = await control.call("POST", "/faults", body)
    assert first == second
    assert 0 < len(first["devices"]) < 10


async def test_a_password_is_rotated_while_it_runs(control):
    device = control.bench.fleet.named("sim-01")
    await control.call("POST", "/devices/sim-01/password", {"password": "new"})
    assert str(await control.bench.update(device, new_image())) == "Failed/PasswordWrong"
    subject = control.bench.subject(device, password="new")
    assert str(await control.bench.update(device, new_image(), subject=subject)) == "Succeeded"


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "words"),
    [
        ("GET", "/devices/nobody", None, 404, "there is no device 'nobody'; GET /devices lists them"),
        ("POST", "/devices/oslo/faults", {"fault": "drap"}, 400, "did you mean 'drop'?"),
        ("POST", "/devices/oslo/faults", {}, 400, '"fault" is missing'),
        ("POST", "/devices/oslo/faults", [], 400, "send a JSON object"),
        ("DELETE", "/devices/oslo/faults/drop", None, 400, "oslo has no fault 'drop'"),
        ("POST", "/devices/oslo/power", {"on": "yes"}, 400, '"on" must be true or false'),
        ("POST", "/power", {"select": "lyon", "on": True}, 400, '"select" must be an object of labels'),
    ],
)
async def test_a_request_that_makes_no_sense_is_explained(control, method, path, body, status, words):
    got, answer = await control.call(method, path, body)
    assert got == status
    assert words in answer["error"]


async def test_a_device_and_the_simulator_have_pages_for_prometheus(control):
    device = control.bench.fleet.named("sim-01")
    page = await control.page(f"http://{device.spec.address}:{control.bench.fleet.health_port}/metrics")
    assert re.search(r"^esp_heap_free_bytes 1[78]\d{4}", page, re.MULTILINE)
    assert 'esp_build_info{build="71be003",ota_state="valid",partition="app0"} 1.0' in page
    page = await control.page(f"{control.url}/metrics")
    assert 'podium_simulator_devices{power="on"} 11.0' in page


async def test_a_device_restarts_confirms_and_rolls_back_on_request(control):
    device = control.bench.fleet.named("sim-02")
    base = f"http://{device.spec.address}:{control.bench.fleet.health_port}/api"
    async with control.session.post(f"{base}/rollback") as answer:
        assert answer.status == 409
    assert str(await control.bench.update(device, new_image())) == "Succeeded"
    async with control.session.post(f"{base}/rollback") as answer:
        assert answer.status == 200

    async def build() -> str:
        return device.board.build() if device.power == "on" else ""

    await eventually(build, lambda seen: seen == "71be003")


async def test_a_firmware_that_wants_to_be_confirmed_is_confirmed_by_the_check():
    async with open_bench(build_fleet(confirm="api")) as bench:
        device = bench.fleet.devices[0]
        assert str(await bench.update(device, new_image())) == "Succeeded"
        assert device.board.slot.state == "valid"
        device.restart("power_on")

        async def power() -> str:
            return device.power

        await eventually(power, lambda seen: seen == "on")
        assert device.board.build() == "9f1c2ab0c3"


async def test_devices_at_one_access_point_share_its_bandwidth():
    async def took(**more: object) -> float:
        specs = build_fleet(count=4, auth="none", access_points=1)
        async with open_bench(specs, **more) as bench:
            began = asyncio.get_running_loop().time()
            image = new_image(size=32 * 1024)
            await asyncio.gather(
                *(bench.gateway.send(image, bench.subject(each).target) for each in bench.fleet.devices)
            )
            return asyncio.get_running_loop().time() - began

    assert await took(access_point_rate=100_000.0) > 1.0 > 2 * await took()


def test_two_fleets_of_one_seed_are_the_same():
    group = DeviceGroup(count=30, faults=["drop:percent=50"])
    assert build_specs([group], "127.77.0.1", 7) == build_specs([group], "127.77.0.1", 7)
    assert build_specs([group], "127.77.0.1", 7) != build_specs([group], "127.77.0.1", 8)


def test_no_device_gets_an_address_that_is_special():
    specs = build_specs([DeviceGroup(count=600)], "127.77.0.250", 1)
    assert len({spec.address for spec in specs}) == 600
    assert not [spec.address for spec in specs if spec.address.endswith((".0", ".255"))]


def test_more_devices_than_there_are_addresses_are_refused():
    with pytest.raises(SpecError, match="simulate fewer devices"):
        build_specs([DeviceGroup(count=300)], "127.255.255.1", 1)
