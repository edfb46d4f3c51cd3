"""What goes over the wire, byte by byte, and how a password is proved: against known values."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podium_workers.services.ota.words import (
    Accepted,
    Challenged,
    Odd,
    Rejected,
    Stream,
    build_invitation,
    build_proof,
    classify_error,
    compute_response,
    parse_answer,
    schemes_for,
)

NONCE32 = "fcea920f7412b5da7be0cf42b8c93759"
CNONCE32 = "62608e08adc29a8d6dbc9754e659f125"
NONCE64 = "8bb0cf6eb9b17d0f7d22b456f121257dc1254e1f01665370476383ea776df414"
CNONCE64 = "948fe603f61dc036b5c596dc09fe3ce3f3d30dc90f024c85f3c82db2ccab679d"


@pytest.mark.parametrize(
    ("scheme", "nonce", "cnonce", "response"),
    [
        ("Md5", NONCE32, CNONCE32, "da7b058bc43409137bed382479ff4d73"),
        (
            "Pbkdf2Sha256",
            NONCE64,
            CNONCE64,
            "28109c741a9800c18b7f33cd705d7277855e904f0f3ab54183513a4ba07880e4",
        ),
        (
            "Pbkdf2Sha256OfMd5",
            NONCE64,
            CNONCE64,
            "163bd9637c5b543b1717c8a9cb56a9c8070040cda8bbeb3f0582fad43ab4339e",
        ),
    ],
)
def test_a_password_is_proved_as_the_cores_want_it(scheme, nonce, cnonce, response):
    assert compute_response(scheme, "admin", nonce, cnonce) == response


def test_an_invitation_and_a_proof_are_lines_of_ascii():
    assert build_invitation(3233, 1310688, "a" * 32) == b"0 3233 1310688 " + b"a" * 32 + b"\n"
    assert build_proof("r" * 32, "c" * 32) == b"200 " + b"c" * 32 + b" " + b"r" * 32 + b"\n"


@pytest.mark.parametrize(
    ("packet", "answer"),
    [
        (b"OK", Accepted()),
        (b"OK\0", Accepted()),
        (f"AUTH {NONCE32}".encode(), Challenged(NONCE32)),
        (b"Authentication Failed", Rejected()),
        (b"AUTH", Challenged("")),
        (b"OKAY", Odd("OKAY")),
        (b"\xff\xfe", Odd("\ufffd\ufffd")),
        (b"", Odd("")),
    ],
)
def test_answers_of_a_device_are_understood(packet, answer):
    assert parse_answer(packet) == answer


@given(st.binary(max_size=600))
def test_no_answer_is_too_odd(packet):
    assert parse_answer(packet)


def test_the_length_of_the_challenge_says_which_ways_there_are():
    assert schemes_for(NONCE32) == ("Md5",)
    assert schemes_for(NONCE64) == ("Pbkdf2Sha256", "Pbkdf2Sha256OfMd5")
    assert schemes_for(NONCE64, "Pbkdf2Sha256OfMd5") == ("Pbkdf2Sha256OfMd5", "Pbkdf2Sha256")
    assert schemes_for(NONCE64[:40]) == schemes_for("") == schemes_for("x" * 32) == ()


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted({place % (len(data) + 1) for place in places}), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(edges) if a < b]


ENDINGS = [
    "OK",
    "MD5 Check Failed\r\n",
    "Wrong Magic Byte\r\n",
    "ERROR[4]: Not Enough Space\r\n",
    "Aborted\r\n",
]


@given(st.lists(st.integers(1, 1460), max_size=30), st.sampled_from(ENDINGS), st.lists(st.integers(0, 200)))
def test_counts_and_last_words_are_told_apart_however_they_are_cut(counts, ending, places):
    stream = Stream()
    states = [stream.feed(piece) for piece in cut("".join([*map(str, counts), ending]).encode(), places)]
    assert states[-1] == ("accepted" if ending == "OK" else "error")
    assert set(states[:-1]) <= {"alive", "unfinished"} | ({"accepted"} if ending == "OK" else set())
    assert stream.text.strip() == ending.strip()
    assert stream.is_error is (ending != "OK")


@given(st.lists(st.integers(1, 1460), min_size=1, max_size=30), st.lists(st.integers(0, 200)))
def test_counts_alone_never_look_like_an_end(counts, places):
    stream = Stream()
    assert {stream.feed(piece) for piece in cut("".join(map(str, counts)).encode(), places)} == {"alive"}


def test_half_an_ok_is_neither_yes_nor_no():
    stream = Stream()
    assert stream.feed(b"1024O") == "unfinished"
    assert not stream.is_error


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("MD5 Check Failed", "ChecksumMismatch"),
        ("Wrong Magic Byte", "WrongMagic"),
        ("Could Not Activate The Firmware", "ActivationRefused"),
        ("ERROR[4]: Not Enough Space", "NotEnoughSpace"),
        ("Flash Erase Failed", "FlashFailed"),
        ("Aborted", "AbortedByDevice"),
        ("UNKNOWN", "DeviceError"),
    ],
)
def test_an_error_text_has_its_reason(text, reason):
    assert classify_error(text) == reason
