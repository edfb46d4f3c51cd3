"""Sounds whose answers are known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from podium_workers.audio import analysis
from podium_workers.audio.analysis import Tempo
from support.sounds import Samples, clicks, sine

RATE, SIZE, HOP = 22_050, 2048, 512
BIN = RATE / SIZE
FILTERS = analysis.build_mel_filters(64, SIZE // 2 + 1, RATE)


def power_of(samples: Samples) -> analysis.Floats:
    return analysis.compute_power(analysis.cut_frames(samples.astype(np.float32), SIZE, HOP))


def tempo_of(samples: Samples) -> Tempo:
    mel = analysis.compute_mel(power_of(samples), FILTERS)
    return analysis.estimate_tempo(mel, HOP / RATE, SIZE / 2 / RATE)


@given(st.floats(60, 10_900), st.floats(0.01, 1.0))
def test_a_sine_has_its_peak_at_its_frequency_and_its_power(hertz: float, amplitude: float) -> None:
    power = power_of(sine(hertz, 1.0, amplitude=amplitude))
    found = analysis.find_peak(power, RATE)
    assert found == pytest.approx(hertz, abs=BIN / 4)
    assert power.mean(axis=0).argmax() == pytest.approx(hertz / BIN, abs=0.51)
    # Between two bins a Hann window loses at most 1.42 dB.
    assert 0.7 * amplitude**2 < power.max() < 1.05 * amplitude**2


def test_two_sines_have_their_centre_between_them() -> None:
    assert analysis.find_centroid(power_of(sine(1000) + sine(3000)), RATE) == pytest.approx(2000, abs=5)


@given(st.integers(1, 5000), st.integers(64, 1024), st.integers(1, 64))
def test_frames_are_where_they_should_be(length: int, size: int, hop: int) -> None:
    samples = np.arange(length, dtype=np.float32)
    frames = analysis.cut_frames(samples, size, hop)
    assert frames.shape == (max(1, (length - size) // hop + 1), size)
    if length >= size:
        assert (frames[:, 0] == np.arange(len(frames)) * hop).all()
        assert frames[-1, -1] <= samples[-1]


def test_loudness_and_sign_changes_of_a_sine() -> None:
    loudness, crossings = analysis.measure_frames(
        analysis.cut_frames(sine(441, amplitude=1.0).astype(np.float32), SIZE, HOP)
    )
    assert loudness == pytest.approx(-3.01, abs=0.05)
    assert crossings == pytest.approx(2 * 441 / RATE, abs=0.002)


def test_silence_has_no_tone_no_tempo_and_no_loudness() -> None:
    silence = np.zeros(RATE * 5)
    power = power_of(silence)
    assert analysis.find_peak(power, RATE) is None
    assert analysis.find_centroid(power, RATE) is None
    assert (analysis.compute_mel(power, FILTERS) == -80).all()
    assert (
        analysis.measure_frames(analysis.cut_frames(silence.astype(np.float32), SIZE, HOP))[0].max() == -120
    )
    found = tempo_of(silence)
    assert (found.bpm, found.beats) == (None, ())
    assert "silence" in found.reason


def test_each_mel_band_hears_the_tone_in_its_middle() -> None:
    top = 2595 * np.log10(1 + RATE / 2 / 700)
    for band in (5, 20, 40, 60):
        hertz = 700 * (10 ** (top * (band + 1) / 65 / 2595) - 1)
        mel = analysis.compute_mel(power_of(sine(hertz)), FILTERS)
        assert mel.max() == 0
        assert (mel.argmax(axis=1) == band).all()


def test_loudness_moves_only_the_first_cepstral_coefficient_and_nothing_in_bands_that_are_relative() -> None:
    noise = np.random.default_rng(7).normal(0, 0.1, RATE)
    loud, quiet = (analysis.compute_mel(power_of(noise * factor), FILTERS) for factor in (1.0, 0.1))
    assert loud == pytest.approx(quiet, abs=1e-3)
    lower = analysis.compute_cepstrum(loud - 10, 13) - analysis.compute_cepstrum(loud, 13)
    assert lower[:, 0] == pytest.approx(-10 * 8, abs=1e-3)
    assert np.abs(lower[:, 1:]).max() < 1e-3


def test_four_beats_are_enough() -> None:
    assert tempo_of(clicks(120, seconds=2.2, first=0.1)).bpm == pytest.approx(120, abs=1)


def test_a_click_track_at_120() -> None:
    found = tempo_of(clicks(120))
    assert found.bpm == pytest.approx(120, abs=1)
    assert len(found.beats) in (39, 40)
    assert np.diff(found.beats) == pytest.approx(0.5, abs=0.005)
    assert np.array(found.beats[:38]) % 0.5 == pytest.approx(0.25, abs=0.04)


@settings(max_examples=40, deadline=None)
@given(st.floats(60, 160), st.floats(0, 0.4), st.floats(0, 0.02))
def test_a_click_track_of_any_usual_tempo_in_a_little_noise(bpm: float, first: float, noise: float) -> None:
    samples = clicks(bpm, first=first)
    found = tempo_of(samples + np.random.default_rng(1).normal(0, noise, len(samples)))
    assert found.bpm == pytest.approx(bpm, abs=1)


@given(st.integers(0, 2**32 - 1), st.floats(2, 10))
def test_noise_has_no_tempo(seed: int, seconds: float) -> None:
    found = tempo_of(np.random.default_rng(seed).normal(0, 0.1, int(RATE * seconds)))
    assert (found.bpm, found.reason) == (None, "no beat comes again clearly enough")


@given(st.floats(60, 10_000))
def test_one_even_tone_has_no_tempo(hertz: float) -> None:
    assert tempo_of(sine(hertz, 6.0)).bpm is None


@pytest.mark.parametrize("seconds", [0.05, 0.5])
def test_what_is_too_short_has_no_tempo(seconds: float) -> None:
    assert tempo_of(clicks(120, seconds, first=0.0)).reason == "too short: two beats must fit in"
