"""A WAV file as samples, and what stands in the way of that. Pure, but for libsndfile, which decodes."""

from __future__ import annotations

import io
import math
import struct
from dataclasses import dataclass

import numpy as np
import soundfile
from numpy.typing import NDArray
from scipy.signal import resample_poly

from podium_workers.runtime.context import Reject

SLOWEST, FASTEST = 4_000, 384_000
MOST_CHANNELS = 16
CLIPPED_RUN = 3
"""So many samples at full scale in a row are no peak but a cut one."""
_CHUNK = struct.Struct("<4sI")
_UNTIL_THE_END = 0xFFFFFFFF
"""The length that programs write which cannot go back in their output, as into a pipe."""
_BITS = {"PCM_U8": 8, "PCM_16": 16, "PCM_24": 24, "PCM_32": 32}


@dataclass(frozen=True)
class Sound:
    """`samples`: shape (frames,), the mean of all channels, full scale is ±1."""

    samples: NDArray[np.float32]
    sample_rate: int
    channels: int
    encoding: str
    """As libsndfile calls it: PCM_16, FLOAT …"""
    peak: float
    """The largest absolute value in any channel."""
    clipped_samples: int
    """Samples, over all channels, that lie in runs of three or more at full scale."""

    @property
    def seconds(self) -> float:
        """How long it is."""
        return len(self.samples) / self.sample_rate


def decode_wav(data: bytes, most_seconds: float) -> Sound:
    """Raises Reject, saying what is wrong with the file."""
    _check_chunks(data)
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            rate, channels, encoding = file.samplerate, file.channels, file.subtype
            if not SLOWEST <= rate <= FASTEST:
                raise Reject(f"the WAV file has {rate} samples a second; {SLOWEST} to {FASTEST} are taken")
            if channels > MOST_CHANNELS:
                raise Reject(f"the WAV file has {channels} channels; at most {MOST_CHANNELS} are taken")
            if file.frames > most_seconds * rate:
                raise Reject(
                    f"the WAV file is {file.frames / rate:.0f} s long, longer than `maxSeconds` "
                    f"({most_seconds:g}): cut it, or raise that"
                )
            every = file.read(dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise Reject(f"the WAV file cannot be decoded: {error.error_string}") from None
    if not len(every):
        raise Reject("the WAV file holds no samples")
    if not np.isfinite(every).all():
        raise Reject("the WAV file holds samples that are no numbers (NaN or infinity)")
    return Sound(
        samples=every.mean(axis=1, dtype=np.float32),
        sample_rate=rate,
        channels=channels,
        encoding=encoding,
        peak=float(np.abs(every).max()),
        clipped_samples=_count_clipped(every, _BITS.get(encoding)),
    )


def resample(samples: NDArray[np.float32], before: int, after: int) -> NDArray[np.float32]:
    """The same sound with `after` samples a second, not `before`; what is above half of that is gone."""
    if before == after:
        return samples
    common = math.gcd(before, after)
    return np.asarray(resample_poly(samples, after // common, before // common), dtype=np.float32)


def _check_chunks(data: bytes) -> None:
    """libsndfile decodes a file that was cut off as if it were shorter: that must not pass unnoticed."""
    if not data:
        raise Reject("not a WAV file: it is empty")
    if data[:4] != b"RIFF" or data[8:12] != b"WAVE":
        start = data[:12].decode("latin-1").encode("unicode_escape").decode()
        raise Reject(f'not a WAV file: it begins with "{start}", not with RIFF … WAVE')
    at = 12
    while at + _CHUNK.size <= len(data):
        name, length = _CHUNK.unpack_from(data, at)
        at += _CHUNK.size
        if name == b"data":
            if length not in (0, _UNTIL_THE_END) and at + length > len(data):
                raise Reject(
                    f"the WAV file is cut off: its header says {length:,} bytes of sound, it has "
                    f"{len(data) - at:,}"
                )
            return
        at += length + length % 2
    raise Reject("the WAV file is cut off: it has no sound in it (no `data` chunk)")


def _count_clipped(every: NDArray[np.float32], bits: int | None) -> int:
    top = np.float32(1.0 - 2.0 ** (1 - bits) if bits else 1.0)
    # Each channel with a gap behind it, so that no run goes from one into the next.
    high = np.pad((every >= top).T, ((0, 0), (1, 1))).ravel()
    low = np.pad((every <= -top).T, ((0, 0), (1, 1))).ravel()
    return _in_long_runs(high) + _in_long_runs(low)


def _in_long_runs(marks: NDArray[np.bool_]) -> int:
    edges = np.flatnonzero(np.diff(marks.astype(np.int8)))
    lengths = edges[1::2] - edges[::2]
    return int(lengths[lengths >= CLIPPED_RUN].sum())
