"""Schedules: which times they have, which runs they make, and where they stand."""

import difflib
import errno
import zoneinfo
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from podium.core.conditions import Word, json_bytes
from podium.core.definitions import check_workflow, lint_workflow
from podium.core.durations import format_time
from podium.core.effects import Report
from podium.core.objects import WorkflowRun, project_workflow, project_workflow_run
from podium.core.schedules import InvalidSchedule, Seen, Ticket, decide_schedules, is_settled, parse_cron
from podium.core.schedules.cron import Cron
from podium.core.schedules.effects import (
    CreateRun,
    EndRun,
    ReadWorkflow,
    ScheduleEffect,
    WriteSchedules,
)
from podium.core.schedules.status import build_status, is_id, read_standings, without_schedules
from podium.core.workflow import Policy, RunTally, decide_workflow, report_conditions
from podium.core.workflow import Seen as Registered
from podium.ports import Json, Key

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)


# --- which times there are --------------------------------------------------------------------------

TIMES: dict[str, tuple[str, str, str, list[str]]] = {
    # name: (cron, zone, after (UTC), the next times on the wall there)
    "spring skips a fixed time: right after": (
        "30 2 * * *",
        "Europe/Berlin",
        "2026-03-28T12:00",
        ["2026-03-29T03:00+02:00", "2026-03-30T02:30+02:00"],
    ),
    "spring skips two fixed times: one after": (
        "0,30 2 * * *",
        "America/New_York",
        "2026-03-08T05:00",
        ["2026-03-08T03:00-04:00", "2026-03-09T02:00-04:00"],
    ),
    "autumn doubles a fixed time: once, the first": (
        "30 2 * * *",
        "Europe/Berlin",
        "2026-10-24T12:00",
        ["2026-10-25T02:30+02:00", "2026-10-26T02:30+01:00"],
    ),
    "asked within the second half of the doubled hour": (
        "30 1 * * *",
        "America/New_York",
        "2026-11-01T06:10",
        ["2026-11-02T01:30-05:00"],
    ),
    "hourly over spring": (
        "0 * * * *",
        "Europe/Berlin",
        "2026-03-29T00:00",
        ["2026-03-29T03:00+02:00", "2026-03-29T04:00+02:00"],
    ),
    "hourly over autumn: each hour that passes": (
        "0 * * * *",
        "Europe/Berlin",
        "2026-10-24T23:30",
        ["2026-10-25T02:00+02:00", "2026-10-25T02:00+01:00", "2026-10-25T03:00+01:00"],
    ),
    "quarters over autumn": (
        "*/15 2 * * *",
        "Europe/Berlin",
        "2026-10-25T00:30",
        ["2026-10-25T02:45+02:00", "2026-10-25T02:00+01:00", "2026-10-25T02:15+01:00"],
    ),
    "half an hour in spring, fixed": (
        "15 2 * * *",
        "Australia/Lord_Howe",
        "2026-10-03T12:00",
        ["2026-10-04T02:30+11:00", "2026-10-05T02:15+11:00"],
    ),
    "half an hour in autumn, fixed": (
        "45 1 * * *",
        "Australia/Lord_Howe",
        "2026-04-04T12:00",
        ["2026-04-05T01:45+11:00", "2026-04-06T01:45+10:30"],
    ),
    "half an hour in autumn, hourly": (
        "0 * * * *",
        "Australia/Lord_Howe",
        "2026-04-04T13:30",
        ["2026-04-05T01:00+11:00", "2026-04-05T02:00+10:30", "2026-04-05T03:00+10:30"],
    ),
    "half an hour in autumn, every other hour": (
        "0 */2 * * *",
        "Australia/Lord_Howe",
        "2026-04-04T13:30",
        ["2026-04-05T02:00+10:30", "2026-04-05T04:00+10:30"],
    ),
    "a day that is not there (Samoa, 2011)": (
        "0 12 * * *",
        "Pacific/Apia",
        "2011-12-29T12:00",
        ["2011-12-29T12:00-10:00", "2011-12-31T00:00+14:00", "2011-12-31T12:00+14:00"],
    ),
    "leap days": ("0 0 29 2 *", "UTC", "2026-01-01T00:00", ["2028-02-29T00:00+00:00"]),
    "the last Friday": ("0 9 * * 5L", "UTC", "2026-01-01T00:00", ["2026-01-30T09:00+00:00"]),
}


@pytest.mark.parametrize("name", TIMES)
def test_the_times_of_a_schedule(name: str) -> None:
    cron, zone, after, wanted = TIMES[name]
    found = parse_cron(cron, zone).after(datetime.fromisoformat(after).replace(tzinfo=UTC))
    shown = [next(found).astimezone(ZoneInfo(zone)).isoformat(timespec="minutes") for _ in wanted]
    assert shown == wanted


def wall_clock(cron: Cron, after: datetime, until: datetime) -> Iterable[datetime]:
    """Minute by minute: what a cron that looks at the clock on the wall sees."""
    minutes, hours = (_set(field, top) for field, top in zip(cron.text.split()[:2], (60, 24), strict=True))
    moment = after
    while moment <= until:
        there = moment.astimezone(cron.zone)
        if moment > after and there.minute in minutes and there.hour in hours:
            yield moment
        moment += timedelta(minutes=1)


def _set(field: str, top: int) -> set[int]:
    if field.startswith("*"):
        return set(range(0, top, int(field[2:] or 1)))
    return {int(part) for part in field.split(",")}


@given(
    zone=st.sampled_from(["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Africa/Casablanca"]),
    minute=st.sampled_from(["*", "*/15", "*/7"]),
    hour=st.sampled_from(["*", "*/2", "*/5", "1,2,3", "0,23"]),
    day=st.integers(0, 365),
)
@settings(max_examples=60, deadline=None)
def test_with_a_star_the_clock_on_the_wall_decides(zone: str, minute: str, hour: str, day: int) -> None:
    cron = parse_cron(f"{minute} {hour} * * *", zone)
    begin = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=day)
    end = begin + timedelta(days=3)
    wanted = list(wall_clock(cron, begin, end))
    assert list(cron.between(begin, end)) == wanted
    assert cron.last(begin, end) == max(wanted, default=None)
    assert cron.count(begin, end, 50) == min(50, len(wanted))


@given(
    zone=st.sampled_from(["Europe/Berlin", "America/New_York", "Australia/Lord_Howe"]),
    hour=st.integers(0, 23),
)
@settings(max_examples=20, deadline=None)
def test_a_fixed_time_comes_once_a_day_all_year(zone: str, hour: int) -> None:
    begin = datetime(2026, 1, 1, tzinfo=ZoneInfo(zone))
    times = list(parse_cron(f"30 {hour} * * *", zone).between(begin, begin.replace(year=2027)))
    days = [time.astimezone(ZoneInfo(zone)).date() for time in times]
    assert len(days) == len(set(days)) == 365


WRONG = {
    "61 * * * *": "cron: '61' is no minute; give 0-59",
    "* * * *": "cron: '* * * *' has 4 fields, not five; write five fields",
    "* * * * * *": "has 6 fields, not five",
    "@daily": "has 1 fields, not five",
    "0 0 * * FRY": "cron: 'FRY' is no day of week; give 0-7 or SUN-SAT",
    "0 0 30 2 *": "cron: '0 0 30 2 *' never comes: no month 2 has a day 30; give a day that there is, or L",
    "0 0 */31 2 1#5": "cron: '0 0 */31 2 1#5' never comes",
}


@pytest.mark.parametrize("cron", WRONG)
def test_a_cron_that_means_nothing_is_told_with_its_remedy(cron: str) -> None:
    with pytest.raises(InvalidSchedule) as caught:
        parse_cron(cron, "UTC")
    assert WRONG[cron] in f"{caught.value.field}: {caught.value}; {caught.value.remedy}"


@pytest.mark.parametrize(
    "zone", ["Europe/Berlni", "europe/berlin", "Europe", "../../etc/passwd", "", "localtime"]
)
def test_a_zone_that_there_is_not_is_told(zone: str) -> None:
    with pytest.raises(InvalidSchedule, match="there is no time zone") as caught:
        parse_cron("0 2 * * *", zone)
    assert caught.value.field == "timeZone"
    if "berl" in zone.lower():
        assert caught.value.remedy == "did you mean Europe/Berlin?"


def test_a_wrong_zone_is_looked_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A schedule is read many times a second, and the database has hundreds of files."""

    def parse() -> str:
        with pytest.raises(InvalidSchedule) as caught:
            parse_cron("0 2 * * *", "Europe/Berlim")
        return caught.value.remedy

    def look_again(*_: object) -> Any:
        raise AssertionError("it was looked for before")

    assert parse() == "did you mean Europe/Berlin?"
    monkeypatch.setattr(zoneinfo, "available_timezones", look_again)
    monkeypatch.setattr(zoneinfo, "ZoneInfo", look_again)
    monkeypatch.setattr(difflib, "get_close_matches", look_again)
    assert parse() == "did you mean Europe/Berlin?"


def test_a_zone_that_could_not_be_read_once_is_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def too_many(_: str) -> ZoneInfo:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patched:
        patched.setattr(zoneinfo, "ZoneInfo", too_many)
        with pytest.raises(InvalidSchedule):
            parse_cron("0 2 * * *", "Asia/Kathmandu")
    assert parse_cron("0 2 * * *", "Asia/Kathmandu").zone == ZoneInfo("Asia/Kathmandu")


@given(st.lists(st.text("0123456789*/,-#LWMONJAN?@ ", min_size=1, max_size=6), min_size=4, max_size=6))
@settings(max_examples=300, deadline=None)
def test_whatever_is_written_is_times_or_an_error(fields: list[str]) -> None:
    try:
        cron = parse_cron(" ".join(fields), "Europe/Berlin")
    except InvalidSchedule:
        return
    assert cron.next(NOON) is None or cron.next(NOON) > NOON  # type: ignore[operator]


# --- which runs they make ---------------------------------------------------------------------------


def seen(*schedules: Json, status: Json | None = None, runs: Iterable[WorkflowRun] = (), **spec: Any) -> Seen:
    """A Workflow with these schedules, read anew."""
    body = {
        "metadata": {
            "name": "video",
            "namespace": "studio",
            "uid": "u1",
            "creationTimestamp": "2026-01-01T00:00:00Z",
        },
        "spec": {"flow": {"nodes": [{"id": "a", "type": "a"}]}, "schedules": [*schedules], **spec},
        "status": status or {},
    }
    return Seen(project_workflow(body), tuple(runs), fresh=True)


def nightly(**fields: Any) -> Json:
    return {"name": "s", "cron": "0 * * * *", **fields}


def run(ticket: Ticket, phase: str = "Running", **spec: Any) -> WorkflowRun:
    """The run of a ticket."""
    annotations = {"podium.dev/scheduled-at": ticket.at.isoformat()}
    if ticket.cause != "Clock":
        annotations[f"podium.dev/{'run-now' if ticket.cause == 'Now' else 'backfill'}"] = ticket.id
    return project_workflow_run(
        {
            "metadata": {
                "name": ticket.name("video"),
                "namespace": "studio",
                "uid": "r",
                "creationTimestamp": "2026-01-01T00:00:00Z",
                "labels": {"podium.dev/schedule": ticket.schedule},
                "annotations": annotations,
            },
            "spec": {"workflow": "video", **spec},
            "status": {"phase": phase},
        }
    )


def standing(since: datetime, **fields: Any) -> Json:
    """A status in which the schedule `s` stands since then."""
    cron, zone = fields.pop("cron", "0 * * * *"), fields.pop("zone", "UTC")
    first = decide_schedules(seen(nightly(cron=cron, timeZone=zone)), since)
    assert isinstance(first, WriteSchedules)
    [item] = first.status["schedules"]
    return {**first.status, "schedules": [{**item, **fields}]}


def written(world: Seen, now: datetime = NOON) -> WriteSchedules:
    effect = decide_schedules(world, now)
    assert isinstance(effect, WriteSchedules), effect
    return effect


def then(world: Seen, now: datetime = NOON) -> ScheduleEffect:
    """What it does once what must stand is written."""
    effect = decide_schedules(world, now)
    for _ in range(3):
        if not isinstance(effect, WriteSchedules):
            break
        schedules = [item.model_dump(by_alias=True, exclude_defaults=True) for item in _schedules(world)]
        world = seen(*schedules, status=effect.status, runs=world.runs)
        effect = decide_schedules(world, now)
    return effect


def made(world: Seen, now: datetime = NOON) -> CreateRun:
    """The run that it makes then."""
    effect = then(world, now)
    assert isinstance(effect, CreateRun), effect
    return effect


def _schedules(world: Seen) -> list[Any]:
    assert world.workflow.spec is not None
    return world.workflow.spec.schedules


def test_a_new_schedule_is_written_down_before_anything_is_started() -> None:
    effect = written(seen(nightly()))
    [item] = effect.status["schedules"]
    assert item == {
        "name": "s",
        "since": "2026-06-01T12:00:00Z",
        "mark": item["mark"],
        "nextTime": "2026-06-01T13:00:00Z",
    }
    assert effect.status["nextScheduleTime"] == "2026-06-01T13:00:00Z"
    [condition] = effect.status["conditions"]
    assert (condition["type"], condition["status"], condition["message"]) == (
        "Scheduled",
        "True",
        "1 schedule",
    )


def test_the_object_is_looked_at_before_a_run_is_made() -> None:
    world = seen(nightly(), status=standing(NOON - timedelta(minutes=5)))
    stale = Seen(world.workflow, world.runs)
    assert decide_schedules(stale, NOON) == ReadWorkflow()
    assert isinstance(decide_schedules(world, NOON), CreateRun)


def test_a_run_says_whose_it_is_and_for_which_time() -> None:
    schedule = nightly(input={"prompt": "daily"}, timeField="day")
    effect = made(seen(schedule, status=standing(NOON - timedelta(minutes=5))))
    metadata = effect.body["metadata"]
    assert metadata["name"] == f"video.s.{int(NOON.timestamp()) // 60}"
    assert metadata["labels"] == {"podium.dev/workflow": "video", "podium.dev/schedule": "s"}
    assert metadata["annotations"] == {"podium.dev/scheduled-at": "2026-06-01T12:00:00Z"}
    [owner] = metadata["ownerReferences"]
    assert (owner["uid"], owner["controller"], owner["blockOwnerDeletion"]) == ("u1", True, False)
    assert effect.body["spec"] == {
        "workflow": "video",
        "input": {"prompt": "daily", "day": "2026-06-01T12:00:00Z"},
    }


def test_names_of_different_tickets_differ_and_can_be_labels() -> None:
    long = "w" * 250
    tickets = [Ticket("c", NOON), Ticket("c", NOON, "Now", "1"), Ticket("c", NOON, "Now", "2")]
    tickets += [Ticket("c", NOON, "Backfill", "1"), Ticket("c", NOON, "Backfill", "2")]
    tickets += [Ticket("b-c", NOON), Ticket("c", NOON + timedelta(minutes=1)), Ticket("c" * 40, NOON)]
    names = [ticket.name(workflow) for ticket in tickets for workflow in ("a", "a-b", long, long + "x")]
    assert len(set(names)) == len(names)
    assert all(len(name) <= 63 for name in names)


def test_a_time_missed_by_more_than_the_deadline_is_left_out_and_counted() -> None:
    status = standing(NOON - timedelta(hours=5, minutes=5))
    effect = written(seen(nightly(startingDeadline="30m"), status=status), NOON + timedelta(minutes=10))
    [item] = effect.status["schedules"]
    assert (item["lastTime"], item["skipped"], item["nextTime"]) == (
        "2026-06-01T11:00:00Z",
        5,
        "2026-06-01T12:00:00Z",
    )
    assert [(note.kind, note.reason) for note in effect.notes] == [("Warning", "SkippedTimes")]
    assert effect.skipped == 5


def test_a_run_that_is_there_counts_although_its_time_is_long_over() -> None:
    status = standing(NOON - timedelta(minutes=5))
    world = seen(nightly(startingDeadline="30m"), status=status, runs=[run(Ticket("s", NOON))])
    effect = written(world, NOON + timedelta(hours=3))
    [item] = effect.status["schedules"]
    assert (item["lastTime"], item["skipped"]) == ("2026-06-01T14:00:00Z", 2)
    assert effect.status["lastScheduleTime"] == "2026-06-01T12:00:00Z"


def test_years_of_being_away_are_dealt_with_in_parts() -> None:
    status = standing(NOON - timedelta(days=30), cron="* * * * *")
    world = seen(nightly(cron="* * * * *"), status=status)
    effect = written(world)
    assert effect.skipped == 1_000
    assert effect.status["schedules"][0]["lastTime"] == "2026-05-03T04:40:00Z"


@pytest.mark.parametrize("whose", ["schedule", "Workflow"])
def test_what_passes_while_suspended_is_never_caught_up(whose: str) -> None:
    status = standing(NOON - timedelta(minutes=30))
    held = {"suspend": True} if whose == "schedule" else {}
    effect = written(
        seen(nightly(**held), status=status, suspend=whose == "Workflow"), NOON - timedelta(minutes=20)
    )
    [item] = effect.status["schedules"]
    assert (item["suspended"], "nextTime" in item) == (True, False)
    assert effect.status["conditions"][0]["reason"] == "Suspended"
    # Resumed after noon: noon is within its deadline, and does not count.
    effect = written(seen(nightly(), status=effect.status), NOON + timedelta(minutes=5))
    [item] = effect.status["schedules"]
    assert (item["since"], item["nextTime"]) == ("2026-06-01T12:05:00Z", "2026-06-01T13:00:00Z")
    assert "suspended" not in item


def test_a_changed_schedule_begins_anew() -> None:
    status = standing(NOON - timedelta(minutes=30), lastRunNow="1", skipped=3)
    effect = written(
        seen(nightly(timeZone="Europe/Berlin", runNow="1"), status=status), NOON + timedelta(minutes=5)
    )
    [item] = effect.status["schedules"]
    assert (item["since"], item["lastRunNow"], item["skipped"]) == ("2026-06-01T12:05:00Z", "1", 3)


@pytest.mark.parametrize("field", ["since", "lastTime"])
def test_a_schedule_whose_clock_was_ahead_begins_anew(field: str) -> None:
    def seen_by(ahead: timedelta) -> Json:
        status = standing(NOON - timedelta(hours=1), skipped=3)
        status["schedules"][0][field] = format_time(NOON + ahead)
        [item] = written(seen(nightly(), status=status)).status["schedules"]
        return item  # type: ignore[no-any-return]

    anew = seen_by(timedelta(minutes=5, seconds=1))
    assert (anew["since"], anew["nextTime"]) == ("2026-06-01T12:00:00Z", "2026-06-01T13:00:00Z")
    assert ("lastTime" in anew, anew["skipped"]) == (False, 3)
    # Clocks of two machines are never quite the same.
    assert seen_by(timedelta(minutes=5))[field] == "2026-06-01T12:05:00Z"


def test_a_bad_schedule_says_so_and_the_others_go_on() -> None:
    bad = {"name": "bad", "cron": "61 * * * *"}
    world = seen(nightly(), bad, status=standing(NOON - timedelta(minutes=5)))
    effect = written(world)
    [condition] = effect.status["conditions"]
    assert (condition["status"], condition["reason"]) == ("False", "InvalidSchedule")
    assert condition["message"].startswith("spec.schedules[1].cron: '61' is no minute; give 0-59")
    assert [note.reason for note in effect.notes] == ["InvalidSchedule"]
    assert made(seen(nightly(), bad, status=standing(NOON - timedelta(minutes=5)))).ticket == Ticket(
        "s", NOON
    )


def test_without_schedules_nothing_is_left_of_them() -> None:
    assert written(seen(status=standing(NOON))).status == {}
    assert not isinstance(decide_schedules(seen(), NOON), WriteSchedules)


def test_replace_ends_the_run_before_but_no_run_now() -> None:
    status = standing(NOON - timedelta(minutes=90), lastTime="2026-06-01T11:00:00Z", lastRunNow="1")
    before, asked = Ticket("s", NOON - timedelta(hours=1)), Ticket("s", NOON, "Now", "1")
    world = seen(nightly(concurrencyPolicy="Replace"), status=status, runs=[run(asked), run(before)])
    assert then(world) == EndRun("s", run(before).key, "r")
    ended = run(before, desiredState="Terminated")
    world = seen(nightly(concurrencyPolicy="Replace"), status=status, runs=[run(asked), ended])
    assert made(world).ticket == Ticket("s", NOON)


def test_forbid_waits_until_its_deadline_and_then_says_so() -> None:
    status = standing(NOON - timedelta(minutes=90), lastTime="2026-06-01T11:00:00Z")
    active = run(Ticket("s", NOON - timedelta(hours=1)))
    world = seen(nightly(), status=status, runs=[active])
    waits = then(world, NOON + timedelta(minutes=1))
    assert waits == Report(None, requeue_after=timedelta(minutes=9, seconds=1))
    effect = written(world, NOON + timedelta(minutes=10, seconds=1))
    assert effect.status["schedules"][0]["skipped"] == 1
    assert [note.reason for note in effect.notes] == ["SkippedTimes"]


def test_a_copy_that_someone_made_of_a_run_is_no_run_of_the_schedule() -> None:
    status = standing(NOON - timedelta(minutes=90), lastTime="2026-06-01T11:00:00Z")
    copy = project_workflow_run(
        {
            "metadata": {
                "name": "mine",
                "namespace": "studio",
                "uid": "c",
                "creationTimestamp": "2026-01-01T00:00:00Z",
                "labels": {"podium.dev/schedule": "s"},
                "annotations": {"podium.dev/scheduled-at": "2026-06-01T12:00:00Z"},
            },
            "spec": {"workflow": "video"},
        }
    )
    assert made(seen(nightly(), status=status, runs=[copy])).ticket == Ticket("s", NOON)


# --- when asked -------------------------------------------------------------------------------------


def fill(start: str, end: str, name: str = "b") -> Json:
    return {"id": name, "start": start, "end": end}


def test_run_now_goes_past_the_policy_and_past_a_suspended_schedule() -> None:
    status = standing(NOON - timedelta(minutes=90), lastTime="2026-06-01T11:00:00Z")
    active = run(Ticket("s", NOON - timedelta(hours=1)))
    effect = made(seen(nightly(suspend=True, runNow="please"), status=status, runs=[active]))
    assert (effect.ticket.cause, effect.ticket.id) == ("Now", "please")
    assert effect.body["metadata"]["annotations"]["podium.dev/run-now"] == "please"


def test_nothing_at_all_is_made_while_the_workflow_is_suspended() -> None:
    asked = nightly(runNow="1", backfill=fill("2026-05-01T00:00:00Z", "2026-05-02T00:00:00Z"))
    held = written(seen(asked, status=standing(NOON), suspend=True))
    assert "lastRunNow" not in held.status["schedules"][0]
    assert not isinstance(decide_schedules(seen(asked, status=held.status, suspend=True), NOON), CreateRun)


def test_a_backfill_takes_its_start_and_not_its_end_oldest_first() -> None:
    span = fill("2026-05-01T00:00:00Z", "2026-05-01T02:00:00Z")
    world = seen(nightly(backfill=span, suspend=True), status=standing(NOON))
    assert written(world).notes[0].message == "s: back-fill b: 2 times"
    begun = written(world).status
    first = made(world).ticket
    assert first.at.isoformat() == "2026-05-01T00:00:00+00:00"
    world = seen(nightly(backfill=span, suspend=True), status=begun, runs=[run(first, "Succeeded")])
    second = made(world).ticket
    assert second.at.isoformat() == "2026-05-01T01:00:00+00:00"
    runs = [run(first, "Succeeded"), run(second)]
    effect = written(seen(nightly(backfill=span, suspend=True), status=begun, runs=runs))
    assert effect.status["schedules"][0]["backfill"] == {
        "id": "b",
        "reached": "2026-05-01T01:00:00Z",
        "started": 2,
        "done": True,
    }
    assert [note.reason for note in effect.notes] == ["BackfillDone"]


@pytest.mark.parametrize(
    ("span", "why"),
    [
        (fill("2020-01-01T00:00:00Z", "2026-01-01T00:00:00Z"), "it has more than 10000 times"),
        (fill("2026-05-01T00:00:00Z", "2027-01-01T00:00:00Z"), "its end is still to come"),
        (fill("0001-01-01T00:00:00Z", "2020-01-01T00:00:00Z"), "backfill.start: it begins before 1970"),
        (fill("1969-12-31T23:59:59Z", "1970-01-02T00:00:00Z"), "backfill.start: it begins before 1970"),
        (fill("0000-01-01T00:00:00Z", "2020-01-01T00:00:00Z"), "'0000-01-01T00:00:00Z' is no time"),
        (fill("2019-01-01T00:00:00+24:00", "2020-01-01T00:00:00Z"), "backfill.start: '2019-01-01T00:00:00+"),
        (fill("2019-01-01T00:00:00Z", "2020-01-01T00:00:00+99:00"), "backfill.end: '2020-01-01T00:00:00+"),
        (fill("2019-01-01T00:00:00Z", "2020-01-01T00:00:00ZT" + "x" * 999), "backfill.end: '2020-01-01T"),
        (fill("2019-01-01T00:00:00Z", "2018-01-01T00:00:00Z"), "it ends before it begins"),
        (fill("2026-05-01T00:00:00Z", "9999-12-31T23:59:59-23:00"), "its end is still to come"),
    ],
)
def test_a_backfill_that_cannot_be_is_refused_with_the_reason(span: Json, why: str) -> None:
    effect = written(seen(nightly(backfill=span), status=standing(NOON)))
    state = effect.status["schedules"][0]["backfill"]
    assert state["done"] is True
    assert why in state["message"]
    assert len(state["message"]) <= 128
    assert [note.reason for note in effect.notes] == ["BackfillRefused"]
    # Its schedule goes on, and it is told once.
    world = seen(nightly(backfill=span), status=standing(NOON - timedelta(minutes=5)))
    assert made(world).ticket == Ticket("s", NOON)


def test_a_backfill_that_is_changed_to_one_that_cannot_be_stops_where_it_is() -> None:
    reached = {"id": "b", "reached": "2026-05-01T00:00:00Z", "started": 1}
    span = fill("0001-01-01T00:00:00Z", "2026-05-02T00:00:00Z")
    effect = written(seen(nightly(backfill=span), status=standing(NOON, backfill=reached)))
    assert effect.status["schedules"][0]["backfill"] == {
        **reached,
        "done": True,
        "message": "refused: backfill.start: it begins before 1970; give a later start",
    }


@given(
    st.from_regex(r"\A\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(.\d+)?([zZ]|[+-]\d\d:\d\d)\Z"),
    st.from_regex(r"\A20[01]\d-0[1-9]-[12]\d[Tt]2[0-3]:[0-5]\d:[0-5]\d(\.\d+)?([zZ]|[+-]\d\d:\d\d)\Z"),
    st.sampled_from(["UTC", "America/New_York", "Pacific/Auckland"]),
)
@settings(max_examples=200, deadline=None)
def test_whatever_span_the_api_server_lets_in_stops_no_schedule(start: str, end: str, zone: str) -> None:
    rare = nightly(cron="0 0 29 2 *", timeZone=zone, backfill=fill(start, end))
    status = standing(NOON - timedelta(minutes=5))
    then(seen(rare, nightly(name="t"), status=status))


def test_a_standing_that_someone_has_spoilt_begins_anew() -> None:
    spoilt = standing(NOON, backfill={"id": "b", "reached": "2026-05-01T00:00:00+24:00", "started": 1})
    span = fill("2026-05-01T00:00:00Z", "2026-05-01T02:00:00Z")
    assert made(seen(nightly(backfill=span), status=spoilt)).ticket.cause == "Backfill"


def test_a_backfill_may_be_written_in_small_letters() -> None:
    span = fill("2026-05-01t00:00:00z", "2026-05-01t02:00:00z")
    assert made(seen(nightly(backfill=span), status=standing(NOON))).ticket.at.isoformat() == (
        "2026-05-01T00:00:00+00:00"
    )


def test_a_run_may_be_forgotten_once_the_status_has_moved_past_it() -> None:
    asked = nightly(runNow="1", backfill=fill("2026-05-01T00:00:00Z", "2026-05-02T00:00:00Z"))
    late, early = NOON, datetime(2026, 5, 1, 5, tzinfo=UTC)
    tickets = [Ticket("s", late), Ticket("s", early, "Backfill", "b"), Ticket("s", late, "Now", "1")]
    before = seen(asked, status=standing(NOON - timedelta(hours=1))).workflow
    assert [is_settled(run(ticket), before, read_standings(before)) for ticket in tickets] == [
        False,
        False,
        False,
    ]
    moved = {"lastTime": "2026-06-01T12:00:00Z", "lastRunNow": "1"}
    backfill = {"id": "b", "reached": "2026-05-01T05:00:00Z"}
    after = seen(asked, status=standing(NOON - timedelta(hours=1), **moved, backfill=backfill)).workflow
    assert [is_settled(run(ticket), after, read_standings(after)) for ticket in tickets] == [True, True, True]


# --- the status -------------------------------------------------------------------------------------


def test_the_registration_does_not_see_the_part_of_the_schedules() -> None:
    status = standing(NOON)
    ours = {"observedGeneration": 1, "conditions": [{"type": "Ready", "status": "True"}]}
    both = {**status, **ours, "conditions": [*ours["conditions"], *status["conditions"]]}  # type: ignore[misc]
    assert without_schedules(both) == ours


@pytest.mark.parametrize("letter", ["i", "ü", "💡"])
@pytest.mark.parametrize("done", [True, False])
def test_the_status_stays_within_8_kib_with_32_schedules(letter: str, done: bool) -> None:
    whose, moment, types = letter * 64, "2026-01-01T00:00:00Z", [f"{'t' * 60}{n}" for n in range(64)]
    names = [f"{'n' * 38}{number:02}" for number in range(32)]
    backfill = {"id": whose, "started": 10000, "done": done, "reached": "2026-05-01T05:00:00Z"}
    times = {"since": moment, "lastTime": moment, "lastRun": "r" * 63, "skipped": 123456}
    items = [
        {"name": name, "mark": "12345678", **times, "lastRunNow": whose, "backfill": backfill}
        for name in names
    ]
    schedules = [
        {
            "name": name,
            "cron": "* * * * *",
            "runNow": whose,
            "backfill": fill("2026-05-01T00:00:00Z", "2026-05-02T00:00:00Z", whose),
        }
        for name in names
    ]
    flow = {"nodes": [{"id": f"n{number}", "type": kind} for number, kind in enumerate(types)]}
    status = {"schedules": items, "lastScheduleTime": moment}
    workflow = seen(*schedules, status=status, flow=flow).workflow
    word = Word("Scheduled", "False", "InvalidSchedule", letter * 256)
    part = build_status(workflow, list(read_standings(workflow).values()), word, NOON, NOON)
    key = Key("Workflow", "n" * 60, "w" * 200)
    registered = Registered(
        replace(workflow, key=key, finalizers=("podium.dev/conductor",)),
        Policy("cluster"),
        (),
        frozenset(types),
        (),
        RunTally(),
        check_workflow(workflow.spec, namespace=key.namespace, name=key.name),
        done=frozenset({"definition 1"}),
    )
    report = decide_workflow(registered, NOON)
    assert isinstance(report, Report)
    rest = report_conditions(registered, report, NOON)
    assert rest["conductor"]["version"] == 1
    whole = {**rest, **part, "conditions": [*rest["conditions"], *part["conditions"]]}
    assert json_bytes(whole) <= 8 * 1024
    # What must not be done twice is still known.
    for item in read_standings(seen(*schedules, status=part).workflow).values():
        assert is_id(item.last_run_now, whose)
        assert item.last_time == moment
        assert item.backfill is not None
        assert is_id(item.backfill.id, whose)
        assert item.backfill.done is done
        assert done or item.backfill.reached == "2026-05-01T05:00:00Z"


# --- lint -------------------------------------------------------------------------------------------


def test_lint_names_the_field_and_the_registration_goes_on() -> None:
    workflow = seen(
        nightly(cron="0 0 30 2 *"),
        nightly(name="t", timeZone="Europe/Berlni"),
        nightly(name="u", startingDeadline="5s", input={"day": 1}, timeField="day"),
        nightly(name="v", backfill=fill("2026-05-02T00:00:00Z", "2026-05-01T00:00:00Z")),
    ).workflow
    assert workflow.spec is not None
    found = lint_workflow(workflow.spec, namespace="studio", name="video")
    assert [(item.level, item.path) for item in found] == [
        ("error", "spec.schedules[0].cron"),
        ("error", "spec.schedules[1].timeZone"),
        ("error", "spec.schedules[3].backfill"),
        ("warning", "spec.schedules[2].startingDeadline"),
        ("warning", "spec.schedules[2].timeField"),
    ]
    checked = check_workflow(workflow.spec, namespace="studio", name="video")
    looks = Registered(workflow, Policy("cluster"), (), frozenset(), (), RunTally(), checked)
    assert type(decide_workflow(looks, NOON)).__name__ == "SetFinalizers"
