"""WAV files in all their forms, and files that are none."""

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from podium_workers import Reject
from podium_workers.audio.wav import decode_wav, resample
from support.sounds import sine, wav

GOOD = wav(sine(440))


@pytest.mark.parametrize(
    ("encoding", "step"),
    [("PCM_U8", 2**-7), ("PCM_16", 2**-15), ("PCM_24", 2**-23), ("PCM_32", 2**-24), ("FLOAT", 2**-24)],
)
def test_each_depth_gives_the_same_sound_as_far_as_it_can_say_it(encoding: str, step: float) -> None:
    wanted = sine(440)
    sound = decode_wav(wav(wanted, encoding=encoding), 10)
    assert (sound.encoding, sound.sample_rate, sound.channels, sound.seconds) == (encoding, 22_050, 1, 2.0)
    assert np.abs(sound.samples - wanted).max() <= step
    assert sound.peak == pytest.approx(0.5, abs=step + 2e-7)
    assert sound.clipped_samples == 0


def test_channels_are_mixed_and_each_is_heard_alone() -> None:
    left, right = sine(440, amplitude=0.8), sine(1000, amplitude=0.2)
    sound = decode_wav(wav(np.stack([left, right], axis=1)), 10)
    assert sound.channels == 2
    assert np.abs(sound.samples - (left + right) / 2).max() < 1e-4
    assert sound.peak == pytest.approx(0.8, abs=1e-3)


@pytest.mark.parametrize("encoding", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT"])
def test_what_was_cut_off_at_full_scale_is_counted(encoding: str) -> None:
    cut = np.clip(sine(440, amplitude=2.0), -1, 1)
    sound = decode_wav(wav(cut, encoding=encoding), 10)
    # Beyond ±1 a sine of amplitude 2 is for two thirds of its time.
    assert sound.clipped_samples == pytest.approx(len(cut) * 2 / 3, rel=0.02)


def test_a_peak_that_touches_full_scale_is_no_clipping_and_runs_do_not_cross_channels() -> None:
    samples = np.zeros((100, 2))
    samples[[10, 11], 0] = 1.0
    samples[-1, 0] = samples[:2, 1] = 1.0
    assert decode_wav(wav(samples), 10).clipped_samples == 0
    samples[12, 0] = 1.0
    assert decode_wav(wav(samples), 10).clipped_samples == 3


def with_data_length(length: int) -> bytes:
    at = GOOD.index(b"data") + 4
    return GOOD[:at] + struct.pack("<I", length) + GOOD[at + 4 :]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "not a WAV file: it is empty"),
        (b"ID3\x04not a wav at all", r'not a WAV file: it begins with "ID3\\x04not a wa", not with RIFF'),
        (b"RIFF\x00\x00\x00\x00AVI LIST", "not a WAV file"),
        (GOOD[:20], "it has no sound in it"),
        (GOOD[:-1000], "cut off: its header says 88,200 bytes of sound, it has 87,200"),
        (GOOD.replace(b"data", b"junk"), "it has no sound in it"),
        (wav(np.zeros(0)), "holds no samples"),
        (wav(sine(440), rate=1000), "has 1000 samples a second"),
        (wav(np.zeros((10, 17))), "has 17 channels"),
        (wav(np.array([0.0, np.nan, 0.5]), encoding="FLOAT"), "no numbers"),
        (GOOD[:20] + b"\xee\xee" + GOOD[22:], "cannot be decoded"),
    ],
)
def test_what_is_no_good_wav_says_why(data: bytes, words: str) -> None:
    with pytest.raises(Reject, match=words):
        decode_wav(data, 10)


def test_a_file_that_is_too_long_is_not_decoded() -> None:
    with pytest.raises(Reject, match=r"2 s long, longer than `maxSeconds` \(1.5\)"):
        decode_wav(GOOD, 1.5)


def test_a_file_that_was_written_into_a_pipe_goes_to_its_end() -> None:
    assert decode_wav(with_data_length(0xFFFFFFFF), 10).seconds == 2.0


@given(st.integers(0, len(GOOD)))
def test_a_file_that_was_cut_anywhere_is_never_taken_for_a_shorter_one(length: int) -> None:
    if length == len(GOOD):
        assert decode_wav(GOOD, 10).seconds == 2.0
    else:
        with pytest.raises(Reject):
            decode_wav(GOOD[:length], 10)


@given(st.binary(max_size=400), st.sampled_from([b"", GOOD[:12], GOOD[:36], GOOD[:44]]))
def test_whatever_comes_is_decoded_or_refused(rest: bytes, start: bytes) -> None:
    try:
        sound = decode_wav(start + rest, 10)
    except Reject:
        return
    assert len(sound.samples)
    assert np.isfinite(sound.samples).all()


@given(st.sampled_from([8000, 11025, 16_000, 44_100, 48_000]), st.sampled_from([200, 440, 1500]))
def test_resampling_keeps_the_length_and_the_sound(before: int, hertz: int) -> None:
    found = resample(sine(hertz, 1.0, before).astype(np.float32), before, 22_050)
    wanted = sine(hertz, 1.0)
    assert abs(len(found) - len(wanted)) <= 1
    middle = slice(2000, 20_000)
    assert np.abs(found[middle] - wanted[middle]).max() < 0.01
