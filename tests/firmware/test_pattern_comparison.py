"""What is said of a pattern's numbers: better, worse, missing; and the report of it."""

import json
import math
import re
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import podium_workers.patterns  # noqa: F401 - registers the tasks
from podium_workers import Reject
from podium_workers.patterns.comparison import Baseline, compare
from podium_workers.patterns.validation import PatternRef, find_complaint, measure
from podium_workers.services.artifacts import open_store
from podium_workers.services.device_api import Health, NoHealth
from podium_workers.services.shelves import FolderShelf
from support.firmware import Run

BUILD = "9f1c2ab0c3d4e5f60718293a4b5c6d7e8f901234"
PATTERN = {"name": "chase", "checksum": "ab" * 32, "parameters": {"kind": "chase", "leds": 60, "frames": 30}}
GOOD = {"frameMicros": 10.0, "freeHeap": 100_000}
HEALTH = {"verdict": "Healthy", "healthy": True, "reason": "", "message": "well", "measured": GOOD}
positive = st.floats(0.001, 1e6)


def verdicts(frame: Any, heap: Any, allowed: float, baseline: Baseline | None) -> tuple[bool, bool]:
    first, second = compare({"frameMicros": frame, "freeHeap": heap}, baseline, allowed)
    return first.passed, second.passed


@given(positive, st.integers(1, 10**6), positive, st.integers(1, 10**6), st.floats(0, 100))
def test_only_what_is_worse_by_more_than_allowed_fails(
    frame: float, heap: int, frame_before: float, heap_before: int, allowed: float
) -> None:
    before = Baseline(frameMicros=frame_before, freeHeap=heap_before)
    slower, less = verdicts(frame, heap, allowed, before)
    assert slower is (100 * (frame - frame_before) <= allowed * frame_before)
    assert less is (100 * (heap_before - heap) <= allowed * heap_before)
    # Better never fails, whatever is allowed.
    if frame <= frame_before:
        assert slower
    if heap >= heap_before:
        assert less


@given(
    st.one_of(
        st.none(), st.text(), st.booleans(), st.just(math.nan), st.floats(max_value=0), st.lists(positive)
    )
)
def test_what_is_missing_or_no_number_never_passes(value: Any) -> None:
    for baseline in (None, Baseline(frameMicros=10, freeHeap=100_000)):
        assert verdicts(value, value, 1e9, baseline) == (False, False)
        assert [item.passed for item in compare({}, baseline, 1e9)] == [False, False]


async def compared(run: Run, health: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    given: dict[str, Any] = {"pattern": PATTERN, "environment": "c3-mini", "health": health or HEALTH, **more}
    return dict(await run("compare_pattern", **given))


def numbers(**changed: Any) -> dict[str, Any]:
    return {**HEALTH, "measured": {**GOOD, **changed}}


async def test_the_first_run_makes_the_baseline_and_later_ones_are_held_against_it(
    run: Run, another_run: Any
) -> None:
    first = await compared(run)
    assert (first["verdict"], first["baselineMade"], first["baseline"]) == ("pass", True, None)
    second = another_run("run-2")
    same = await compared(second, numbers(frameMicros=10.9))
    assert (same["verdict"], same["baselineMade"]) == ("pass", False)
    assert same["baseline"]["frameMicros"] == 10.0
    worse = await compared(second, numbers(frameMicros=11.1))
    assert worse["verdict"] == "fail"
    assert worse["reason"] == "frame time 11.1 µs, 11.0 % worse than 10, at most 10 % worse"
    less = await compared(second, numbers(freeHeap=89_000))
    assert less["reason"] == "free heap 89000 bytes, 11.0 % worse than 100000, at most 10 % worse"
    assert (await compared(second, numbers(frameMicros=11.1), allowedRegression=12))["verdict"] == "pass"
    # Another pattern, environment or repository has another baseline.
    for other in (
        {"environment": "c3-devkit"},
        {"repository": "https://git.example/other"},
        {"pattern": {**PATTERN, "parameters": {"kind": "solid"}}},
    ):
        assert (await compared(second, numbers(frameMicros=99.0), **other))["baselineMade"]
    renewed = await compared(second, numbers(frameMicros=20.0), newBaseline=True)
    assert (renewed["verdict"], renewed["baselineMade"]) == ("pass", True)
    assert (await compared(another_run("run-3"), numbers(frameMicros=21.0)))["verdict"] == "pass"


async def test_a_task_that_is_delivered_twice_makes_its_baseline_twice(run: Run) -> None:
    assert await compared(run) == await compared(run)


@pytest.mark.parametrize(
    ("health", "words"),
    [
        (numbers(frameMicros=None), "frame time is missing: the device did not say it"),
        (numbers(freeHeap=None), "free heap is missing: the device did not say it"),
        ({"healthy": True}, "frame time is missing"),
        (
            {**HEALTH, "healthy": False, "reason": "LowHeap", "message": "free heap 40 KiB"},
            r"the device is not healthy with it \(LowHeap\): free heap 40 KiB",
        ),
    ],
)
async def test_missing_numbers_and_sick_devices_make_no_baseline(
    run: Run, another_run: Any, health: dict[str, Any], words: str
) -> None:
    for found in (await compared(run, health), await compared(run, health, newBaseline=True)):
        assert (found["verdict"], found["baselineMade"]) == ("fail", False)
        assert re.match(words, found["reason"])
    assert (await compared(another_run("run-2")))["baselineMade"]
    assert (await compared(another_run("run-3"), health))["verdict"] == "fail"


@pytest.mark.parametrize(
    "record",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b'{"frameMicros": 0, "freeHeap": 100000}',
        b'{"frameMicros": NaN, "freeHeap": 100000}',
        b'{"frameMicros": 10, "freeHeap": "much"}',
    ],
)
async def test_a_damaged_baseline_fails_until_it_is_made_anew(
    run: Run, another_run: Any, record: bytes
) -> None:
    first = await compared(run)
    shelf = FolderShelf(run.context.data_dir / "artifacts")
    shelf.write(f"records/pattern-baseline/{first['baselineKey']}/baseline.json", record)
    later = another_run("run-2")
    found = await compared(later)
    assert (found["verdict"], found["baselineMade"]) == ("fail", False)
    assert re.match(
        r"the baseline cannot be used, run it again with `newBaseline: true` \(.*: .+\)", found["reason"]
    )
    assert (await compared(later, newBaseline=True))["baselineMade"]
    assert (await compared(another_run("run-3")))["verdict"] == "pass"


@pytest.mark.parametrize("allowed", [-1, math.nan, math.inf])
async def test_an_allowed_regression_that_is_no_percentage_is_refused(run: Run, allowed: float) -> None:
    with pytest.raises(Reject, match=r"allowedRegression: .* is no percentage"):
        await compared(run, allowedRegression=allowed)


def said(**changed: Any) -> Health:
    given: dict[str, Any] = {
        "build": BUILD, "free_heap": 100_000, "pattern": "chase",
        "pattern_checksum": "ab" * 32, "frame_micros": 10.0,
    }  # fmt: skip
    return Health(**{**given, **changed})


def test_the_middle_frame_time_and_the_least_heap_count() -> None:
    answers = [said(frame_micros=9.0), said(frame_micros=30.0, free_heap=90_000), said(frame_micros=10.0)]
    assert measure(answers) == {"frameMicros": 10.0, "freeHeap": 90_000, "samples": 3}
    nothing = {"frameMicros": None, "freeHeap": None}
    assert measure([]) == {**nothing, "samples": 0}
    assert measure([said(frame_micros=None, free_heap=None)]) == {**nothing, "samples": 1}


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (said(), None),
        (NoHealth("Nobody", "no connection"), "Nobody"),
        (said(build="71be003"), "OtherBuild"),
        (said(pattern=None), "NoPattern"),
        (said(pattern_checksum=None), "NoPattern"),
        (said(pattern="solid"), "OtherPattern"),
        (said(pattern_checksum="cd" * 32), "OtherPattern"),
    ],
)
def test_any_answer_of_something_else_is_a_complaint(answer: Any, reason: str | None) -> None:
    found = find_complaint([said(), answer, said()], BUILD, PatternRef(**PATTERN))
    assert (found[0] if found else None) == reason


class Page(HTMLParser):
    """Which tags a page has, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


async def reported(run: Run, comparison: dict[str, Any], **more: Any) -> tuple[dict[str, Any], str]:
    """The JSON and the page."""
    given: dict[str, Any] = {"pattern": PATTERN, "comparison": comparison, "environment": "c3-mini", **more}
    found = await run("report_pattern", **given)
    store = open_store(run.context.data_dir)
    page = store.get(found["report"]["html"]["sha256"]).decode()
    return json.loads(store.get(found["report"]["json"]["sha256"])), page


async def test_a_report_says_and_shows_what_was_found(run: Run, another_run: Any) -> None:
    document, page = await reported(run, await compared(run), build=BUILD, health=HEALTH)
    assert (document["verdict"], document["baselineMade"], document["build"]) == ("pass", True, BUILD)
    assert "These numbers are the baseline now." in Page(page).text
    worse = await compared(another_run("run-2"), numbers(frameMicros=20.0))
    document, page = await reported(run, worse)
    assert document["comparisons"][0]["worse_percent"] == 100
    found = Page(page)
    assert "svg" in found.tags
    assert "<?xml" not in page
    assert "chase on c3-mini: fail" in found.text
    assert "frame time 20 µs, 100.0 % worse than 10, at most 10 % worse" in found.text
    # Both bars, with their colours.
    assert {"#9aa7b2", "#c0392b", "#2a9d4e"} <= set(re.findall(r"#[0-9a-f]{6}", page))
    missing = await compared(another_run("run-3"), {"healthy": False})
    document, page = await reported(run, missing)
    assert document["verdict"] == "fail"
    assert "missing" in Page(page).text


async def test_a_report_is_the_same_for_the_same_and_is_kept_by_a_prune(run: Run) -> None:
    comparison = await compared(run)
    given = {"pattern": PATTERN, "comparison": comparison, "environment": "c3-mini"}
    first = await run("report_pattern", **given)
    assert first == await run("report_pattern", **given)
    store = open_store(run.context.data_dir)
    store.prune([], 1, young_seconds=-1)
    assert all(store.has(file["sha256"]) for file in first["report"].values())
    assert (await compared(run))["verdict"] == "pass"


async def test_what_comes_from_outside_is_escaped(run: Run) -> None:
    comparison = {**await compared(run), "reason": "<script>alert(1)</script>"}
    evil = {**PATTERN, "name": "<b>chase"}
    _, page = await reported(run, comparison, pattern=evil, repository="<img src=x>", environment="<i>")
    assert not {"script", "img", "b", "i"} & set(Page(page).tags) - {"image"}
    assert "<script>alert(1)</script>" in Page(page).text


@pytest.mark.parametrize(
    ("comparison", "pattern", "words"),
    [
        ({}, PATTERN, "comparison: not what compare_pattern returns"),
        ({"verdict": "fine", "baselineKey": "ab" * 20}, PATTERN, "comparison: not what compare_pattern"),
        (
            {"verdict": "pass", "baselineKey": "ab" * 20},
            {**PATTERN, "parameters": {"kind": "chase", "leds": -1}},
            "pattern: its parameters are not those of a pattern",
        ),
    ],
)
async def test_a_report_of_something_else_is_refused(
    run: Run, comparison: dict[str, Any], pattern: dict[str, Any], words: str
) -> None:
    with pytest.raises(Reject, match=words):
        await run("report_pattern", pattern=pattern, comparison=comparison, environment="c3-mini")
