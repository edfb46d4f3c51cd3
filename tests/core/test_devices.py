"""What is made of a device's answers: laws over any answers in any order."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podium.api.v1alpha1.device import Reported
from podium.api.v1alpha1.device_model import Health, HealthFields
from podium.core.devices.allowance import EVERY, MOST, Allowance
from podium.core.devices.answers import parse_answer
from podium.core.devices.watch import Expected, Watch, expect, normal_chip, note, parse_size, patience
from podium.ports import DeviceAnswer, NoAnswer
from podium_workers.services.device_api import NoHealth, parse_health

NOW = datetime(2026, 1, 1, tzinfo=UTC)
MAC = "aa:bb:cc:00:04:21"
EXPECTED = expect(MAC, "ESP32-S3", Health(min_free_heap="50Ki"))
GOOD = DeviceAnswer("9f1c2ab", MAC, "ESP32S3", free_heap=180_000)
LOW = replace(GOOD, free_heap=41 * 1024)
STRANGER = replace(GOOD, mac="02:00:00:00:00:99", build="theirs")
SILENCE = NoAnswer("Nobody", "http://10.1.4.21/api/health: no connection within 3 s")
REFUSED = NoAnswer("HttpError", "http://10.1.4.21/api/health answered with status 500")
GARBAGE = NoAnswer("Unreadable", "no JSON")
ANSWERS = st.sampled_from([GOOD, LOW, STRANGER, SILENCE, REFUSED, GARBAGE])


def watched(*answers: DeviceAnswer | NoAnswer, every: float = 30, expected: Expected = EXPECTED) -> Watch:
    watch = Watch(NOW)
    for number, answer in enumerate(answers):
        watch = note(watch, answer, expected, NOW + timedelta(seconds=every * number))
    return watch


def test_the_first_answer_says_it_all() -> None:
    verdict = watched(GOOD).verdict
    assert (verdict.connectivity, verdict.healthy, verdict.build) == ("Online", "True", "9f1c2ab")


@pytest.mark.parametrize(
    ("answers", "connectivity", "online", "healthy"),
    [
        ([GOOD, SILENCE], "Online", "Answering", "Healthy"),
        ([GOOD, SILENCE, SILENCE], "Online", "Answering", "Healthy"),
        ([GOOD, SILENCE, SILENCE, SILENCE], "Offline", "NoAnswer", "NotSeen"),
        ([SILENCE], "Unknown", "NotAsked", "NotSeen"),
        ([SILENCE] * 4, "Offline", "NoAnswer", "NotSeen"),
        ([GOOD, STRANGER], "Online", "Answering", "Healthy"),
        ([GOOD, STRANGER, STRANGER], "Offline", "AnotherDevice", "NotSeen"),
        ([GOOD, STRANGER, GOOD, STRANGER], "Online", "Answering", "Healthy"),
        ([GOOD, REFUSED, REFUSED], "Online", "Answering", "Healthy"),
        ([GOOD, REFUSED, REFUSED, REFUSED], "Unknown", "HealthRefused", "NotSeen"),
        ([GOOD, GARBAGE, GARBAGE, GARBAGE], "Unknown", "AnswerUnreadable", "NotSeen"),
        ([LOW], "Online", "Answering", "LowHeap"),
        ([GOOD, LOW, LOW], "Online", "Answering", "Healthy"),
        ([GOOD, LOW, LOW, LOW], "Online", "Answering", "LowHeap"),
        ([GOOD, LOW, LOW, LOW, GOOD, GOOD], "Online", "Answering", "LowHeap"),
        ([GOOD, LOW, LOW, LOW, GOOD, GOOD, GOOD], "Online", "Answering", "Healthy"),
        ([GOOD, REFUSED, STRANGER], "Online", "Answering", "Healthy"),
        ([GOOD, *[REFUSED, STRANGER] * 2], "Offline", "NoAnswer", "NotSeen"),
        ([REFUSED, SILENCE, REFUSED, SILENCE], "Offline", "NoAnswer", "NotSeen"),
        ([GOOD, *[REFUSED] * 4, SILENCE], "Unknown", "HealthRefused", "NotSeen"),
        ([GOOD, *[SILENCE] * 4, GOOD], "Online", "Answering", "Healthy"),
    ],
)
def test_one_lost_answer_is_no_outage_and_one_bad_value_no_illness(
    answers: list[Any], connectivity: str, online: str, healthy: str
) -> None:
    verdict = watched(*answers).verdict
    assert (verdict.connectivity, verdict.online_reason, verdict.healthy_reason) == (
        connectivity,
        online,
        healthy,
    )


BAD = st.sampled_from([STRANGER, SILENCE, REFUSED, GARBAGE])


@given(st.lists(ANSWERS, max_size=10), st.lists(BAD, min_size=4, max_size=20))
def test_without_a_good_answer_it_does_not_stay_online(before: list[Any], bad: list[Any]) -> None:
    assert watched(*before, *bad).verdict.connectivity != "Online"


@given(st.timedeltas(timedelta(0), timedelta(days=30)), BAD)
def test_one_bad_answer_after_a_long_pause_is_no_outage(pause: timedelta, bad: Any) -> None:
    once = note(watched(GOOD), bad, EXPECTED, NOW + pause)
    assert once.verdict == watched(GOOD).verdict


def test_two_lost_answers_after_a_long_pause_are_one() -> None:
    once = note(watched(GOOD), SILENCE, EXPECTED, NOW + timedelta(days=1))
    twice = note(once, SILENCE, EXPECTED, NOW + timedelta(days=1, seconds=30))
    assert twice.verdict.connectivity == "Offline"


def test_a_clock_that_is_set_back_does_not_keep_it_online() -> None:
    watch = watched(GOOD)
    for number in range(5):
        watch = note(watch, SILENCE, EXPECTED, NOW - timedelta(days=1) + timedelta(seconds=30 * number))
    assert watch.verdict.connectivity == "Offline"


def test_the_words_follow_the_checks_that_fail_but_not_at_each_look() -> None:
    wifi, card = replace(GOOD, failed_checks=("wifi",)), replace(GOOD, failed_checks=("sdcard",))
    assert watched(wifi, card, card).verdict == watched(wifi).verdict
    assert watched(wifi, card, card, card).verdict.healthy_message == "its own checks fail: sdcard"
    assert watched(wifi, *[card, wifi] * 9).verdict == watched(wifi).verdict


@given(st.lists(ANSWERS, max_size=30))
def test_the_word_of_a_stranger_is_never_taken(answers: list[Any]) -> None:
    assert watched(*answers).verdict.build in ("", GOOD.build)


@given(st.lists(ANSWERS, max_size=30), st.sampled_from([SILENCE, REFUSED, GARBAGE, STRANGER, LOW, GOOD]))
def test_what_stays_the_same_settles(answers: list[Any], last: Any) -> None:
    # The same answer again and again: after a few looks nothing is left to write.
    some = watched(*answers, *[last] * 8)
    assert watched(*answers, *[last] * 9).verdict == some.verdict


@given(st.integers(30, 49), st.lists(st.integers(1, 49), max_size=20))
def test_a_number_that_moves_is_not_written_anew(first: int, others: list[int]) -> None:
    lows = [replace(GOOD, free_heap=kib * 1024) for kib in (first, *others)]
    assert watched(*lows).verdict == watched(lows[0]).verdict


@given(st.lists(st.floats(0, 3600), max_size=60))
def test_no_device_is_written_more_often_than_allowed(pauses: list[float]) -> None:
    now, allowance, written = NOW, Allowance.full(NOW), []
    for pause in pauses:
        now += timedelta(seconds=pause)
        if not allowance.wait(now):
            allowance = allowance.spend(now)
            written.append(now)
    for index, begin in enumerate(written):
        for count, end in enumerate(written[index:], start=1):
            assert count <= MOST + (end - begin) / EVERY + 1e-6


@given(st.integers(0, 5))
def test_a_wait_is_long_enough(spent: int) -> None:
    allowance = Allowance.full(NOW)
    for _ in range(spent):
        allowance = allowance.spend(NOW)
    later = NOW + allowance.wait(NOW)
    assert allowance.wait(later) <= timedelta(microseconds=1)


@given(st.integers(0, 5), st.timedeltas(timedelta(days=-400), timedelta(days=400)))
def test_no_step_of_the_clock_blocks_writes_for_long(spent: int, step: timedelta) -> None:
    allowance = Allowance.full(NOW)
    for _ in range(spent):
        allowance = allowance.spend(NOW)
    assert allowance.wait(NOW + step) <= 2 * EVERY


@given(st.binary(max_size=200))
def test_any_bytes_are_an_answer_or_none(body: bytes) -> None:
    assert isinstance(parse_answer(body, HealthFields()), DeviceAnswer | NoAnswer)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=8,
)
PAGES = st.fixed_dictionaries(
    {},
    optional={
        "build": st.text(max_size=20) | JSON,
        "mac": st.sampled_from(["AA-BB-CC-00-04-21", "AABBCC000421", MAC]) | JSON,
        "chip": st.text(max_size=8) | JSON,
        "heap_free": st.integers() | st.floats() | st.integers(0, 2**20).map(float) | JSON,
        "partition": JSON,
        "ota_state": st.sampled_from(["valid", "PendingVerify", "ESP_OTA_IMG_PENDING_VERIFY"]) | JSON,
        "checks": st.lists(st.fixed_dictionaries({"name": st.text(max_size=5), "ok": st.booleans()})) | JSON,
    },
)


@given(PAGES)
def test_the_operator_and_the_workers_read_the_same(page: Any) -> None:
    body = json.dumps(page).encode()
    ours, theirs = parse_answer(body, HealthFields()), parse_health(body, {})
    if isinstance(theirs, NoHealth):
        assert isinstance(ours, NoAnswer)
        assert ours.kind == theirs.kind
        return
    assert isinstance(ours, DeviceAnswer)

    def clean(text: str | None, most: int = 64) -> str | None:
        return text.encode("utf-8", "replace").decode()[:most] if text is not None else None

    assert ours.build == clean(theirs.build)
    assert ours.mac == (clean(theirs.mac) or None)
    # The operator shows what the device writes; the workers compare it.
    assert (normal_chip(ours.chip) if ours.chip else None) == clean(theirs.chip)
    assert ours.free_heap == theirs.free_heap
    assert ours.partition == clean(theirs.partition, 32)
    if theirs.ota_state in ("pending_verify", "valid"):
        assert letters_of(ours.ota_state).removeprefix("espotaimg") == letters_of(theirs.ota_state)


def letters_of(state: str | None) -> str:
    return "".join(letter for letter in (state or "").lower() if letter.isalnum())


def test_what_it_runs_fits_into_its_status() -> None:
    answer = parse_answer(
        json.dumps({"build": "b" * 200, "partition": "p" * 40, "ota_state": "s" * 40}).encode(),
        HealthFields(),
    )
    assert isinstance(answer, DeviceAnswer)
    Reported(
        build=answer.build,
        partition=answer.partition,
        ota_state=answer.ota_state,
        observed_at="2026-01-01T00:00:00Z",
    )


@pytest.mark.parametrize(
    ("said", "size"),
    [
        ("180000", 180_000),
        ("180000.0", 180_000),
        ("0", 0),
        ("180000.5", None),
        ("-1", None),
        ("true", None),
        ("1e400", None),
        ("NaN", None),
        ('"180000"', None),
        (str(2**63), None),
        ("9" * 400, None),
    ],
)
def test_sizes_that_no_board_can_have_are_not_judged(said: str, size: int | None) -> None:
    answer = parse_answer(b'{"build": "b", "heap_free": %s}' % said.encode(), HealthFields())
    assert isinstance(answer, DeviceAnswer)
    assert answer.free_heap == size
    assert watched(answer).verdict.online == "True"


@pytest.mark.parametrize(
    "said", ["AABBCC000421", "AA-BB-CC-00-04-21", "aabb.cc00.0421", "aa:bb:cc:00:04:21", "AA BB CC 00 04 21"]
)
def test_a_mac_is_the_same_however_it_is_written(said: str) -> None:
    answer = parse_answer(json.dumps({"build": "b", "mac": said}).encode(), HealthFields())
    assert isinstance(answer, DeviceAnswer)
    assert answer.mac == MAC
    assert watched(answer, answer).verdict.connectivity == "Online"


@pytest.mark.parametrize(
    ("text", "size"), [("912384", 912384), ("50Ki", 51200), ("3M", 3_000_000), ("2Mi", 2**21)]
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    ("timeout", "seconds"), [("3s", 3), ("500ms", 0.5), ("30s", 30), ("0s", 30), ("0.0h", 30), ("999h", 30)]
)
def test_asking_always_ends(timeout: str, seconds: float) -> None:
    assert patience(Health(timeout=timeout)).total_seconds() == seconds
