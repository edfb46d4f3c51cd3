"""What is computed of samples: frames, spectrum, mel bands, tempo. Pure.

Arrays are float32. Frame i begins at sample i × hop; a frame's time is that of its middle.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft
from scipy.signal import find_peaks
from scipy.signal.windows import hann

Floats = NDArray[np.float32]
FLOOR_DB = -80.0
"""Below the loudest, everything counts as silence."""
SILENT_DB = -60.0
SLOWEST_BPM, USUAL_BPM, FASTEST_BPM = 40.0, 120.0, 240.0
ONSET_DB = 0.25
"""Mean rise over all bands from one frame to the next that is the beginning of something."""
SURE_ENOUGH = 0.2
"""Of the correlation with itself at distance 0."""
NOISE_LIKENESS = 6.0
"""Divided by the root of the number of frames: noise alone stays below it, the shorter the more."""
_FRAMES_AT_ONCE = 2048


def cut_frames(samples: Floats, size: int, hop: int) -> Floats:
    """(frames, size), a view: whole frames only; what is shorter than one frame is one, filled up with 0."""
    if len(samples) < size:
        samples = np.pad(samples, (0, size - len(samples)))
    return np.lib.stride_tricks.sliding_window_view(samples, size)[::hop]


def measure_frames(frames: Floats) -> tuple[Floats, Floats]:
    """Loudness in dB of full scale (RMS, at least -120), and the share of sign changes, of each frame."""
    loudness = np.empty(len(frames), np.float32)
    crossings = np.empty(len(frames), np.float32)
    for at in range(0, len(frames), _FRAMES_AT_ONCE):
        some = frames[at : at + _FRAMES_AT_ONCE]
        power = np.mean(np.square(some, dtype=np.float64), axis=1)
        loudness[at : at + len(some)] = 10 * np.log10(np.maximum(power, 1e-12))
        crossings[at : at + len(some)] = np.mean(np.diff(np.signbit(some), axis=1), axis=1)
    return loudness, crossings


def compute_power(frames: Floats) -> Floats:
    """(frames, size // 2 + 1): power in each bin behind a Hann window; a sine of full scale has about 1."""
    size = frames.shape[1]
    window = hann(size, sym=False).astype(np.float32)
    scale = np.float32(2.0 / window.sum())
    power = np.empty((len(frames), size // 2 + 1), np.float32)
    for at in range(0, len(frames), _FRAMES_AT_ONCE):
        some = frames[at : at + _FRAMES_AT_ONCE] * window
        power[at : at + len(some)] = np.square(np.abs(fft.rfft(some, axis=1)) * scale)
    return power


def find_peak(power: Floats, sample_rate: int) -> float | None:
    """Hz of the strongest tone over all frames, between two bins too. None: there is nothing to hear."""
    mean = power.mean(axis=0, dtype=np.float64)
    strongest = int(mean.argmax())
    if mean[strongest] <= 1e-12:
        return None
    return (strongest + _vertex(np.log(mean + 1e-20), strongest)) * sample_rate / (2 * (len(mean) - 1))


def find_centroid(power: Floats, sample_rate: int) -> float | None:
    """Hz around which the power lies. None: there is nothing to hear."""
    mean = power.mean(axis=0, dtype=np.float64)
    if mean.max() <= 1e-12:
        return None
    bins = np.arange(len(mean)) * sample_rate / (2 * (len(mean) - 1))
    return float((bins * mean).sum() / mean.sum())


def build_mel_filters(bands: int, bins: int, sample_rate: int) -> Floats:
    """(bands, bins): triangles, even on the mel scale (2595 log10(1 + f / 700)) up to half the rate.

    A row that is all 0 is a band narrower than a bin.
    """
    top = 2595 * np.log10(1 + sample_rate / 2 / 700)
    corners = 700 * (10 ** (np.linspace(0, top, bands + 2) / 2595) - 1)
    frequencies = np.linspace(0, sample_rate / 2, bins)
    left, middle, right = corners[:-2, None], corners[1:-1, None], corners[2:, None]
    rising, falling = (frequencies - left) / (middle - left), (right - frequencies) / (right - middle)
    return np.maximum(0, np.minimum(rising, falling)).astype(np.float32)


def compute_mel(power: Floats, filters: Floats) -> Floats:
    """(frames, bands): dB below the loudest band of all frames, from 0 to -80. Silence is -80 throughout."""
    mel: Floats = power @ filters.T
    loudest = float(mel.max())
    if loudest <= 1e-12:
        return np.full(mel.shape, FLOOR_DB, np.float32)
    decibels: Floats = 10 * np.log10(np.maximum(mel / np.float32(loudest), np.float32(1e-12)))
    return np.maximum(decibels, np.float32(FLOOR_DB))


def compute_cepstrum(mel: Floats, coefficients: int) -> Floats:
    """(frames, coefficients): MFCC, the orthonormal cosine transform (DCT-II) of the bands in dB."""
    return np.asarray(fft.dct(mel, type=2, norm="ortho", axis=1)[:, :coefficients], dtype=np.float32)


@dataclass(frozen=True)
class Tempo:
    """`confidence`: 0 to 1, how much the sound is like itself a beat later. `beats`: seconds, ascending."""

    bpm: float | None
    confidence: float
    beats: tuple[float, ...]
    reason: str = ""
    """Why there is none."""


def estimate_tempo(mel: Floats, frame_seconds: float, first_seconds: float) -> Tempo:
    """Of mel bands in dB. `frame_seconds`: from frame to frame; `first_seconds`: the time of the first one.

    Between 40 and 240 BPM; where half or double would do as well, what is nearer to 120 is taken.
    """
    onsets = np.maximum(0, np.diff(mel.astype(np.float64), axis=0)).mean(axis=1)
    shortest = max(1, int(60 / FASTEST_BPM / frame_seconds))
    longest = min(int(np.ceil(60 / SLOWEST_BPM / frame_seconds)), len(onsets) // 2)
    if longest <= shortest + 2:
        return Tempo(None, 0.0, (), "too short: two beats must fit in")
    likeness = _likeness(onsets)
    if likeness is None:
        return Tempo(None, 0.0, (), "nothing begins in it: silence, or one even sound")
    bpm = 60 / frame_seconds / np.arange(shortest, longest + 1)
    usual = np.exp(-0.5 * np.square(np.log2(bpm / USUAL_BPM)))
    peaks, _ = find_peaks(np.pad(likeness[shortest : longest + 1] * usual, 1))
    if not len(peaks):
        return Tempo(None, 0.0, (), "no beat comes again")
    scores = (likeness[shortest : longest + 1] * usual)[peaks - 1]
    lag = int(peaks[scores.argmax()]) - 1 + shortest
    confidence = float(min(1.0, likeness[lag]))
    if confidence < max(SURE_ENOUGH, NOISE_LIKENESS / len(onsets) ** 0.5):
        return Tempo(None, max(0.0, confidence), (), "no beat comes again clearly enough")
    period = _refine(likeness, lag)
    beats = _place_beats(onsets, period)
    seconds = tuple(float(first_seconds + (beat + 1) * frame_seconds) for beat in beats)
    return Tempo(60 / (period * frame_seconds), confidence, seconds)


def _likeness(onsets: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """How much the onsets are like themselves, so many frames later; 1 at 0. None where there are none."""
    if onsets.max() < ONSET_DB:
        return None
    # A beat that falls between two frames is halved among them; smoothed, all beats are about equal.
    smooth = np.convolve(onsets, hann(7)[1:-1], mode="same")
    centred = smooth - smooth.mean()
    spectrum = fft.rfft(centred, fft.next_fast_len(2 * len(centred)))
    found = fft.irfft(np.square(np.abs(spectrum)))[: len(centred)]
    return np.asarray(found / found[0])


def _refine(likeness: NDArray[np.float64], lag: int) -> float:
    """The period in frames: the further away the multiple at which it is looked up, the finer."""
    period, multiple = lag + _vertex(likeness, lag), 1
    while True:
        multiple *= 2
        middle = round(period * multiple)
        reach = max(1, lag // 4)
        if middle + reach >= len(likeness) * 3 // 4:
            return period
        around = likeness[middle - reach : middle + reach + 1]
        best = middle - reach + int(around.argmax())
        if likeness[best] < SURE_ENOUGH / 2 or abs(best - middle) > 2:
            return period
        period = (best + _vertex(likeness, best)) / multiple


def _place_beats(onsets: NDArray[np.float64], period: float) -> NDArray[np.float64]:
    """Frames at which beats fall: where a comb of this period meets the strongest onsets."""
    frames = np.arange(len(onsets))
    best, best_sum = 0.0, -1.0
    for start in np.arange(0, period, 0.5):
        comb = np.arange(start, len(onsets) - 1, period)
        found = float(np.interp(comb, frames, onsets).mean())
        if found > best_sum:
            best, best_sum = float(start), found
    return np.arange(best, len(onsets) - 1, period)


def _vertex(values: NDArray[np.float64], at: int) -> float:
    """Where the top of the parabola through a peak and its neighbours lies, from `at`; within ±0.5."""
    if not 0 < at < len(values) - 1:
        return 0.0
    before, here, after = values[at - 1 : at + 2]
    curve = before - 2 * here + after
    return float(np.clip(0.5 * (before - after) / curve, -0.5, 0.5)) if curve else 0.0
