"""Schedules on the real servers: runs at their times, once each, and what people can ask for."""

import asyncio
import json
import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from podium.ports import Json
from support.bed import Bed, Crashed, condition, workflow, workflow_run
from support.eventually import eventually

pytestmark = pytest.mark.slow


class AheadClock:
    """The system's clock, set ahead: minutes pass when a test says so."""

    def __init__(self, ahead: timedelta = timedelta()) -> None:
        self.ahead = ahead

    @classmethod
    def just_before_the_minute(cls, seconds: float = 3.0) -> "AheadClock":
        """Set so that a minute begins in so many seconds."""
        now = datetime.now(UTC)
        return cls(timedelta(seconds=60 - now.second - now.microsecond / 1e6 - seconds))

    def now(self) -> datetime:
        """The time."""
        return datetime.now(UTC) + self.ahead


def every_minute(**fields: Any) -> Json:
    return {"name": "m", "cron": "* * * * *", "concurrencyPolicy": "Allow", **fields}


async def runs_of(bed: Bed, schedule: str) -> list[Json]:
    """The WorkflowRuns of a schedule, oldest time first."""
    found = await bed.cluster.list("WorkflowRun", bed.namespace)
    mine = [
        item for item in found if item["metadata"].get("labels", {}).get("podium.dev/schedule") == schedule
    ]
    return sorted(mine, key=scheduled_at)


def scheduled_at(body: Json) -> str:
    return str(body["metadata"]["annotations"]["podium.dev/scheduled-at"])


def standing(body: Json, name: str = "m") -> Json:
    found = [item for item in (body.get("status") or {}).get("schedules", []) if item["name"] == name]
    return found[0] if found else {}


async def patch_schedule(bed: Bed, name: str, **fields: Any) -> None:
    """Change the first schedule of a Workflow, as docs/schedules.md shows it."""
    changes = [
        {"op": "add", "path": f"/spec/schedules/0/{field}", "value": value} for field, value in fields.items()
    ]
    await bed.kubectl(
        "patch", "workflow", name, "-n", bed.namespace, "--type=json", "-p", json.dumps(changes)
    )


async def test_a_run_begins_when_its_minute_does(bed: Bed) -> None:
    clock = AheadClock.just_before_the_minute()
    await bed.start_operator(clock=clock)
    await bed.start_worker("a")
    await bed.apply(workflow("video", "a", schedules=[every_minute(input={"x": 1}, timeField="day")]))
    [run] = await eventually(lambda: runs_of(bed, "m"), lambda found: len(found) == 1)
    late = clock.now() - datetime.fromisoformat(scheduled_at(run))
    assert timedelta() <= late < timedelta(seconds=2)
    body = await bed.until_phase(run["metadata"]["name"], "Succeeded")
    assert body["spec"]["input"] == {"x": 1, "day": scheduled_at(run)}
    seen = await bed.until("Workflow", "video", lambda body: standing(body).get("lastTime"))
    assert seen["status"]["lastScheduleTime"] == scheduled_at(run)
    assert standing(seen)["lastRun"] == run["metadata"]["name"]
    assert condition(seen, "Scheduled")["status"] == "True"
    assert condition(seen, "Ready")["status"] == "True"
    # Both writers are content: nothing is written any more.
    await asyncio.sleep(2.0)
    before = await bed.get("Workflow", "video")
    await asyncio.sleep(2.0)
    after = await bed.get("Workflow", "video")
    assert after["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]
    managers = {item["manager"] for item in after["metadata"]["managedFields"] if item.get("subresource")}
    assert managers == {"podium", "podium-schedules"}
    # Without schedules, their part of the status goes and the rest stays.
    await bed.kubectl(
        "patch", "workflow", "video", "-n", bed.namespace, "--type=merge", "-p", '{"spec":{"schedules":null}}'
    )
    seen = await bed.until("Workflow", "video", lambda body: "schedules" not in body["status"])
    assert not condition(seen, "Scheduled")
    assert seen["status"]["conductor"]["version"] == 1


BOUNDARIES = [
    f"{when} {what}"
    for what in ("ReadWorkflow", "CreateRun", "WriteSchedules")
    for when in ("before", "after")
]


@pytest.mark.timeout(600)
async def test_no_minute_is_started_twice_or_missed_through_crashes_and_restarts(bed: Bed) -> None:
    dice, clock = random.Random(), AheadClock()
    await bed.start_worker("a")
    await bed.start_operator(clock=clock)
    await bed.apply(
        workflow("often", "a", schedules=[every_minute(startingDeadline="1h")], runHistory={"succeeded": 100})
    )
    seen = await bed.until("Workflow", "often", lambda body: standing(body).get("since"))
    await bed.stop_operator()
    points: Counter[str] = Counter()
    while points.total() < 12:
        # Minutes pass while nobody is there; the next life ends at a boundary of catching up.
        clock.ahead += timedelta(seconds=dice.uniform(60, 180))
        target = BOUNDARIES[points.total() % len(BOUNDARIES)]
        passes = 1 if "Read" in target else dice.randint(1, 2)

        def crash(point: str, target: str = target) -> None:
            nonlocal passes
            if point == target:
                passes -= 1
                if passes <= 0:
                    points[point] += 1
                    raise Crashed(point)

        await bed.start_operator(crash=crash, clock=clock, unknown_start_wait=4.0, listen="127.0.0.1:0")
        ending = asyncio.create_task(bed.crashed())
        await asyncio.wait({ending}, timeout=3)
        if not ending.done():
            await bed.stop_operator_of(ending)
    await bed.start_operator(clock=clock, unknown_start_wait=4.0)
    since = datetime.fromisoformat(standing(seen)["since"])

    def is_caught_up(body: Json) -> bool:
        last = datetime.fromisoformat(standing(body).get("lastTime", "2000-01-01T00:00:00Z"))
        return clock.now() - last < timedelta(seconds=60)

    seen = await bed.until("Workflow", "often", is_caught_up, within=90)
    last = datetime.fromisoformat(standing(seen)["lastTime"])
    first = since.replace(second=0) + timedelta(minutes=1)
    wanted = [first + timedelta(minutes=n) for n in range(int((last - first).total_seconds()) // 60 + 1)]
    runs = [run for run in await runs_of(bed, "m") if datetime.fromisoformat(scheduled_at(run)) <= last]
    assert [datetime.fromisoformat(scheduled_at(run)) for run in runs] == wanted
    assert len(wanted) >= 12
    assert standing(seen).get("skipped", 0) == 0
    for run in runs:
        await bed.until_phase(run["metadata"]["name"], "Succeeded", within=60)
    rows = await bed.conductor._search("/workflow/search", f"workflowType={bed.namespace}.often")
    assert set(Counter(row["correlationId"] for row in rows).values()) == {1}
    print(f"{points.total()} crashes, {len(runs)} runs: {dict(points)}")


async def test_runs_are_made_while_conductor_is_away(bed: Bed) -> None:
    await bed.start_operator(
        clock=AheadClock.just_before_the_minute(), conductor_url="http://127.0.0.1:1/api"
    )
    await bed.apply(workflow("away", "a", schedules=[every_minute()]))
    [run] = await eventually(lambda: runs_of(bed, "m"), lambda found: len(found) == 1)
    await bed.until_phase(run["metadata"]["name"], "Pending")
    await bed.stop_operator()
    await bed.start_operator()
    await bed.start_worker("a")
    await bed.until_phase(run["metadata"]["name"], "Succeeded")


async def test_run_now_backfill_and_suspend_as_the_documentation_shows_them(bed: Bed) -> None:
    await bed.start_operator()
    await bed.start_worker("a")
    nightly = {"name": "m", "cron": "0 2 * * *", "timeZone": "Europe/Berlin", "timeField": "day"}
    await bed.apply(workflow("asked", "a", schedules=[nightly]))
    await bed.until("Workflow", "asked", lambda body: standing(body).get("nextTime"))

    await patch_schedule(bed, "asked", runNow="2026-06-01 for Ada")
    [run] = await eventually(lambda: runs_of(bed, "m"), lambda found: len(found) == 1)
    await bed.until_phase(run["metadata"]["name"], "Succeeded")
    assert run["metadata"]["annotations"]["podium.dev/run-now"] == "2026-06-01 for Ada"

    span = {"id": "march", "start": "2026-03-28T00:00:00Z", "end": "2026-03-31T00:00:00Z"}
    await patch_schedule(bed, "asked", backfill=span)
    seen = await bed.until(
        "Workflow", "asked", lambda body: standing(body).get("backfill", {}).get("done"), within=60
    )
    filled = [
        item
        for item in await runs_of(bed, "m")
        if item["metadata"]["annotations"].get("podium.dev/backfill") == "march"
    ]
    # At 2:00 in Berlin; on the 29th of March that hour was skipped, and it is right after.
    assert [item["spec"]["input"]["day"] for item in filled] == [
        "2026-03-28T01:00:00Z",
        "2026-03-29T01:00:00Z",
        "2026-03-30T00:00:00Z",
    ]
    assert standing(seen)["backfill"]["started"] == 3
    for item in filled:
        await bed.until_phase(item["metadata"]["name"], "Succeeded")

    await patch_schedule(bed, "asked", suspend=True)
    seen = await bed.until("Workflow", "asked", lambda body: standing(body).get("suspended"))
    assert condition(seen, "Scheduled")["reason"] == "Suspended"
    assert "nextScheduleTime" not in seen["status"]
    events = await eventually(
        lambda: bed.kubectl("get", "events.events.k8s.io", "-n", bed.namespace),
        lambda text: "BackfillDone" in text,
    )
    assert "RunNow" in events
    # Nothing is done twice by a restart.
    before = {item["metadata"]["uid"] for item in await runs_of(bed, "m")}
    await bed.stop_operator()
    await bed.start_operator()
    await bed.apply(workflow_run("after", "asked"))
    await bed.until_phase("after", "Succeeded")
    assert {item["metadata"]["uid"] for item in await runs_of(bed, "m")} == before


async def test_replace_ends_the_run_before_and_forbid_waits_for_it(bed: Bed) -> None:
    clock = AheadClock.just_before_the_minute()
    await bed.start_operator(clock=clock)
    await bed.apply(
        workflow("new", "nobody", schedules=[every_minute(name="r", concurrencyPolicy="Replace")]),
        workflow("old", "nobody", schedules=[every_minute(name="f", concurrencyPolicy="Forbid")]),
    )
    [first] = await eventually(lambda: runs_of(bed, "r"), lambda found: len(found) == 1)
    [waits] = await eventually(lambda: runs_of(bed, "f"), lambda found: len(found) == 1)
    await bed.until_phase(first["metadata"]["name"], "Running")
    clock.ahead += timedelta(minutes=2)
    # A restart looks at the clock; so does the minute, which is too long for a test.
    await bed.stop_operator()
    await bed.start_operator(clock=clock)
    await bed.until_phase(first["metadata"]["name"], "Terminated")
    after = await eventually(lambda: runs_of(bed, "r"), lambda found: len(found) == 2)
    await bed.until_phase(after[1]["metadata"]["name"], "Running")
    seen = await bed.until("Workflow", "new", lambda body: standing(body, "r").get("skipped") == 1)
    assert standing(seen, "r")["lastRun"] == after[1]["metadata"]["name"]
    assert len(await runs_of(bed, "f")) == 1
    await bed.kubectl(
        "patch",
        "workflowrun",
        waits["metadata"]["name"],
        "-n",
        bed.namespace,
        "--type=merge",
        "-p",
        '{"spec":{"desiredState":"Terminated"}}',
    )
    waiting = await eventually(lambda: runs_of(bed, "f"), lambda found: len(found) == 2)
    begun = datetime.fromisoformat(scheduled_at(waiting[1])) - datetime.fromisoformat(
        scheduled_at(waiting[0])
    )
    assert begun == timedelta(minutes=1)


async def test_runs_go_with_their_workflow(bed: Bed) -> None:
    await bed.start_operator()
    await bed.start_worker("a")
    await bed.apply(workflow("gone", "a", schedules=[every_minute(cron="0 0 1 1 *", runNow="1")]))
    [run] = await eventually(lambda: runs_of(bed, "m"), lambda found: len(found) == 1)
    await bed.until_phase(run["metadata"]["name"], "Succeeded")
    await bed.kubectl("delete", "workflow", "gone", "-n", bed.namespace, "--timeout=20s")
    await eventually(lambda: runs_of(bed, "m"), lambda found: not found, within=60)


async def test_a_bad_schedule_is_told_and_does_not_stop_the_registration(bed: Bed) -> None:
    await bed.start_operator()
    await bed.apply(workflow("bad", "a", schedules=[{"name": "m", "cron": "0 2 30 2 *"}]))
    seen = await bed.until_ready("bad")
    seen = await bed.until("Workflow", "bad", lambda body: condition(body, "Scheduled"))
    word = condition(seen, "Scheduled")
    assert (word["status"], word["reason"]) == ("False", "InvalidSchedule")
    assert word["message"].startswith("spec.schedules[0].cron: '0 2 30 2 *' never comes")
