"""Light patterns: what their frames are, and that they are in the image that is built of them."""

import hashlib
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

import podium_workers.patterns  # noqa: F401 - registers the tasks
from podium_workers import Reject
from podium_workers.firmware.overlay import OverlayFile, name_build
from podium_workers.patterns.catalogue import AnyPattern, Pattern, build_frames
from podium_workers.services.artifacts import open_store
from podium_workers.services.build_signature import names_commit
from podium_workers.services.esp_image import parse_image
from podium_workers.services.pattern_image import PatternImage, find_pattern
from podium_workers.simulator.firmware import build_image
from support.firmware import Repository, Run

KINDS = ["solid", "rainbow", "chase", "breathe", "twinkle"]
CHASE = {"kind": "chase", "leds": 60, "frames": 30, "width": 3, "colour": "#ff8000"}


def parse(given: dict[str, Any]) -> AnyPattern:
    return TypeAdapter[AnyPattern](Pattern).validate_python(given)


def frames_of(**given: Any) -> list[list[bytes]]:
    """Frames of LEDs of three bytes."""
    pattern = parse(given)
    data = build_frames(pattern)
    assert len(data) == pattern.leds * pattern.frames * 3
    leds = [data[at : at + 3] for at in range(0, len(data), 3)]
    return [leds[at : at + pattern.leds] for at in range(0, len(leds), pattern.leds)]


sizes = {"leds": st.integers(4, 40), "frames": st.integers(1, 40)}


@given(st.sampled_from(KINDS), st.floats(0, 1), st.fixed_dictionaries(sizes))
def test_the_same_parameters_give_the_same_frames_and_no_light_is_brighter_than_allowed(
    kind: str, brightness: float, size: dict[str, int]
) -> None:
    frames = frames_of(kind=kind, brightness=brightness, **size)
    assert frames == frames_of(kind=kind, brightness=brightness, **size)
    assert max(max(led) for frame in frames for led in frame) <= round(255 * brightness)


@given(st.fixed_dictionaries(sizes))
def test_solid_is_one_colour(size: dict[str, int]) -> None:
    assert {led for frame in frames_of(kind="solid", colour="#102030", **size) for led in frame} == {
        b"\x10\x20\x30"
    }


@given(st.fixed_dictionaries(sizes), st.integers(1, 4))
def test_chase_lights_as_many_as_it_is_wide_and_each_led_once_round(size: dict[str, int], width: int) -> None:
    frames = frames_of(kind="chase", colour="#ffffff", width=width, **size)
    lit = [{at for at, led in enumerate(frame) if any(led)} for frame in frames]
    assert {len(found) for found in lit} == {width}
    assert 0 in lit[0]
    if size["frames"] >= size["leds"]:
        assert set.union(*lit) == set(range(size["leds"]))


@given(st.integers(2, 40).map(lambda half: 2 * half), st.floats(0, 1))
def test_breathe_is_darkest_at_first_and_brightest_in_the_middle(frames: int, lowest: float) -> None:
    found = frames_of(kind="breathe", colour="#ffffff", lowest=lowest, leds=4, frames=frames)
    assert all(len(set(frame)) == 1 for frame in found)
    levels = [frame[0][0] for frame in found]
    assert (levels[0], levels[frames // 2]) == (round(255 * lowest), 255)
    assert levels[1:] == levels[:0:-1]
    assert sorted(levels[: frames // 2 + 1]) == levels[: frames // 2 + 1]


def test_rainbow_has_all_hues_and_moves_once_round() -> None:
    frames = frames_of(kind="rainbow", leds=30, frames=30)
    assert len(set(frames[0])) == 30
    assert frames[0][0] == b"\xff\x00\x00"
    assert all(frames[number] == frames[0][number:] + frames[0][:number] for number in range(30))


@given(st.integers(0, 2**32 - 1), st.floats(0, 1))
def test_twinkle_is_decided_by_its_seed(seed: int, density: float) -> None:
    frames = frames_of(kind="twinkle", seed=seed, density=density, leds=40, frames=8)
    ever = [any(any(frame[led]) for frame in frames) for led in range(40)]
    if density in (0, 1):
        assert set(ever) == {density == 1}
    assert frames == frames_of(kind="twinkle", seed=seed, density=density, leds=40, frames=8)


def test_other_seeds_twinkle_otherwise_and_about_as_much_as_asked() -> None:
    found = [frames_of(kind="twinkle", seed=seed, density=0.3, leds=400, frames=8) for seed in range(8)]
    assert len({str(frames) for frames in found}) == 8
    for frames in found:
        share = sum(any(any(frame[led]) for frame in frames) for led in range(400)) / 400
        assert share == pytest.approx(0.3, abs=0.1)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"kind": "sparkle"}, r"'sparkle'.*does not match any of the expected tags: 'solid', 'rainbow'"),
        ({}, "unable to extract tag"),
        ({"kind": "solid", "leds": 0}, r"pattern.solid.leds': input should be greater than or equal to 1"),
        ({"kind": "solid", "colour": "red"}, r"pattern.solid.colour': string should match pattern"),
        ({"kind": "solid", "width": 3}, r"pattern.solid.width': extra inputs are not permitted"),
        ({"kind": "chase", "leds": 4, "width": 5}, r"width 5 is more than there are leds \(4\)"),
        ({"kind": "rainbow", "turns": float("nan")}, "pattern.rainbow.turns'"),
        ({"kind": "breathe", "lowest": 1.5}, "pattern.breathe.lowest': input should be less than or equal"),
        ({"kind": "twinkle", "seed": -1}, "pattern.twinkle.seed'"),
        ({"kind": "solid", "leds": 4096, "frames": 32}, "take 393,216 bytes of flash, at most 131,072"),
    ],
)
async def test_parameters_that_make_no_sense_are_refused_with_their_name(
    run: Run, sample: Repository, given: dict[str, Any], words: str
) -> None:
    with pytest.raises(Reject, match=words):
        await run("generate_pattern", repository=sample.url, commit="main", pattern=given)


async def build(run: Run, sample: Repository, pattern: dict[str, Any], **more: Any) -> tuple[dict, dict]:
    """What generate_pattern and platformio_compile return."""
    made = await run("generate_pattern", repository=sample.url, commit="main", pattern=pattern, **more)
    built = await run(
        "platformio_compile",
        repository=sample.url, commit=made["commit"], environments=made["environments"],
        overlay=made["overlay"],
    )  # fmt: skip
    return made, built


def shown_by(run: Run, built: dict[str, Any]) -> PatternImage:
    data = open_store(run.context.data_dir).get(built["builds"][0]["files"]["image"]["sha256"])
    image = parse_image(data)
    assert image.build == built["build"]
    found = find_pattern(data, image)
    assert found is not None
    return found


async def test_a_pattern_is_built_into_a_commit_once_and_found_in_the_image(
    run: Run, sample: Repository
) -> None:
    commit = sample.git("rev-parse", "HEAD")
    made, built = await build(run, sample, CHASE, environment="c3-mini")
    assert (made["commit"], made["pattern"]["name"], made["environment"]) == (commit, "chase", "c3-mini")
    assert made["build"] == built["build"] != commit
    assert not names_commit(built["build"], commit)
    shown = shown_by(run, built)
    colours = build_frames(parse(CHASE))
    assert (shown.name, shown.leds, shown.frames) == ("chase", 60, 30)
    assert shown.checksum == made["pattern"]["checksum"] == hashlib.sha256(colours).hexdigest()
    assert shown.instructions is not None
    assert 10 < shown.instructions < 100

    again = await build(run, sample, CHASE, environment="c3-mini")
    assert (again[1]["builds"][0]["cached"], again[0]["build"]) == (True, built["build"])

    # The commit itself is another build.
    plain = await run("platformio_compile", repository=sample.url, commit=commit, environments=["c3-mini"])
    assert (plain["build"], plain["builds"][0]["cached"]) == (commit, False)

    # The same pattern, compiled without optimising: it is the image that says how long a frame takes.
    sample.commit("Slower", **{"platformio.ini": (sample.folder / "platformio.ini").read_text() + " -O0\n"})
    slower = await build(run, sample, CHASE, environment="c3-mini")
    assert slower[1]["builds"][0]["cached"] is False
    assert (shown_by(run, slower[1]).instructions or 0) > 2 * shown.instructions

    with pytest.raises(Reject, match="the pattern is for 60 LEDs, the firmware is built for another number"):
        await build(run, sample, CHASE, environment="c3-devkit")


async def test_the_commit_itself_is_built_without_the_pattern_afterwards(
    run: Run, sample: Repository
) -> None:
    await run("generate_pattern", repository=sample.url, commit="main", pattern=CHASE)
    place = run.context.data_dir / "firmware" / "work" / "run-1" / "main" / "source" / "src" / "pattern.c"
    store = open_store(run.context.data_dir)
    overlay = [{"path": "src/pattern.c", "sha256": store.put(b"#error from the overlay\n")}]
    given = {"repository": sample.url, "commit": "main", "environments": ["c3-mini"]}
    with pytest.raises(Reject, match="error: from the overlay"):
        await run("platformio_compile", **given, overlay=overlay)
    built = await run("platformio_compile", **given)
    assert built["build"] == built["commit"] == sample.git("rev-parse", "HEAD")
    assert place.read_text() == (sample.folder / "src/pattern.c").read_text()


@pytest.mark.parametrize("path", ["../out.c", "/etc/out.c", "", ".", "src", ".git/config", "src/../../out.c"])
async def test_an_overlay_stays_in_the_project(run: Run, sample: Repository, path: str) -> None:
    store = open_store(run.context.data_dir)
    overlay = [{"path": path, "sha256": store.put(b"x")}]
    with pytest.raises(Reject, match="path: "):
        await run("platformio_compile", repository=sample.url, commit="main", overlay=overlay)


async def test_a_link_in_the_commit_does_not_lead_an_overlay_out(
    run: Run, sample: Repository, tmp_path: Path
) -> None:
    (sample.folder / "out").symlink_to(tmp_path)
    sample.commit("A link")
    overlay = [{"path": "out/x.c", "sha256": open_store(run.context.data_dir).put(b"x")}]
    with pytest.raises(Reject, match="is no file in the project's folder"):
        await run("platformio_compile", repository=sample.url, commit="main", overlay=overlay)
    assert not (tmp_path / "x.c").exists()


async def test_a_firmware_that_takes_no_patterns_says_so(run: Run, sample: Repository) -> None:
    sample.commit("Plain", **{"src/pattern.h": "#pragma once\n"})
    with pytest.raises(Reject, match=r"no pattern.h with a `struct pattern_description` beside src/"):
        await run("generate_pattern", repository=sample.url, commit="main", pattern=CHASE)
    with pytest.raises(Reject, match="c3-mine"):
        await run(
            "generate_pattern", repository=sample.url, commit="main", pattern=CHASE, environment="c3-mine"
        )


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("xyz")), min_size=1, max_size=3, unique=True)
)
def test_a_build_is_named_by_its_commit_and_files_in_whatever_order(pairs: list[tuple[str, str]]) -> None:
    overlay = [OverlayFile(path=path, sha256=sha256) for path, sha256 in pairs]
    name = name_build("c" * 40, overlay)
    assert name == name_build("c" * 40, overlay[::-1])
    assert name not in {name_build("c" * 40, overlay[1:]), name_build("d" * 40, overlay), "c" * 40}
    assert len(name) == 40
    assert name_build("c" * 40, []) == "c" * 40


@pytest.mark.parametrize(
    ("short", "found"),
    [
        ({}, True),
        ({"first": 1}, False),
        ({"leds": 1}, False),
        ({"code_end": 1}, False),
        ({"code": -1}, False),
    ],
)
def test_a_pattern_that_lies_in_the_image_to_its_last_byte_is_found(
    short: dict[str, int], found: bool
) -> None:
    """The frames end where the first segment ends, the code is the second segment."""
    image = build_image("1234567", chip="ESP32C3")
    data, code = parse_image(image).segments
    given = {
        "leds": 4, "frames": 2, "first": data.address + data.length - 24,
        "code": code.address, "code_end": code.address + code.length,
    }  # fmt: skip
    at = data.offset + 180
    described = [given[name] + short.get(name, 0) for name in given]
    image = image[:at] + struct.pack("<8s16sIIIII", b"PODIUMLP", b"chase", *described) + image[at + 44 :]
    shown = find_pattern(image, parse_image(image))
    assert (shown is not None) is found
    if shown:
        colours = image[data.offset + data.length - 24 : data.offset + data.length]
        assert (shown.name, shown.checksum) == ("chase", hashlib.sha256(colours).hexdigest())


@given(st.binary(min_size=44, max_size=44), st.integers(0, 2**32 - 1))
def test_a_description_that_leads_nowhere_is_no_pattern(rest: bytes, seed: int) -> None:
    image = build_image("1234567", chip="ESP32C3", seed=seed)
    data = image.replace(image[600:652], b"PODIUMLP" + rest)
    assert find_pattern(data, parse_image(data)) is None
