"""The firmware workflows, as they ship, on the real servers: real git, real compiler, real worker process."""

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from podium_workers.services.artifacts import open_store
from podium_workers.services.esp_image import parse_image
from podium_workers.simulator.firmware import build_image
from support.bed import Bed, workflow_run
from support.eventually import eventually
from support.firmware import SAMPLE, Repository
from support.fleets import OLD, PASSWORD, build_fleet, open_bench
from support.webhook import Webhook
from support.workshop import ended, open_workshop, tasks

MANIFESTS = sorted(
    path for name in ("firmware-*.yaml", "device-update.yaml") for path in SAMPLE.parent.glob(name)
)
OTA = {"otaPassword": PASSWORD, "probeInterval": "200ms"}
LOW_HEAP = (
    '\nconst char fault[] __attribute__((used, section(".rodata.build_signature"))) = "SIM_FAULT:low-heap";\n'
)
WARNS = "\nstatic int never_used(void) { return 1; }\n"


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
async def workshop(bed: Bed, data_dir: Path) -> AsyncIterator[Bed]:
    """The firmware workflows are registered, and a worker with Podium's firmware tasks runs."""
    async with open_workshop(bed, data_dir, MANIFESTS, "podium_workers.firmware") as ready:
        yield ready


@pytest.fixture
async def boards() -> AsyncIterator[list[dict[str, Any]]]:
    """Two simulated devices, which run a build that the store does not have.

    The second one waits to be told that its new firmware is good.
    """
    specs = [
        replace(spec, name=f"c3-{number}", address=f"127.77.10.{number}", mac=f"aa:bb:cc:77:0a:0{number}")
        for number, confirm in ((1, "self"), (2, "api"))
        for spec in build_fleet(chip="ESP32C3", slot_size=1310720, confirm=confirm)
    ]
    async with open_bench(specs) as bench:
        yield [
            {
                "host": device.spec.address,
                "otaPort": bench.fleet.world.ota_port,
                "healthPort": bench.fleet.health_port,
                "mac": device.spec.mac,
                "chip": "ESP32C3",
            }
            for device in bench.fleet.devices
        ]


async def running(device: dict[str, Any]) -> str:
    """The build that it says it runs."""
    async with aiohttp.ClientSession() as session:
        url = f"http://{device['host']}:{device['healthPort']}/api/health"
        async with session.get(url) as response:
            return str((await response.json())["build"])


async def told(webhook: Webhook) -> list[dict[str, Any]]:
    return [json.loads(data) for _, data in webhook.got]


async def test_a_commit_goes_through_ci_onto_a_device_over_the_air(
    workshop: Bed, sample: Repository, data_dir: Path, webhook: Webhook, boards: list[dict[str, Any]]
) -> None:
    commit = sample.git("rev-parse", "HEAD")
    status = await ended(
        workshop, "ci-1", "firmware-ci",
        repository=sample.url, commit="main", chip="ESP32C3", device=boards[0], notifyUrl=webhook.url, **OTA,
    )  # fmt: skip
    assert status["phase"] == "Succeeded", status["message"]
    eight = [
        "validate_commit", "clean_build_env", "platformio_compile", "extract_build_metrics",
        "validate_build", "store_artifact", "deploy_firmware_ota", "device_health_check",
    ]  # fmt: skip
    assert [name for name in tasks(status) if name in eight] == eight
    (artifact,) = status["output"]["artifacts"]
    assert status["output"]["commit"] == artifact["commit"] == commit
    assert status["output"]["health"]["verdict"] == "Healthy"
    image = parse_image(open_store(data_dir, "").get(artifact["sha256"]))
    assert image.intact
    assert await running(boards[0]) == image.build == commit
    assert await running(boards[1]) == OLD
    assert webhook.got == []


async def test_gates_that_do_not_pass_end_the_run_and_people_are_told_once(
    workshop: Bed, sample: Repository, data_dir: Path, webhook: Webhook, boards: list[dict[str, Any]]
) -> None:
    sample.commit("Warns", **{"src/pattern.c": (sample.folder / "src/pattern.c").read_text() + WARNS})
    status = await ended(
        workshop, "ci-1", "firmware-ci",
        repository=sample.url, commit="main", device=boards[0], notifyUrl=webhook.url, **OTA,
    )  # fmt: skip
    assert status["phase"] == "Failed"
    assert status["message"].startswith(
        "the gates have not passed: c3-devkit: 1 warning, at most 0: src/pattern.c:"
    )
    assert "never_used" in status["message"]
    (message,) = await eventually(lambda: told(webhook), bool)
    assert status["message"] in message["text"]
    assert "Nothing was stored or sent to a device by this run." in message["text"]
    assert open_store(data_dir, "").artifacts() == []
    assert await running(boards[0]) == OLD


async def test_a_commit_that_does_not_compile_is_told_with_its_line(
    workshop: Bed, sample: Repository, webhook: Webhook
) -> None:
    sample.commit("Breaks", **{"src/broken.c": "int x = ;\n"})
    status = await ended(
        workshop, "ci-1", "firmware-ci", repository=sample.url, commit="main", notifyUrl=webhook.url
    )
    assert status["phase"] == "Failed"
    assert "src/broken.c:1:9: error: expected expression" in status["message"]
    (message,) = await eventually(lambda: told(webhook), bool)
    assert message["details"]["task"] == "platformio_compile"
    assert "src/broken.c:1:9" in message["text"]


@pytest.mark.parametrize("board", [0, 1])
async def test_a_device_that_is_not_healthy_with_it_is_brought_back(
    workshop: Bed,
    sample: Repository,
    data_dir: Path,
    webhook: Webhook,
    boards: list[dict[str, Any]],
    board: int,
) -> None:
    """Both boards are built, and have one chip: which image is whose is in the device and in the store."""
    device = boards[board] | {"environment": "c3-devkit"}
    both = ["c3-mini", "c3-devkit"]
    given = {"repository": sample.url, "commit": "main", "environments": both, "device": device, **OTA}
    good = sample.git("rev-parse", "HEAD")
    old = await ended(workshop, "old", "firmware-ci", **given)
    assert old["phase"] == "Succeeded", old["message"]
    (own,) = (item for item in open_store(data_dir, "").artifacts() if item["environment"] == "c3-devkit")
    source = (sample.folder / "src/pattern.c").read_text()
    bad = sample.commit("Eats heap", **{"src/pattern.c": source + LOW_HEAP})
    status = await ended(workshop, "new", "firmware-ci", notifyUrl=webhook.url, **given)
    assert status["phase"] == "Failed"
    assert "the device is not healthy with it (LowHeap): free heap" in status["message"]
    assert status["output"]["commit"] == bad
    assert status["output"]["rollback"]["commit"] == good
    assert await running(boards[board]) == good
    assert status["output"]["rollback"]["sha256"] == own["sha256"]
    messages = await eventually(lambda: told(webhook), lambda found: len(found) == 2)
    assert messages[0]["title"] == f"{boards[board]['host']} was brought back to {good[:7]}"
    assert "LowHeap" in messages[0]["message"]
    assert "was not released" in messages[1]["title"]


async def test_one_device_is_updated_and_the_verdict_is_the_output(
    workshop: Bed, sample: Repository, boards: list[dict[str, Any]]
) -> None:
    built = await ended(workshop, "ci", "firmware-ci", repository=sample.url, commit="main")
    (artifact,) = built["output"]["artifacts"]
    status = await ended(
        workshop, "update", "device-update",
        device=boards[1], sha256=artifact["sha256"], commit=artifact["commit"], **OTA,
    )  # fmt: skip
    assert (status["phase"], status["output"]["verdict"]) == ("Succeeded", "Healthy")
    assert (status["output"]["before"]["build"], status["output"]["authScheme"]) == (OLD, "Md5")
    assert await running(boards[1]) == artifact["commit"]


async def test_the_commit_of_an_update_counts_not_what_an_import_said(
    workshop: Bed, data_dir: Path, boards: list[dict[str, Any]]
) -> None:
    """The store takes the image for the build that the device runs, and so would send nothing."""
    store, commit = open_store(data_dir, ""), "9f1c2ab0c3d4e5f60718293a4b5c6d7e8f901234"
    sha256 = store.put(build_image(commit, chip="ESP32C3", size=16 * 1024))
    store.put_artifact(sha256, {"environment": "c3-devkit", "commit": OLD})
    status = await ended(
        workshop, "update", "device-update", device=boards[0], sha256=sha256, commit=commit, **OTA
    )
    assert (status["phase"], status["output"]["verdict"]) == ("Succeeded", "Healthy")
    assert await running(boards[0]) == commit


async def test_a_rollback_to_what_the_store_has_not_says_so(workshop: Bed, webhook: Webhook) -> None:
    status = await ended(
        workshop, "back", "firmware-rollback", device={"host": "127.0.0.1"}, build=OLD, notifyUrl=webhook.url
    )
    assert status["phase"] == "Failed"
    assert "has nothing of build 71be003: build that commit again" in status["message"]
    (message,) = await eventually(lambda: told(webhook), bool)
    assert message["title"] == "A rollback has failed"


def stages(sample: Repository, boards: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    return {
        "repository": sample.url,
        "commit": "main",
        "chip": "ESP32C3",
        "first": {"environment": "c3-devkit", "device": boards[0]},
        "second": {"environment": "c3-mini", "device": boards[1]},
        **OTA,
        **more,
    }


async def answer(bed: Bed, run: str, decision: str, note: str) -> dict[str, Any]:
    """A person answers when the run waits for it; the status when it is over."""
    await bed.until(
        "WorkflowRun", run,
        lambda body: "waits for an approval" in json.dumps(body.get("status", {}).get("conditions", "")),
        within=120,
    )  # fmt: skip
    # Later than the wait began, or it is not for this wait.
    at = (datetime.now(UTC) + timedelta(seconds=2)).isoformat(timespec="seconds").replace("+00:00", "Z")
    entry = {
        "task": "approve",
        "attempt": 1,
        "decision": decision,
        "by": "release-lead",
        "note": note,
        "at": at,
    }
    patch = json.dumps([{"op": "add", "path": "/status/approvals", "value": [entry]}])
    where = ("-n", bed.namespace, "--subresource=status", "--type=json")
    await bed.kubectl("patch", "workflowrun", run, *where, "-p", patch)
    body = await bed.until_phase(run, "Succeeded", "Failed", within=60)
    return dict(body["status"])


async def test_two_boards_are_built_and_go_out_when_a_person_says_so(
    workshop: Bed, sample: Repository, webhook: Webhook, boards: list[dict[str, Any]]
) -> None:
    given = stages(sample, boards, notifyUrl=webhook.url)
    await workshop.apply(workflow_run("stages", "firmware-multi-stage", input=given))
    (message,) = await eventually(lambda: told(webhook), bool, within=120)
    assert "has passed its gates and waits for an approval" in message["title"]
    assert len({artifact["sha256"] for artifact in message["details"]["artifacts"]}) == 2
    assert [await running(board) for board in boards] == [OLD, OLD]
    status = await answer(workshop, "stages", "Approve", "ok")
    assert status["phase"] == "Succeeded", status["message"]
    assert status["output"]["approval"]["by"] == "release-lead"
    commit = sample.git("rev-parse", "HEAD")
    assert [await running(board) for board in boards] == [commit, commit]


async def test_a_person_who_says_no_leaves_both_boards_alone(
    workshop: Bed, sample: Repository, boards: list[dict[str, Any]]
) -> None:
    await workshop.apply(workflow_run("no", "firmware-multi-stage", input=stages(sample, boards)))
    status = await answer(workshop, "no", "Reject", "not on a Friday")
    assert status["phase"] == "Failed"
    assert "not on a Friday" in status["message"]
    assert [await running(board) for board in boards] == [OLD, OLD]


async def test_the_second_board_is_left_alone_if_the_first_is_not_healthy(
    workshop: Bed, sample: Repository, boards: list[dict[str, Any]]
) -> None:
    source = (sample.folder / "src/pattern.c").read_text()
    bad = sample.commit("Eats heap", **{"src/pattern.c": source + LOW_HEAP})
    await workshop.apply(workflow_run("bad", "firmware-multi-stage", input=stages(sample, boards)))
    status = await answer(workshop, "bad", "Approve", "ok")
    assert status["phase"] == "Failed"
    assert "is not healthy with it (LowHeap), the second one was left as it is" in status["message"]
    assert [await running(board) for board in boards] == [bad, OLD]


def test_each_manifest_has_one_workflow_of_its_name() -> None:
    for path in MANIFESTS:
        (body,) = yaml.safe_load_all(path.read_text())
        assert (body["kind"], body["metadata"]["name"]) == ("Workflow", path.stem)
