"""The tasks, one after the other and with whatever they may be given; what lies in the store afterwards."""

import asyncio
import io
import json
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from podium_workers import Reject
from podium_workers.services.artifacts import ArtifactStore, open_store
from support.firmware import Run
from support.sounds import clicks, sine, wav


def store_of(run: Run) -> ArtifactStore:
    return open_store(run.context.data_dir)


async def analyse(run: Run, data: bytes, **options: Any) -> dict[str, dict[str, Any]]:
    """All tasks of the workflow; their outputs by name."""
    out: dict[str, dict[str, Any]] = {}
    sha256 = store_of(run).put(data)
    out["fetch"] = await run("fetch_audio", sha256=sha256)
    out["decode"] = await run("decode_audio", sha256=sha256, **options)
    samples = out["decode"]["samples"]
    out["frame"] = await run("frame_audio", samples=samples, sampleRate=out["decode"]["sampleRate"])
    frames = out["frame"]["frames"]
    out["spectrum"] = await run("compute_spectrum", samples=samples, frames=frames)
    out["mel"] = await run("extract_mel_features", spectrum=out["spectrum"]["spectrum"], frames=frames)
    out["tempo"] = await run("estimate_tempo", mel=out["mel"]["mel"], frames=frames)
    out["report"] = await run(
        "report_audio",
        source=out["decode"]["source"], levels=out["frame"], spectrum=out["spectrum"],
        features=out["mel"], tempo=out["tempo"],
    )  # fmt: skip
    return out


async def test_a_click_track_from_its_file_to_its_report(run: Run) -> None:
    out = await analyse(run, wav(clicks(120, rate=44_100), rate=44_100))
    assert out["tempo"]["bpm"] == pytest.approx(120, abs=1)
    assert out["spectrum"]["peakHz"] == pytest.approx(1000, abs=15)
    store = store_of(run)
    report = json.loads(store.get(out["report"]["report"]["sha256"]))
    assert report["tempo"]["bpm"] == out["tempo"]["bpm"]
    assert report["source"]["sampleRate"] == 44_100
    beats = np.load(io.BytesIO(store.get(report["arrays"]["beats"]["sha256"])))
    assert len(beats) == report["tempo"]["beatCount"]
    assert np.diff(beats) == pytest.approx(0.5, abs=0.005)
    mel = np.load(io.BytesIO(store.get(report["arrays"]["mel"]["sha256"])))
    assert list(mel.shape) == [report["frames"]["count"], 64]


async def test_conductor_is_given_names_and_never_arrays(run: Run) -> None:
    out = await analyse(run, wav(clicks(100, seconds=60)))
    assert out["spectrum"]["spectrum"]["size"] > 5_000_000
    assert all(len(json.dumps(found)) < 3000 for found in out.values())


async def test_the_same_sound_gives_the_same_report(run: Run) -> None:
    data = wav(clicks(90))
    assert (await analyse(run, data))["report"] == (await analyse(run, data))["report"]


async def test_silence_goes_through_and_says_that_there_is_nothing(run: Run) -> None:
    out = await analyse(run, wav(np.zeros(22_050 * 3)))
    assert (out["spectrum"]["peakHz"], out["tempo"]["bpm"], out["tempo"]["beats"]) == (None, None, None)
    assert out["frame"]["silentShare"] == 1
    assert "silence" in json.loads(store_of(run).get(out["report"]["report"]["sha256"]))["tempo"]["reason"]


async def test_a_prune_keeps_the_report_with_its_arrays_and_drops_what_can_be_computed_again(
    run: Run,
) -> None:
    out = await analyse(run, wav(clicks(120)))
    store = store_of(run)
    assert store.prune([], 10, young_seconds=-1) == []
    report = out["report"]["report"]["sha256"]
    assert store.has(report)
    assert all(store.has(part["sha256"]) for part in json.loads(store.get(report))["arrays"].values())
    assert store.has(out["decode"]["source"]["sha256"])
    assert not store.has(out["spectrum"]["spectrum"]["sha256"])


async def test_only_the_newest_records_of_a_key_are_kept(run: Run) -> None:
    store = store_of(run)
    kept = []
    for number in range(4):
        kept.append(store.put(b"report %d" % number))
        store.put_record("audio", "a" * 64, kept[-1], {"files": {"report": {"sha256": kept[-1]}}})
        await asyncio.sleep(0.01)  # records are told apart by the time of their file
    store.prune([], 2, young_seconds=-1)
    assert [store.has(sha256) for sha256 in kept] == [False, False, True, True]


BLOB = "0" * 64
FRAMES = {"size": 2048, "hop": 512, "count": 1, "sampleRate": 22_050}


@pytest.mark.parametrize(
    ("name", "given", "words"),
    [
        ("fetch_audio", {}, "url: where is the WAV file"),
        ("fetch_audio", {"sha256": "abc"}, "is no SHA-256"),
        ("fetch_audio", {"sha256": BLOB}, "the artifact store has no 000000000000"),
        ("fetch_audio", {"url": "ftp://host/x.wav"}, "url: not an address"),
        ("decode_audio", {"sha256": BLOB, "sampleRate": 10}, "sampleRate: 10 is not between"),
        ("decode_audio", {"sha256": BLOB, "maxSeconds": 0}, "maxSeconds: 0 is not between"),
        ("frame_audio", {"samples": {"sha256": BLOB}, "sampleRate": 1, "frameSize": 63}, "frameSize: 63"),
        ("frame_audio", {"samples": {"sha256": BLOB}, "sampleRate": 1, "hop": 0}, "hop: 0 is not between"),
        ("frame_audio", {"samples": {"sha256": BLOB}, "sampleRate": 0}, "sampleRate: 0"),
        ("extract_mel_features", {"spectrum": {"sha256": BLOB}, "frames": FRAMES, "bands": 1}, "bands: 1"),
        (
            "extract_mel_features",
            {"spectrum": {"sha256": BLOB}, "frames": FRAMES, "coefficients": 65},
            "coefficients: 65 is not between 1 and bands",
        ),
        ("compute_spectrum", {"samples": {"sha256": BLOB}, "frames": {**FRAMES, "size": 1}}, "frames.size"),
        (
            "report_audio",
            {"source": {}, "levels": {}, "spectrum": {}, "features": {}, "tempo": {}},
            "source: it has no `sha256`",
        ),
    ],
)
async def test_what_makes_no_sense_is_refused_with_the_field(
    run: Run, name: str, given: dict[str, Any], words: str
) -> None:
    with pytest.raises(Reject, match=words):
        await run(name, **given)


async def test_what_is_no_array_or_another_one_is_refused(run: Run) -> None:
    store = store_of(run)
    text = {"sha256": store.put(b"not an array")}
    with pytest.raises(Reject, match=r"samples: .* is no array"):
        await run("frame_audio", samples=text, sampleRate=22_050)
    pickled = io.BytesIO()
    np.save(pickled, np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(Reject, match="is no array"):
        await run("frame_audio", samples={"sha256": store.put(pickled.getvalue())}, sampleRate=22_050)
    out = await analyse(run, wav(sine(440)))
    with pytest.raises(Reject, match="is no float32 array of 1 dimension"):
        await run("frame_audio", samples=out["mel"]["mel"], sampleRate=22_050)
    with pytest.raises(Reject, match="they are not of these"):
        await run("compute_spectrum", samples=out["decode"]["samples"], frames=FRAMES)
    with pytest.raises(Reject, match="its shape is not that of these frames"):
        await run("extract_mel_features", spectrum=out["spectrum"]["spectrum"], frames=FRAMES)
    with pytest.raises(Reject, match="more than frames of 2048 samples can tell apart"):
        await run(
            "extract_mel_features",
            spectrum=out["spectrum"]["spectrum"], frames=out["frame"]["frames"], bands=512,
        )  # fmt: skip


def test_a_worker_without_the_libraries_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules['scipy'] = None; sys.argv = ['podium-worker', 'list', '--functions', "
        "'podium_workers.audio']; from podium_workers.runtime.main import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    words = "podium_workers.audio needs scipy, not installed here: install podium's extra 'audio'"
    assert words in done.stderr
