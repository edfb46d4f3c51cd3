"""Tasks: frames, spectrum, mel features and tempo of samples that lie in the artifact store."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from pydantic import BaseModel, Field

from podium_workers.audio import analysis
from podium_workers.audio.arrays import ArrayRef, get_array, put_array
from podium_workers.runtime.context import Reject, TaskContext
from podium_workers.runtime.registry import task
from podium_workers.services.artifacts import open_store

SMALLEST_FRAME, LARGEST_FRAME = 64, 65_536
MOST_FRAMES = 200_000
MOST_BANDS = 512
SHOWN_BEATS = 16


class Frames(BaseModel):
    """How samples are cut: what frame_audio returns as `frames`."""

    size: int = Field(ge=SMALLEST_FRAME, le=LARGEST_FRAME)
    hop: int = Field(ge=1)
    count: int = Field(ge=1, le=MOST_FRAMES)
    sampleRate: int = Field(ge=1)  # noqa: N815 - as in the task's output


@task("frame_audio", cpu_bound=True)
def frame_audio(
    context: TaskContext,
    samples: ArrayRef,
    sampleRate: int,  # noqa: N803
    frameSize: int = 2048,  # noqa: N803
    hop: int = 512,
) -> dict[str, Any]:
    """Cuts samples into frames, and measures the loudness and sign changes of each."""
    if not SMALLEST_FRAME <= frameSize <= LARGEST_FRAME or frameSize % 2:
        raise Reject(f"frameSize: {frameSize} is no even number from {SMALLEST_FRAME} to {LARGEST_FRAME}")
    if not 1 <= hop <= frameSize:
        raise Reject(f"hop: {hop} is not between 1 and frameSize ({frameSize})")
    if sampleRate < 1:
        raise Reject(f"sampleRate: {sampleRate} is not positive")
    store = open_store(context.data_dir)
    frames = analysis.cut_frames(get_array(store, "samples", samples, 1), frameSize, hop)
    if len(frames) > MOST_FRAMES:
        raise Reject(f"hop: it would give {len(frames):,} frames, at most {MOST_FRAMES:,}: take a larger one")
    loudness, crossings = analysis.measure_frames(frames)
    return {
        "frames": {"size": frameSize, "hop": hop, "count": len(frames), "sampleRate": sampleRate},
        # Two columns.
        "levels": put_array(store, np.stack([loudness, crossings], axis=1)),
        "loudnessDb": round(float(np.median(loudness)), 2),
        "loudestDb": round(float(loudness.max()), 2),
        "silentShare": round(float(np.mean(loudness < analysis.SILENT_DB)), 4),
        "zeroCrossingRate": round(float(crossings.mean()), 5),
    }


@task("compute_spectrum", cpu_bound=True)
def compute_spectrum(context: TaskContext, samples: ArrayRef, frames: Frames) -> dict[str, Any]:
    """The power spectrum of each frame (FFT behind a Hann window); its strongest tone and its centre."""
    store = open_store(context.data_dir)
    cut = analysis.cut_frames(get_array(store, "samples", samples, 1), frames.size, frames.hop)
    if len(cut) != frames.count:
        raise Reject(
            f"frames: {frames.count} were counted, the samples give {len(cut)}: they are not of these"
        )
    power = analysis.compute_power(cut)
    return {
        "spectrum": put_array(store, power),
        "peakHz": _rounded(analysis.find_peak(power, frames.sampleRate)),
        "centroidHz": _rounded(analysis.find_centroid(power, frames.sampleRate)),
        "binHz": round(frames.sampleRate / frames.size, 4),
    }


@task("extract_mel_features", cpu_bound=True)
def extract_mel_features(
    context: TaskContext, spectrum: ArrayRef, frames: Frames, bands: int = 64, coefficients: int = 13
) -> dict[str, Any]:
    """Mel bands in dB of each frame, and their cepstral coefficients (MFCC)."""
    if not 2 <= bands <= MOST_BANDS:
        raise Reject(f"bands: {bands} is not between 2 and {MOST_BANDS}")
    if not 1 <= coefficients <= bands:
        raise Reject(f"coefficients: {coefficients} is not between 1 and bands ({bands})")
    store = open_store(context.data_dir)
    power = get_array(store, "spectrum", spectrum, 2)
    if power.shape != (frames.count, frames.size // 2 + 1):
        raise Reject("spectrum: its shape is not that of these frames")
    filters = analysis.build_mel_filters(bands, power.shape[1], frames.sampleRate)
    if not filters.any(axis=1).all():
        raise Reject(f"bands: {bands} are more than frames of {frames.size} samples can tell apart")
    mel = analysis.compute_mel(power, filters)
    cepstrum = analysis.compute_cepstrum(mel, coefficients)
    return {
        "mel": put_array(store, mel),
        "mfcc": put_array(store, cepstrum),
        "meanMfcc": [round(float(value), 4) for value in cepstrum.mean(axis=0)][:SHOWN_BEATS],
    }


@task("estimate_tempo", cpu_bound=True)
def estimate_tempo(context: TaskContext, mel: ArrayRef, frames: Frames) -> dict[str, Any]:
    """The tempo in beats a minute, and the beats; `bpm` is null, with a reason, where there is none."""
    store = open_store(context.data_dir)
    step = frames.hop / frames.sampleRate
    middle = frames.size / 2 / frames.sampleRate
    found = analysis.estimate_tempo(get_array(store, "mel", mel, 2), step, middle)
    context.log(f"{found.bpm:.2f} BPM" if found.bpm else f"no tempo: {found.reason}")
    return {
        "bpm": _rounded(found.bpm),
        "confidence": round(found.confidence, 4),
        "reason": found.reason,
        "beatCount": len(found.beats),
        "firstBeats": [round(beat, 3) for beat in itertools.islice(found.beats, SHOWN_BEATS)],
        "beats": put_array(store, np.array(found.beats)) if found.beats else None,
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
