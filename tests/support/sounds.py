"""Sounds with known answers, and WAV files of them."""

import io

import numpy as np
import soundfile
from numpy.typing import NDArray

Samples = NDArray[np.float64]


def sine(hertz: float, seconds: float = 2.0, rate: int = 22_050, amplitude: float = 0.5) -> Samples:
    return amplitude * np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate)


def clicks(bpm: float, seconds: float = 20.0, rate: int = 22_050, first: float = 0.25) -> Samples:
    """A short decaying tone on each beat, silence between."""
    found = np.zeros(int(seconds * rate))
    length = int(0.03 * rate)
    click = (
        0.8 * np.sin(2 * np.pi * 1000 * np.arange(length) / rate) * np.exp(-np.arange(length) / length * 5)
    )
    for beat in np.arange(first, seconds - 0.04, 60 / bpm):
        at = round(beat * rate)
        found[at : at + length] += click
    return found


def wav(samples: Samples, rate: int = 22_050, encoding: str = "PCM_16") -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="WAV", subtype=encoding)
    return file.getvalue()
