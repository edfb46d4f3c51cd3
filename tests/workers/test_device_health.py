"""What answers of a device after an update mean: in tables, and as laws."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from podium_workers.firmware.health import (
    Confirm,
    Expectation,
    Healthy,
    Probe,
    Undecided,
    Unhealthy,
    Wait,
    decide_health,
)
from podium_workers.services.device_api import (
    DeviceApi,
    Health,
    HealthPage,
    NoHealth,
    find_value,
    parse_health,
)

COMMIT, NEW, OLD = "9f1c2ab0c3d4e5f60718293a4b5c6d7e8f901234", "9f1c2ab", "71be003"
MAC = "aa:bb:cc:00:04:21"
BEFORE = Health(OLD, mac=MAC, uptime=90_000, boot_count=7, free_heap=150_000, ota_state="valid")
WANTED = Expectation(COMMIT, sent_at=1000.0, before=BEFORE, before_at=990.0, mac=MAC)
GOOD = Health(
    NEW, mac=MAC, uptime=10, boot_count=8, free_heap=120_000, largest_block=60_000, ota_state="valid"
)
BACK = replace(BEFORE, uptime=10, boot_count=9)
NOBODY = NoHealth("Nobody", "no connection")
SLOW = NoHealth("TooSlow", "no answer")


def decide(*answers, wanted=WANTED, every=5.0, after=None, confirmed=False):
    """The decision after these answers, five seconds apart."""
    probes = [Probe(wanted.sent_at + every * n, answer) for n, answer in enumerate(answers, start=1)]
    now = wanted.sent_at + after if after is not None else (probes[-1].at if probes else wanted.sent_at)
    return decide_health(probes, wanted, now, confirmed=confirmed)


def late(*answers, **more):
    """The same when the time is over."""
    return decide(*answers, after=181.0, **more)


def test_three_good_answers_in_a_row_and_no_fewer():
    assert isinstance(decide(), Wait)
    assert isinstance(decide(GOOD, GOOD), Wait)
    assert isinstance(decide(NOBODY, GOOD, GOOD, GOOD), Healthy)
    assert isinstance(decide(GOOD, GOOD, NOBODY, GOOD), Wait)
    assert isinstance(decide(GOOD, GOOD, NOBODY, GOOD, GOOD, GOOD), Healthy)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (replace(GOOD, free_heap=50 * 1024), "LowHeap"),
        (replace(GOOD, largest_block=16 * 1024), "FragmentedHeap"),
        (replace(GOOD, failed_checks=("leds",)), "ChecksFailed"),
        (replace(GOOD, build=f"{NEW}-dirty"), "DirtyBuild"),
        (replace(GOOD, build="1234567"), "WrongBuild"),
        (replace(BACK, boot_count=8, reset_reason="software"), "StuckOldVersion"),
        (replace(BACK, boot_count=9), "RolledBack"),
        (replace(BACK, boot_count=8, reset_reason="panic"), "RolledBack"),
        (replace(BACK, boot_count=None, reset_reason="task_wdt"), "RolledBack"),
        (replace(BACK, boot_count=None, reset_reason="software"), "StuckOldVersion"),
    ],
)
def test_a_fault_decides_when_it_was_seen_in_a_row(answer, reason):
    wanted = replace(WANTED, min_largest_block=16 * 1024)
    assert isinstance(decide(answer, answer, wanted=wanted), Wait)
    decision = decide(answer, answer, answer, wanted=wanted)
    assert isinstance(decision, Unhealthy)
    assert decision.reason == reason


def test_one_byte_more_than_the_limit_is_enough():
    assert isinstance(decide(*[replace(GOOD, free_heap=50 * 1024 + 1)] * 3), Healthy)


def test_a_device_that_goes_on_with_its_old_build_gets_time_to_restart():
    same = replace(BEFORE, uptime=90_020)
    assert isinstance(decide(*[same] * 5), Wait)
    decision = decide(*[same] * 6)
    assert isinstance(decision, Unhealthy)
    assert decision.reason == "NotRestarted"


@pytest.mark.parametrize("answer", [replace(BEFORE, uptime=90_020), replace(BACK, boot_count=8)])
def test_an_unknown_transfer_that_changed_nothing_was_not_taken(answer):
    decision = decide(*[answer] * 6, wanted=replace(WANTED, taken=False))
    assert isinstance(decision, Unhealthy)
    assert decision.reason == "NotTaken"


def test_an_unknown_transfer_that_runs_the_new_build_succeeded():
    assert isinstance(decide(*[GOOD] * 3, wanted=replace(WANTED, taken=False)), Healthy)


def test_an_old_build_after_the_new_one_was_seen_is_a_rollback():
    back = replace(BACK, boot_count=None, reset_reason=None)
    decision = decide(GOOD, NOBODY, back, back, back)
    assert isinstance(decision, Unhealthy)
    assert decision.reason == "RolledBack"


def test_an_uptime_that_wraps_is_no_restart():
    wrapped = replace(BEFORE, uptime=3)
    decision = decide(*[wrapped] * 6)
    assert isinstance(decision, Unhealthy)
    assert decision.reason == "NotRestarted"


def test_the_same_commit_sent_again_counts_only_after_a_restart():
    wanted = replace(WANTED, before=replace(BEFORE, build=NEW))
    assert isinstance(decide(*[replace(BEFORE, build=NEW, uptime=90_020)] * 6, wanted=wanted), Unhealthy)
    assert isinstance(decide(*[GOOD] * 3, wanted=wanted), Healthy)


def test_a_firmware_that_waits_for_confirmation_is_confirmed_and_then_looked_at_again():
    pending = replace(GOOD, ota_state="pending_verify")
    assert isinstance(decide(pending, pending), Wait)
    assert isinstance(decide(pending, pending, pending), Confirm)
    assert isinstance(decide(pending, pending, pending, confirmed=True), Wait)
    assert isinstance(decide(pending, pending, pending, GOOD, confirmed=True), Healthy)
    decision = late(*[pending] * 36, confirmed=True)
    assert isinstance(decision, Undecided)
    assert decision.reason == "Unconfirmed"


def test_a_firmware_that_crashes_again_and_again_after_it_answered_is_a_boot_loop():
    crashing = [replace(GOOD, boot_count=count, reset_reason="panic") for count in (8, 9, 10)]
    decision = decide(crashing[0], NOBODY, crashing[1], NOBODY, crashing[2])
    assert isinstance(decision, Unhealthy)
    assert decision.reason == "BootLoop"
    switched = [replace(answer, reset_reason="power_on") for answer in crashing]
    assert isinstance(decide(switched[0], NOBODY, switched[1], NOBODY, switched[2]), Wait)


def test_restarts_in_between_are_no_row():
    assert isinstance(decide(GOOD, GOOD, replace(GOOD, boot_count=9)), Wait)


@pytest.mark.parametrize(
    ("answers", "wanted", "reason"),
    [
        ([NOBODY] * 9, WANTED, "NeverCameBack"),
        ([], WANTED, "NeverCameBack"),
        ([NOBODY] * 9, replace(WANTED, before=None), "NoHealthApi"),
        ([SLOW] * 9, WANTED, "HealthTooSlow"),
        ([NoHealth("HttpError", "500")] * 9, replace(WANTED, before=None), "HealthError"),
        ([NoHealth("Unreadable", "no JSON")] * 9, WANTED, "HealthUnreadable"),
        ([replace(GOOD, free_heap=None)] * 9, WANTED, "HeapNotReported"),
        ([replace(GOOD, mac="02:00:00:00:00:01")] * 3, WANTED, "OtherDevice"),
        ([GOOD, *[NOBODY] * 9], WANTED, "WentSilent"),
        ([BEFORE, NOBODY, GOOD, *[NOBODY] * 9], WANTED, "WentSilent"),
        ([GOOD, NOBODY, GOOD, NOBODY], WANTED, "Unsteady"),
        ([GOOD, NOBODY] * 9 + [GOOD], WANTED, "Unsteady"),
    ],
)
def test_what_cannot_be_said_has_its_reason_too(answers, wanted, reason):
    decision = late(*answers, wanted=wanted)
    assert isinstance(decision, Undecided)
    assert decision.reason == reason


def test_a_new_firmware_that_takes_connections_and_answers_no_more_hangs():
    decision = late(GOOD, SLOW, SLOW, SLOW)
    assert isinstance(decision, Unhealthy)
    assert decision.reason == "Hangs"


ANSWERS = st.sampled_from(
    [
        GOOD,
        BEFORE,
        BACK,
        NOBODY,
        SLOW,
        NoHealth("HttpError", "500"),
        replace(GOOD, free_heap=1000),
        replace(GOOD, boot_count=9, reset_reason="panic"),
        replace(GOOD, ota_state="pending_verify"),
        replace(GOOD, mac="02:00:00:00:00:01"),
        replace(GOOD, build=f"{NEW}-dirty"),
    ]
)


@given(st.lists(ANSWERS, max_size=40), st.booleans(), st.booleans(), st.booleans())
def test_healthy_is_said_only_after_good_answers_in_a_row(answers, known, taken, confirmed):
    wanted = replace(WANTED, before=BEFORE if known else None, taken=taken)
    decision = decide(*answers, wanted=wanted, confirmed=confirmed)
    if isinstance(decision, Healthy):
        assert len({answer.boot_count for answer in answers[-3:]}) == 1
        for answer in answers[-3:]:
            assert answer.build == NEW
            assert answer.free_heap > 50 * 1024
        assert answers[-1].ota_state == "valid"


@given(st.lists(ANSWERS, min_size=1, max_size=40), st.booleans())
def test_there_is_an_end(answers, confirmed):
    assert not isinstance(late(*answers, confirmed=confirmed), Wait | Confirm)


@given(st.lists(st.sampled_from([NOBODY, SLOW]), max_size=40))
def test_silence_is_never_called_a_failure(answers):
    assert not isinstance(late(*answers), Unhealthy | Healthy)


def test_fields_of_a_health_page_can_be_elsewhere():
    page = b'{"sys": {"app": "9f1c2ab"}, "mem": {"heap": [70000, 20000]}, "mac": "AA-BB-CC-00-04-21"}'
    health = parse_health(
        page, {"build": ".sys.app", "freeHeap": ".mem.heap[0]", "largestBlock": "mem.heap[1]"}
    )
    assert health == Health("9f1c2ab", mac=MAC, free_heap=70000, largest_block=20000)


@pytest.mark.parametrize("chip", ["ESP32S3", "ESP32-S3", "esp32s3"])
@pytest.mark.parametrize("mac", [MAC, "AA-BB-CC-00-04-21", "aabbcc000421"])
def test_chip_and_mac_are_read_in_one_form(chip, mac):
    health = parse_health(json.dumps({"build": "x", "chip": chip, "mac": mac}).encode(), {})
    assert health == Health("x", chip="ESP32S3", mac=MAC)


@pytest.mark.parametrize(
    "state",
    [
        "pending_verify", "PendingVerify", "PENDING_VERIFY", "pending-verify", "Pending verify",
        "ESP_OTA_IMG_PENDING_VERIFY",
    ],
)  # fmt: skip
def test_a_firmware_that_waits_is_not_healthy_however_its_state_is_written(state):
    page = {"build": NEW, "heap_free": 120_000, "uptime_s": 10, "boot_count": 8, "ota_state": state}
    pending = parse_health(json.dumps(page).encode(), {})
    assert isinstance(decide(pending, pending, pending), Confirm)
    for valid in ("Valid", "ESP_OTA_IMG_VALID", "undefined"):
        well = parse_health(json.dumps({**page, "ota_state": valid}).encode(), {})
        assert isinstance(decide(well, well, well), Healthy)


@pytest.mark.parametrize(
    "page", [b"", b"<html>", b"[]", b"null", b'{"build": 5}', b'{"build": ""}', b"[" * 100_000, b"\xff"]
)
def test_a_page_without_a_build_is_unreadable(page):
    answer = parse_health(page, {})
    assert isinstance(answer, NoHealth)
    assert answer.kind == "Unreadable"


def test_numbers_that_are_none_are_left_out():
    health = parse_health(
        b'{"build": "x", "heap_free": true, "uptime_s": "7", "checks": [1, {"ok": false}]}', {}
    )
    assert health == Health("x", failed_checks=("None",))


@given(st.floats() | st.integers(), st.floats() | st.integers())
def test_no_number_breaks_the_reading(heap, uptime):
    health = parse_health(json.dumps({"build": "x", "heap_free": heap, "uptime_s": uptime}).encode(), {})
    assert isinstance(health, Health)
    assert (health.free_heap or 0) >= 0
    assert (health.uptime or 0) >= 0


async def test_a_page_that_comes_in_parts_is_read_whole():
    async def page(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        for part in (b'{"build": ', b'"9f1c2ab", ', b'"heap_free": 70000.0}'):
            await answer.write(part)
            await asyncio.sleep(0.02)
        return answer

    application = web.Application()
    application.router.add_get("/api/health", page)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        async with DeviceApi() as api:
            found = await api.probe(HealthPage("127.0.0.1", runner.addresses[0][1]))
    finally:
        await runner.cleanup()
    assert found == Health("9f1c2ab", free_heap=70000)


@given(
    st.recursive(
        st.none() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_looking_for_a_value_never_breaks(document):
    find_value(document, ".a.b[0].c")
