"""Images for ESP32 boards: what is read out of them, and what is said about files that are none."""

import contextlib
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podium_workers.services.build_signature import find_builds, names_commit
from podium_workers.services.esp_image import CHIPS, ImageError, fold, parse_image
from podium_workers.simulator.firmware import build_image

COMMIT = "9f1c2ab0c3d4e5f60718293a4b5c6d7e8f901234"
SMALL = build_image("9f1c2ab", size=2048)
# A header, one segment of four bytes, padding, checksum; put together by hand after esp_app_format.h.
BY_HAND = (
    bytes.fromhex("e9 01 02 2f 00 00 38 40 ee 00 00 00 05 00 00 00 00 ff ff 00 00 00 00 00")
    + struct.pack("<II", 0x3FC80000, 4)
    + bytes.fromhex("01 02 04 08")
    + bytes(11)
    + bytes([0xEF ^ 0x0F])
)


def test_an_image_put_together_by_hand_is_read():
    image = parse_image(BY_HAND)
    assert (image.chip, image.entry, image.size, image.image_bytes) == ("ESP32C3", 0x40380000, 48, 48)
    (segment,) = image.segments
    assert (segment.address, segment.length, segment.offset) == (0x3FC80000, 4, 32)
    assert image.checksum_ok
    assert image.hash_ok is None
    assert image.app is None
    assert image.intact


def test_a_whole_image_says_what_it_is(tmp_path):
    path = tmp_path / "firmware.bin"
    path.write_bytes(
        build_image("9f1c2ab-dirty", chip="ESP32S3", version="1.4.2", project="k1", secure_version=3)
    )
    image = parse_image(path)
    assert (image.chip, image.build, image.checksum_ok, image.hash_ok) == (
        "ESP32S3",
        "9f1c2ab-dirty",
        True,
        True,
    )
    assert image.app is not None
    assert (image.app.version, image.app.project, image.app.secure_version) == ("1.4.2", "k1", 3)
    assert (image.app.date, image.app.idf) == ("Jan  1 2026", "v5.5")
    assert image.size == image.image_bytes == path.stat().st_size


@given(st.sampled_from(sorted(CHIPS.values())), st.integers(1024, 20_000), st.booleans())
def test_what_is_made_can_be_read(chip, size, hashed):
    image = parse_image(build_image("abcdef0", chip=chip, size=size, hashed=hashed))
    assert (image.chip, image.build, image.intact) == (chip, "abcdef0", True)
    assert image.hash_ok is (True if hashed else None)
    assert abs(image.size - size) <= 64


@given(st.integers(0, len(SMALL) - 1), st.integers(0, 7))
def test_no_flipped_bit_goes_unnoticed(byte, bit):
    broken = bytearray(SMALL)
    broken[byte] ^= 1 << bit
    try:
        image = parse_image(bytes(broken))
    except ImageError:
        return
    # The flag in the header that says whether there is a hash is the only thing the hash cannot guard.
    assert not image.intact or (byte == 23 and image.hash_ok is None)


@given(st.integers(0, len(SMALL) - 1))
def test_an_image_that_was_cut_off_anywhere_is_refused(length):
    with pytest.raises(ImageError, match=r"cut off|is empty|within the header"):
        parse_image(SMALL[:length])


@given(st.binary(max_size=400), st.booleans())
def test_rubbish_never_breaks_the_parser(rubbish, with_magic):
    with contextlib.suppress(ImageError):
        parse_image((b"\xe9" if with_magic else b"") + rubbish)


@given(st.binary(max_size=300))
def test_folding_is_the_exclusive_or_of_all_bytes(data):
    slow = 0
    for byte in data:
        slow ^= byte
    assert fold(data) == slow


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "the build has written nothing"),
        (b"\x7fELF\x01", "begins with 0x7f, an image begins with 0xe9: this is the ELF file"),
        (b"<!DOCTYPE html>", "perhaps an error page"),
        (b"\x1f\x8b\x08", "packed by gzip"),
        (b"hello", "begins with 0x68"),
        (b"\xe9\x00" + bytes(30), "counts 0 segments, an image has 1 to 16"),
        (b"\xe9\xff" + bytes(30), "counts 255 segments"),
        (b"\xe9\x01" + bytes(30)[:4], "ends after 6 bytes, within the header of 24"),
        (BY_HAND[:34], "segment 1 of 1 has 4 bytes from 32 on, the file ends at 34: it was cut off"),
        (BY_HAND[:-1], "ends after 47 bytes, before its checksum at 47"),
        (SMALL[:-1], "within the hash"),
    ],
)
def test_what_is_no_image_is_named(data, words):
    with pytest.raises(ImageError) as caught:
        parse_image(data)
    assert words in str(caught.value)


def test_a_file_that_cannot_be_read_is_named_with_its_path(tmp_path: Path):
    with pytest.raises(ImageError, match=r"nowhere\.bin: No such file"):
        parse_image(tmp_path / "nowhere.bin")
    (tmp_path / "empty.bin").touch()
    with pytest.raises(ImageError, match=r"empty\.bin: it is empty"):
        parse_image(tmp_path / "empty.bin")


def test_what_follows_the_image_counts_for_the_slot_but_not_for_its_sums():
    image = parse_image(SMALL + bytes(512))
    assert (image.image_bytes, image.size, image.intact) == (len(SMALL), len(SMALL) + 512, True)


def test_an_unknown_chip_keeps_its_number():
    odd = bytearray(BY_HAND)
    odd[12] = 77
    assert parse_image(bytes(odd)).chip == "chip id 77"


def test_builds_that_contradict_each_other_are_none():
    assert find_builds(b"xBUILD_SIG:%s\0BUILD_SIG:abc1234\0BUILD_SIG:abc1234\0") == ("abc1234",)
    two = bytearray(SMALL)
    at = two.find(b"BUILD_SIG:", two.find(b"BUILD_SIG:") + 1)
    assert at < 0
    two[1500:1520] = b"BUILD_SIG:bbbbbbb\0\0\0"
    image = parse_image(bytes(two))
    assert (image.builds, image.build) == (("9f1c2ab", "bbbbbbb"), None)


@pytest.mark.parametrize(
    ("build", "contained"),
    [
        (COMMIT, True),
        (COMMIT[:7], True),
        (f"k1-{COMMIT[:8]}", True),
        (f"v1.4.2-3-g{COMMIT[:10]}", True),
        (COMMIT.upper(), True),
        (f"{COMMIT[:7]}-dirty", False),
        (COMMIT[:6], False),
        ("71be003", False),
        ("v4.4.6-arduino-lib-builder", False),
        ("", False),
        (None, False),
        (f"0{COMMIT}", False),
    ],
)
def test_a_build_contains_its_commit_and_no_other(build, contained):
    assert names_commit(build, COMMIT) is contained


def test_a_short_or_empty_commit_is_contained_in_nothing():
    assert not names_commit(COMMIT, "")
    assert not names_commit(COMMIT, COMMIT[:6])
    assert names_commit(COMMIT, COMMIT[:7])
