"""Tasks: a WAV file into the artifact store, and out of it as samples."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any

import numpy as np

from podium_workers.audio.arrays import put_array
from podium_workers.audio.wav import FASTEST, SLOWEST, decode_wav, resample
from podium_workers.runtime.context import Reject, TaskContext
from podium_workers.runtime.registry import task
from podium_workers.services.artifacts import open_store
from podium_workers.services.download import download, host_of

LARGEST_FILE = 256 * 2**20


@task("fetch_audio")
async def fetch_audio(
    context: TaskContext, url: str = "", sha256: str = "", token: str = ""
) -> dict[str, Any]:
    """Fetches a file into the artifact store; with `sha256` only that one, and not twice."""
    if not url and not sha256:
        raise Reject("url: where is the WAV file? Or name one of the artifact store by its `sha256`")
    store = open_store(context.data_dir)
    if sha256 and (not url or await asyncio.to_thread(store.has, sha256)):
        return {"sha256": sha256, "size": len(await asyncio.to_thread(store.get, sha256)), "fetched": False}
    data = await download(url, LARGEST_FILE, token)
    found = hashlib.sha256(data).hexdigest()
    if sha256 and found != sha256:
        raise Reject(
            f"what is at {host_of(url)} has SHA-256 {found[:12]}…, not {sha256[:12]}…: it was replaced"
        )
    context.log(f"fetched {len(data):,} bytes from {host_of(url)}")
    return {"sha256": await asyncio.to_thread(store.put, data), "size": len(data), "fetched": True}


# libsndfile is C and reads what strangers wrote: if it crashes, this one task fails.
@task("decode_audio", cpu_bound=True)
def decode_audio(
    context: TaskContext,
    sha256: str,
    sampleRate: int = 22_050,  # noqa: N803
    maxSeconds: float = 600.0,  # noqa: N803
) -> dict[str, Any]:
    """Decodes a WAV file of the store to mono samples with `sampleRate` of them a second."""
    if not SLOWEST <= sampleRate <= FASTEST:
        raise Reject(f"sampleRate: {sampleRate} is not between {SLOWEST} and {FASTEST}")
    if not 0 < maxSeconds <= 3600:
        raise Reject(f"maxSeconds: {maxSeconds:g} is not between 0 and 3600")
    store = open_store(context.data_dir)
    sound = decode_wav(store.get(sha256), maxSeconds)
    samples = resample(sound.samples, sound.sample_rate, sampleRate)
    context.log(
        f"{sound.seconds:.1f} s, {sound.sample_rate} Hz, {sound.channels} channel(s), {sound.encoding}, "
        f"{sound.clipped_samples} clipped samples"
    )
    return {
        "samples": put_array(store, samples),
        "sampleRate": sampleRate,
        "source": {
            "sha256": sha256,
            "seconds": round(sound.seconds, 3),
            "sampleRate": sound.sample_rate,
            "channels": sound.channels,
            "encoding": sound.encoding,
            "peak": round(sound.peak, 6),
            "rms": round(float(np.sqrt(np.mean(np.square(sound.samples, dtype=np.float64)))), 6),
            "clippedSamples": sound.clipped_samples,
        },
    }
