"""The audio workflow, as it ships, on the real servers: a real web server, a real worker process."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import aiohttp.web
import pytest

from podium_workers.services.artifacts import open_store
from support.bed import Bed
from support.firmware import SAMPLE
from support.sounds import clicks, wav
from support.workshop import ended, open_workshop, tasks

MANIFEST = SAMPLE.parent / "audio-features.yaml"
SEVEN = [
    "fetch_audio", "decode_audio", "frame_audio", "compute_spectrum",
    "extract_mel_features", "estimate_tempo", "report_audio",
]  # fmt: skip
SOUND = wav(clicks(120, seconds=30, rate=44_100), rate=44_100)


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
async def workshop(bed: Bed, data_dir: Path) -> AsyncIterator[Bed]:
    async with open_workshop(bed, data_dir, [MANIFEST], "podium_workers.audio") as ready:
        yield ready


@pytest.fixture
async def site() -> AsyncIterator[str]:
    """A web server with sounds; its address."""

    async def give(request: aiohttp.web.Request) -> aiohttp.web.Response:
        files = {"clicks.wav": SOUND, "cut.wav": SOUND[:-10_000]}
        return aiohttp.web.Response(body=files[request.match_info["name"]])

    app = aiohttp.web.Application()
    app.router.add_get("/{name}", give)
    runner = aiohttp.web.AppRunner(app)
    await runner.setup()
    await aiohttp.web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


async def payloads(bed: Bed, workflow_id: str) -> list[int]:
    """Bytes of the input and output of each task in Conductor."""
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{bed.server.url}/workflow/{workflow_id}?includeTasks=true") as response,
    ):
        body: dict[str, Any] = await response.json()
    return [len(json.dumps(task[part])) for task in body["tasks"] for part in ("inputData", "outputData")]


async def test_a_sound_from_the_web_gets_its_features_and_another_one_is_refused(
    workshop: Bed, data_dir: Path, site: str
) -> None:
    status = await ended(workshop, "clicks", "audio-features", url=f"{site}/clicks.wav")
    assert status["phase"] == "Succeeded", status["message"]
    assert list(tasks(status)) == SEVEN
    output = status["output"]
    assert output["bpm"] == pytest.approx(120, abs=1)
    assert output["peakHz"] == pytest.approx(1000, abs=15)
    assert (output["seconds"], output["clippedSamples"]) == (30, 0)
    store = open_store(data_dir, "")
    report = json.loads(store.get(output["report"]["sha256"]))
    assert report["tempo"]["bpm"] == output["bpm"]
    assert store.get(report["source"]["sha256"]) == SOUND
    sizes = await payloads(workshop, status["conductor"]["workflowId"])
    assert len(sizes) == 14
    assert max(sizes) < 4000 < len(store.get(report["arrays"]["mel"]["sha256"]))

    status = await ended(workshop, "cut", "audio-features", url=f"{site}/cut.wav")
    assert status["phase"] == "Failed"
    assert "the WAV file is cut off: its header says" in status["message"]
    assert tasks(status)["decode_audio"] == "Failed"


async def test_input_without_a_sound_does_not_start(workshop: Bed) -> None:
    status = await ended(workshop, "nothing", "audio-features", hop=512)
    assert status["phase"] == "Failed"
    assert "conductor" not in status or not status["conductor"].get("workflowId")
