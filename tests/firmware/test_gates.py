"""Numbers out of a log, and the verdict over them: tables and laws."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podium_workers.firmware.buildlog import BuildLog, Usage, Warned, parse_log
from podium_workers.firmware.gates import Limits, Wanted, decide_gates, failed
from podium_workers.services.esp_image import Image, parse_image
from podium_workers.simulator.firmware import build_image

COMMIT = "9f1c2ab0c3d4e5f60718293a4b5c6d7e8f901234"
SLOT = Usage(900_000, 1_310_720)
GOOD = BuildLog(SLOT, Usage(41_160, 327_680), ())
WARNED = Warned("a.c", 1, "x")


def image(**more: object) -> Image:
    return dataclasses.replace(parse_image(build_image(build=COMMIT)), chip="ESP32C3", **more)


def verdicts(log: BuildLog = GOOD, given: Image | str | None = None, **wanted: object) -> dict[str, bool]:
    gates = decide_gates(log, given or image(), Limits(), Wanted(**wanted))
    return {gate.name: gate.passed for gate in gates}


LOG = """\
Processing esp32-s3-devkitc-1 (board: esp32-s3-devkitc-1; platform: espressif32@6.13.0; framework: arduino)
Compiling .pio/build/esp32-s3-devkitc-1/src/main.cpp.o
In file included from /w/p/src/main.cpp:3:
/w/p/src/leds.h:12:7: warning: unused variable 'x' [-Wunused-variable]
   12 |   int x;
\x1b[01m\x1b[K/w/p/src/leds.h:12:7:\x1b[m \x1b[01;35mwarning: \x1b[munused variable 'x' [-Wunused-variable]
src/old.c:4: warning: no column here
.pio/libdeps/esp32/FastLED/src/FastLED.h:14:21: note: '#pragma message: FastLED version 3.6'
lib/a:b.c:7:1: warning: "X" redefined
/opt/x/bin/ld: warning: .pio/build/x/firmware.elf has a LOAD segment with RWX permissions
cc1: warning: command-line option '-fno-rtti' is valid for C++ but not for C
Checking size .pio/build/esp32-s3-devkitc-1/firmware.elf
RAM:   [=         ]  12.6% (used 41160 bytes from 327680 bytes)
Flash: [=======   ]  69.9% (used 917503 bytes from 1310720 bytes)
"""


def test_a_log_is_read() -> None:
    found = parse_log(LOG.splitlines(), "/w/p")
    assert found.flash == Usage(917503, 1310720)
    assert found.ram == Usage(41160, 327680)
    assert [str(item) for item in found.warnings] == [
        "src/leds.h:12: unused variable 'x' [-Wunused-variable]",
        "src/old.c:4: no column here",
        'lib/a:b.c:7: "X" redefined',
        "ld: .pio/build/x/firmware.elf has a LOAD segment with RWX permissions",
        "cc1: command-line option '-fno-rtti' is valid for C++ but not for C",
    ]


@pytest.mark.parametrize(
    "line",
    [
        "Flash: 70%",
        "Flash: [===] 12.6% (used 1 bytes from many bytes)",
        "xFlash: [=] 1.0% (used 1 bytes from 2 bytes)",
        "RAM usage: (used 1 bytes from 2 bytes)",
        "note: this warning: is none",
        "warnings: 0",
        "Compiling src/warning: x",
    ],
)
def test_what_only_looks_like_a_number_or_a_warning_is_none(line: str) -> None:
    found = parse_log([line])
    assert (found.flash, found.ram, found.warnings) == (None, None, ())


def test_the_largest_of_several_sizes_counts() -> None:
    lines = [
        "Flash: [          ]   0.0% (used 1 bytes from 1310720 bytes)",
        "Flash: [==========]  99.9% (used 1310719 bytes from 1310720 bytes)",
        "Flash: [          ]   0.0% (used 2 bytes from 1310720 bytes)",
    ]
    assert parse_log(lines).flash == Usage(1310719, 1310720)


def test_ram_that_overflows_is_a_warning_of_the_build() -> None:
    line = "Warning! The data size (400000 bytes) is greater than maximum allowed (327680 bytes)"
    (warning,) = parse_log([line]).warnings
    assert warning.message.startswith("The data size (400000 bytes)")


def test_a_good_image_passes_every_gate() -> None:
    found = verdicts(chip="ESP32-C3", commit=COMMIT, slot_bytes=1_310_720)
    assert found == dict.fromkeys(
        ["flashPercentBelow", "ramPercentBelow", "maxWarnings", "image", "chip", "commit", "fitsSlot"], True
    )


@pytest.mark.parametrize(
    ("log", "name", "words"),
    [
        (dataclasses.replace(GOOD, flash=Usage(917_504, 1_310_720)), "flashPercentBelow", "flash 70.00 %"),
        (dataclasses.replace(GOOD, flash=None), "flashPercentBelow", "no line `Flash:"),
        (dataclasses.replace(GOOD, flash=Usage(0, 0)), "flashPercentBelow", "flash 100.00 %"),
        (dataclasses.replace(GOOD, ram=Usage(262_144, 327_680)), "ramPercentBelow", "RAM 80.00 %"),
        (dataclasses.replace(GOOD, ram=None), "ramPercentBelow", "no line `RAM:"),
        (dataclasses.replace(GOOD, warnings=(WARNED,)), "maxWarnings", "1 warning, at most 0: a.c:1: x"),
    ],
)  # fmt: skip
def test_a_number_that_is_too_large_or_missing_fails_its_gate(log: BuildLog, name: str, words: str) -> None:
    gates = decide_gates(log, image(), Limits(), Wanted(slot_bytes=10**7))
    assert [gate.name for gate in gates if not gate.passed] == [name]
    assert words in failed(gates)


def test_the_percentage_that_the_log_rounds_up_to_70_passes() -> None:
    assert verdicts(dataclasses.replace(GOOD, flash=Usage(917_503, 1_310_720)))["flashPercentBelow"]


@pytest.mark.parametrize(
    ("given", "wanted", "name", "words"),
    [
        ("it is empty", {}, "image", "not an image: it is empty"),
        (image(checksum_ok=False), {}, "image", "checksum is wrong"),
        (image(hash_ok=False), {}, "image", "SHA-256 is wrong"),
        (image(), {"chip": "ESP32S3"}, "chip", "for ESP32C3, the devices have ESP32S3"),
        (image(), {"commit": "0" * 40}, "commit", "not commit 000000000000"),
        (image(builds=(), app=None), {"commit": COMMIT}, "commit", "nothing about its build"),
        (image(builds=(f"{COMMIT}-dirty",), app=None), {"commit": COMMIT}, "commit", "-dirty, not commit"),
        (image(builds=(COMMIT, "0" * 40)), {"commit": COMMIT}, "commit", "several build signatures"),
        (image(size=2_000_000), {"slot_bytes": 1_999_999}, "fitsSlot", "it does not fit"),
    ],
)
def test_an_image_that_is_not_what_is_wanted_fails(
    given: Image | str, wanted: dict, name: str, words: str
) -> None:
    gates = decide_gates(GOOD, given, Limits(), Wanted(**{"slot_bytes": 10**7, **wanted}))
    assert [gate.name for gate in gates if not gate.passed] == [name]
    assert words in failed(gates)


def test_without_a_slot_size_the_log_says_it_and_without_both_it_fails() -> None:
    assert verdicts(given=image(size=1_310_720))["fitsSlot"]
    assert not verdicts(given=image(size=1_310_721))["fitsSlot"]
    assert not verdicts(dataclasses.replace(GOOD, flash=None))["fitsSlot"]


sizes = st.integers(min_value=0, max_value=2**24)


@given(used=sizes, total=sizes, limit=st.floats(min_value=0.1, max_value=100))
def test_more_bytes_never_pass_where_fewer_did_not(used: int, total: int, limit: float) -> None:
    def passes(count: int) -> bool:
        log = dataclasses.replace(GOOD, flash=Usage(count, total))
        gates = decide_gates(log, image(), Limits(flash_percent_below=limit), Wanted(slot_bytes=10**9))
        return next(gate.passed for gate in gates if gate.name == "flashPercentBelow")

    assert passes(used) or not passes(used + 1)
    assert not passes(max(used, total))


@given(st.lists(st.text(max_size=200), max_size=30))
def test_any_text_can_be_read_and_says_nothing_by_chance(lines: list[str]) -> None:
    found = parse_log(lines)
    assert found.flash is None
    assert found.ram is None
