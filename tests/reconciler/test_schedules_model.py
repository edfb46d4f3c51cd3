"""No time of a schedule is started twice or missed, wherever the operator is killed, over weeks.

The real reconciler on an API server in memory; time is a value, so weeks and thousands of kills take
seconds. `tests/integration/test_schedules.py` has the same law on the real servers.
"""

import itertools
import os
import random
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from podium.core.objects import WorkflowRun, is_finished, project_workflow, project_workflow_run
from podium.core.schedules import is_settled, parse_cron, ticket_of
from podium.core.schedules.status import read_standings
from podium.ports import Conflict, Json, Key, PortError, Refused, RetryLater
from podium.reconciler import schedules
from podium.reconciler.schedules import ScheduleReconciler
from podium.reconciler.store import Store
from support.fakes import FakeClock, FakeCluster, FakeRecorder, Killed, run_now

# Each span has a change of the clocks in it.
SPANS = {
    "Berlin in spring": ("Europe/Berlin", datetime(2026, 3, 28, 6, tzinfo=UTC)),
    "Berlin in autumn": ("Europe/Berlin", datetime(2026, 10, 24, 6, tzinfo=UTC)),
    "New York in spring": ("America/New_York", datetime(2026, 3, 7, 6, tzinfo=UTC)),
    "New York in autumn": ("America/New_York", datetime(2026, 10, 31, 6, tzinfo=UTC)),
    "Lord Howe in spring": ("Australia/Lord_Howe", datetime(2026, 10, 3, tzinfo=UTC)),
    "Lord Howe in autumn": ("Australia/Lord_Howe", datetime(2026, 4, 4, tzinfo=UTC)),
}
CRONS = ("30 2 * * *", "0 * * * *", "*/15 * * * *", "10 1,2,3 * * *", "0 */2 * * *")
DEADLINE = 600.0
SCHEDULES = Key("Schedules", "studio", "video")

LONG = bool(os.environ.get("PODIUM_LONG"))


def each(examples: int) -> settings:
    """So many examples, ten times as many in `make e2e`; days are too long to be shrunk."""
    count = examples * 10 if LONG else examples
    return settings(max_examples=count, deadline=None, phases=(Phase.explicit, Phase.generate))


moments = st.sets(st.integers(0, 400), max_size=40)


class World:
    """A Workflow with schedules, an operator that can be killed, and runs that end after a while."""

    longest_wait = 86_400.0
    """Seconds: longer than the operator's own, so that days pass quickly."""

    def __init__(
        self,
        schedules: list[Json],
        *,
        at: datetime,
        kill_at: Iterable[int] = (),
        lose_answers: Iterable[bool] = (),
        lasts: float = 90.0,
        down: float = 30.0,
        seed: int = 0,
    ) -> None:
        """`down`: the operator is away for up to so many seconds after it was killed."""
        self.clock = FakeClock(at)
        self.cluster = FakeCluster()
        self.cluster.lose_answer = itertools.chain(lose_answers, itertools.repeat(False))
        self.recorder = FakeRecorder()
        self.dice = random.Random(seed)
        self.lasts, self.down = lasts, down
        self.kills = 0
        self.made: Counter[tuple[str, str, datetime, str]] = Counter()
        """How often a run was made for a schedule, a cause, a time and an id."""
        self.made_at: dict[str, datetime] = {}
        self.most_active: defaultdict[str, int] = defaultdict(int)
        self._kill_at = frozenset(kill_at)
        self._boundary = itertools.count()
        self._ends: dict[Key, datetime] = {}
        self._create = self.cluster.create
        self.cluster.create = self._count_create  # type: ignore[method-assign]
        spec = {"flow": {"nodes": [{"id": "a", "type": "a"}]}, "schedules": schedules}
        self.key = self.cluster.put("Workflow", "video", {"spec": spec})
        self.restart()

    @property
    def standings(self) -> dict[str, Json]:
        """status.schedules by name."""
        status = self.cluster.objects[self.key]["status"]
        return {item["name"]: item for item in status.get("schedules", [])}

    @property
    def runs(self) -> list[WorkflowRun]:
        """Those in the cluster."""
        objects = self.cluster.objects.items()
        return [project_workflow_run(body) for key, body in objects if key.kind == "WorkflowRun"]

    def change(self, number: int, **fields: Any) -> None:
        """Someone edits a schedule."""
        spec = self.cluster.objects[self.key]["spec"]
        schedules = [dict(item) for item in spec["schedules"]]
        schedules[number] |= fields
        self.cluster.put("Workflow", "video", {"spec": {**spec, "schedules": schedules}})
        self.watch()

    def restart(self) -> None:
        """A new process: it knows nothing but what it lists."""
        self.store = Store()
        self.reconciler = ScheduleReconciler(
            self.cluster,
            self.clock,
            self.recorder,
            self.store,
            take_in=self._take_in,
            longest_wait=self.longest_wait,
            crash=self._crash,
        )
        self.watch()

    def watch(self) -> None:
        """The watch brings what changed and what is gone."""
        for key, body in self.cluster.objects.items():
            known = self.store.runs.get(key) or self.store.workflows.get(key)
            if known is None or known.resource_version != body["metadata"]["resourceVersion"]:
                self._take_in(key, body)
        for key in [key for key in self.store.runs if key not in self.cluster.objects]:
            self.store.remove_run(key)

    def step(self) -> float | None:
        """One pass, whatever comes of it; seconds until the next one is wanted."""
        try:
            again = run_now(self.reconciler.reconcile(SCHEDULES))
        except Killed:
            self.kills += 1
            self.clock.advance(self.dice.uniform(0.0, self.down))
            self._age()
            self.restart()
            return 0.0
        except Conflict:
            self.watch()
            return 0.05
        except PortError:
            return 0.3
        return again

    def live(self, seconds: float) -> None:
        """Let it work for so long; the watch is as late as a pass."""
        end = self.clock.at + timedelta(seconds=seconds)
        while self.clock.at < end:
            again = self.step()
            ahead = [again] if again is not None else []
            ahead += [(moment - self.clock.at).total_seconds() for moment in self._ends.values()]
            self._check()
            rest = (end - self.clock.at).total_seconds()
            self.clock.advance(min(max(0.02, min(ahead, default=rest)), max(rest, 0.02)))
            self._age()
            self.watch()
        while self.step() == 0.0:
            pass

    def forget_finished(self) -> None:
        """Retention at its hardest: whatever may be deleted is."""
        workflow = project_workflow(self.cluster.objects[self.key])
        for run in self.runs:
            if is_finished(run) and is_settled(run, workflow, read_standings(workflow)):
                del self.cluster.objects[run.key]

    def _age(self) -> None:
        for key, end in list(self._ends.items()):
            if key not in self.cluster.objects:
                del self._ends[key]
            elif self.clock.at >= end:
                self.cluster.objects[key]["status"] = {"phase": "Succeeded"}
                self.cluster.touch(key)
                del self._ends[key]
        self.forget_finished()

    def _check(self) -> None:
        active = [run for run in self.runs if not is_finished(run)]
        for name in {run.schedule for run in active}:
            mine = [run for run in active if run.schedule == name and not run.run_now]
            left = [run for run in mine if run.spec and run.spec.desired_state != "Terminated"]
            self.most_active[name] = max(self.most_active[name], len(mine))
            self.most_active[f"{name} wanted"] = max(self.most_active[f"{name} wanted"], len(left))

    def _take_in(self, key: Key, body: Json) -> None:
        if key.kind == "Workflow":
            self.store.put_workflow(project_workflow(body))
        else:
            self.store.put_run(project_workflow_run(body))

    async def _count_create(self, body: Json) -> Json:
        key = Key("WorkflowRun", "studio", body["metadata"]["name"])
        if key not in self.cluster.objects:
            ticket = ticket_of(project_workflow_run({**body, "metadata": {**_BLANK, **body["metadata"]}}))
            assert ticket is not None
            at = ticket.at if ticket.cause != "Now" else datetime(2000, 1, 1, tzinfo=UTC)
            self.made[ticket.schedule, ticket.cause, at, ticket.id] += 1
            self.made_at[key.name] = self.clock.at
            self._ends[key] = self.clock.at + timedelta(seconds=self.lasts * self.dice.uniform(0.2, 1.8))
        return await self._create(body)

    def _crash(self, point: str) -> None:
        if next(self._boundary) in self._kill_at:
            raise Killed(point)


_BLANK: Json = {"uid": "-", "creationTimestamp": "2026-01-01T00:00:00Z"}


def schedule(name: str = "s", cron: str = "*/15 * * * *", **fields: Any) -> Json:
    return {
        "name": name,
        "cron": cron,
        "concurrencyPolicy": "Allow",
        "startingDeadline": f"{int(DEADLINE)}s",
        **fields,
    }


def times(world: World, number: int, since: datetime) -> list[datetime]:
    item = world.cluster.objects[world.key]["spec"]["schedules"][number]
    return list(parse_cron(item["cron"], item.get("timeZone", "UTC")).between(since, world.clock.at))


def started(world: World, name: str) -> Counter[datetime]:
    return Counter(
        {at: n for (whose, cause, at, _), n in world.made.items() if (whose, cause) == (name, "Clock")}
    )


def assert_each_once(world: World, number: int, name: str, since: datetime) -> None:
    """The law of Allow."""
    assert started(world, name) == Counter(times(world, number, since))
    assert world.standings[name].get("skipped", 0) == 0


@pytest.mark.parametrize("span", SPANS)
@given(kill_at=moments, lose=st.lists(st.booleans(), max_size=40), seed=st.integers(0, 2**16))
@each(2)
def test_every_time_is_started_once_wherever_the_operator_is_killed(
    span: str, kill_at: set[int], lose: list[bool], seed: int
) -> None:
    zone, begin = SPANS[span]
    schedules = [schedule(f"s{n}", cron, timeZone=zone) for n, cron in enumerate(CRONS)]
    world = World(schedules, at=begin, kill_at=kill_at, lose_answers=lose, seed=seed)
    world.live(2 * 86_400.0)
    for number in range(len(CRONS)):
        since = datetime.fromisoformat(world.standings[f"s{number}"]["since"])
        assert_each_once(world, number, f"s{number}", since)


def test_it_survives_thousands_of_kills() -> None:
    kills = 0
    for (zone, begin), gap in itertools.product(SPANS.values(), (5, 7)):
        schedules = [schedule(f"s{n}", cron, timeZone=zone) for n, cron in enumerate(CRONS[1:3])]
        world = World(schedules, at=begin, kill_at=range(gap, 10**6, gap), seed=gap)
        world.live(2 * 86_400.0)
        for number in range(2):
            since = datetime.fromisoformat(world.standings[f"s{number}"]["since"])
            assert_each_once(world, number, f"s{number}", since)
        kills += world.kills
    assert kills > 2_500, kills


@pytest.mark.parametrize("policy", ["Forbid", "Replace"])
@given(kill_at=moments, lose=st.lists(st.booleans(), max_size=40), seed=st.integers(0, 2**16))
@each(8)
def test_never_two_at_once_and_each_time_is_started_or_counted(
    policy: str, kill_at: set[int], lose: list[bool], seed: int
) -> None:
    begin = datetime(2026, 3, 28, 12, tzinfo=UTC)
    item = schedule(cron="*/5 * * * *", timeZone="Europe/Berlin", concurrencyPolicy=policy)
    world = World([item], at=begin, kill_at=kill_at, lose_answers=lose, lasts=400.0, down=900.0, seed=seed)
    world.live(86_400.0)
    world.step()
    standing = world.standings["s"]
    assert world.most_active["s wanted" if policy == "Replace" else "s"] == 1
    came = started(world, "s")
    assert set(came.values()) == {1}
    due = times(world, 0, datetime.fromisoformat(standing["since"]))
    dealt = [at for at in due if at <= datetime.fromisoformat(standing["lastTime"])]
    assert set(came) <= set(dealt)
    assert len(came) + standing.get("skipped", 0) == len(dealt)
    # Whatever is not dealt with still waits, within its deadline.
    late = timedelta(seconds=DEADLINE + 2)
    assert all(world.clock.at - at <= late for at in due[len(dealt) :])
    order = [at for _, at in sorted((world.made_at[name], at) for name, at in _named(came))]
    assert order == sorted(order)


NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)


def at_noon(**fields: Any) -> World:
    """A schedule whose time has just come; the watch tells nothing from here on."""
    world = World([schedule(**fields)], at=NOON - timedelta(seconds=30))
    world.step()
    world.watch()
    world.clock.advance(31.0)
    return world


def twin(world: World) -> World:
    """Another operator beside this one, whose watch is behind."""
    other = World([schedule()], at=world.clock.at)
    other.clock, other.cluster, other.recorder = world.clock, world.cluster, world.recorder
    other.restart()
    return other


def test_a_run_that_the_watch_has_not_told_of_counts_as_started() -> None:
    world = at_noon()
    other = twin(world)
    world.step()
    # Its status was lost: an old backup of the Workflow, put back.
    status = world.cluster.objects[world.key]["status"]
    status["schedules"][0].pop("lastTime")
    world.cluster.touch(world.key)
    other.step()
    assert len(world.runs) == 1
    assert other.standings["s"]["lastTime"] == "2026-06-01T12:00:00Z"
    assert other.standings["s"].get("skipped", 0) == 0


def test_two_operators_at_once_make_one_run() -> None:
    world = at_noon()
    other = twin(world)
    assert other.step() is not None
    assert world.step() is not None
    assert len(world.runs) == 1


def test_a_run_of_that_name_that_is_not_the_schedules_is_left_alone_and_told() -> None:
    world = at_noon()
    name = f"video.s.{int(NOON.timestamp()) // 60}"
    world.cluster.put("WorkflowRun", name, {"kind": "WorkflowRun", "spec": {"workflow": "video"}})
    world.step()
    assert [run.schedule for run in world.runs] == [""]
    assert world.standings["s"]["skipped"] == 1
    assert [reason for _, reason, _ in world.recorder.events] == ["RunNameTaken"]


def test_a_run_whose_making_was_not_answered_is_looked_for_before_its_time_is_given_up() -> None:
    world = at_noon(concurrencyPolicy="Forbid")
    world.cluster.lose_answer = itertools.chain([True], itertools.repeat(False))
    assert world.step() == 0.3
    world.clock.advance(DEADLINE + 1)
    world.step()
    assert len(world.runs) == 1
    assert world.standings["s"]["lastRun"] == world.runs[0].key.name
    assert world.standings["s"].get("skipped", 0) == 0


def test_a_run_that_is_there_when_it_is_made_and_gone_when_it_is_looked_at_is_tried_again() -> None:
    world = at_noon()
    create = world.cluster.create

    async def meet(body: Json) -> Json:
        raise Conflict("it exists")

    world.cluster.create = meet  # type: ignore[method-assign]
    # Gone would end the work on this Workflow: the queue takes it for the end of the Workflow itself.
    with pytest.raises(RetryLater):
        run_now(world.reconciler.reconcile(SCHEDULES))
    world.cluster.create = create  # type: ignore[method-assign]
    world.step()
    assert len(world.runs) == 1


def test_a_run_that_was_not_made_because_others_wrote_their_quota_is_made_the_next_time() -> None:
    world = at_noon()
    create = world.cluster.create

    async def contend(body: Json) -> Json:
        raise RetryLater("Operation cannot be fulfilled on resourcequotas")

    world.cluster.create = contend  # type: ignore[method-assign]
    assert world.step() == 0.3
    world.cluster.create = create  # type: ignore[method-assign]
    world.step()
    assert len(world.runs) == 1
    assert world.standings["s"]["lastTime"] == "2026-06-01T12:00:00Z"


def test_a_namespace_whose_runs_cannot_be_read_stops_no_other_one() -> None:
    world = at_noon()
    spec = world.cluster.objects[world.key]["spec"]
    world.cluster.put("Workflow", "video", {"spec": spec}, namespace="other")
    world.watch()
    other = replace(SCHEDULES, namespace="other")
    run_now(world.reconciler.reconcile(other))
    world.watch()
    get = world.cluster.get

    async def refuse(key: Key) -> Json:
        if key.kind == "WorkflowRun" and key.namespace == "studio":
            raise Refused("the API server answered 403")
        return await get(key)

    world.cluster.lose_answer = itertools.chain([True], itertools.repeat(False))
    assert world.step() == 0.3
    world.cluster.get = refuse  # type: ignore[method-assign]
    with pytest.raises(Refused):
        run_now(world.reconciler.reconcile(SCHEDULES))
    world.clock.advance(900.0)
    run_now(world.reconciler.reconcile(other))
    assert [run.key.namespace for run in world.runs if run.scheduled_at == NOON + timedelta(minutes=15)] == [
        "other"
    ]
    # Nobody asks any more once its Workflow is gone, nor for one of its name.
    del world.cluster.objects[world.key]
    world.store.remove_workflow(world.key)
    assert run_now(world.reconciler.reconcile(SCHEDULES)) is None
    world.cluster.put("Workflow", "video", {"spec": {**spec, "suspend": True}})
    world.watch()
    assert run_now(world.reconciler.reconcile(SCHEDULES)) is None


def test_a_run_that_is_refused_is_tried_again_and_stops_no_other_schedule() -> None:
    world = World([schedule("a"), schedule("b")], at=NOON - timedelta(seconds=30))
    world.step()
    world.clock.advance(31.0)
    create, refuse = world.cluster.create, True

    async def quota(body: Json) -> Json:
        if refuse and body["metadata"]["name"].startswith("video.a."):
            raise Refused("the API server answered 403: exceeded quota")
        return await create(body)

    world.cluster.create = quota  # type: ignore[method-assign]
    assert world.step() == 30.0
    assert [run.schedule for run in world.runs] == ["b"]
    assert [(reason, text) for _, reason, text in world.recorder.events] == [
        ("RunRefused", "a: the API server answered 403: exceeded quota")
    ]
    refuse = False
    world.clock.advance(30.0)
    world.step()
    assert sorted(run.schedule for run in world.runs) == ["a", "b"]


def test_a_run_that_may_not_be_ended_is_tried_again_and_stops_no_other_schedule() -> None:
    items = [schedule("r", concurrencyPolicy="Replace"), schedule("other")]
    world = World(items, at=NOON - timedelta(seconds=30), lasts=10_000.0)
    world.live(60.0)
    assert sorted(run.schedule for run in world.runs) == ["other", "r"]
    patch, refuse = world.cluster.patch, True

    async def deny(key: Key, change: Json, *, uid: str) -> Json:
        if refuse:
            raise Refused("the API server answered 422: denied")
        return await patch(key, change, uid=uid)

    world.cluster.patch = deny  # type: ignore[method-assign]
    world.clock.advance(15 * 60.0)
    assert world.step() == 30.0
    assert sorted(run.schedule for run in world.runs) == ["other", "other", "r"]
    before = f"video.r.{int(NOON.timestamp()) // 60}"
    assert [(reason, text) for _, reason, text in world.recorder.events] == [
        ("EndRefused", f"r: {before}: the API server answered 422: denied")
    ]
    refuse = False
    world.clock.advance(30.0)
    world.watch()
    world.step()
    assert sorted(run.schedule for run in world.runs) == ["other", "other", "r", "r"]
    [ended] = [run for run in world.runs if run.spec and run.spec.desired_state == "Terminated"]
    assert ended.key.name == before


def test_a_machine_that_slept_looks_at_the_time_within_a_minute() -> None:
    world = World([schedule(cron="0 0 1 1 *")], at=NOON)
    world.longest_wait = 60.0
    world.restart()
    assert world.step() == 60.0


def test_a_clock_that_was_a_day_ahead_silences_nothing_and_its_runs_are_not_made_twice() -> None:
    world = at_noon(startingDeadline="30m")
    world.step()
    world.clock.advance(86_400.0)
    world.step()
    ahead = {run.scheduled_at for run in world.runs}
    assert max(at for at in ahead if at) > NOON + timedelta(hours=23)
    world.clock.advance(-86_400.0)
    world.live(2 * 3_600.0)
    hours = [NOON + timedelta(minutes=15 * number) for number in range(9)]
    assert ahead | {at for at in hours if at <= world.clock.at} == set(started(world, "s"))
    world.live(24 * 3_600.0)
    assert set(started(world, "s").values()) == {1}


def test_a_long_absence_is_dealt_with_in_parts_that_follow_each_other_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(schedules, "_MOST_EFFECTS", 3)
    parts: list[int] = []
    count = FakeRecorder.count

    def remember(recorder: FakeRecorder, what: str, by: int = 1, **labels: str) -> None:
        if what == "schedule_skips":
            parts.append(by)
        count(recorder, what, by, **labels)

    monkeypatch.setattr(FakeRecorder, "count", remember)
    world = World([schedule(cron="* * * * *", startingDeadline="30s")], at=NOON - timedelta(seconds=30))
    world.step()
    parts.clear()
    world.clock.advance(7 * 86_400.0 + 65.0)
    passes = [world.step()]
    while passes[-1] == 0.0:
        passes.append(world.step())
    # 24 * 60 * 7 minutes of a week; the newest one is 35 seconds old, and so too late as well.
    assert (sum(parts), max(parts)) == (10_081, 1_000)
    assert passes == [0.0, 0.0, 0.0, 25.0]
    assert world.standings["s"]["lastTime"] == "2026-06-08T12:00:00Z"
    assert world.standings["s"]["nextTime"] == "2026-06-08T12:01:00Z"


def test_what_is_late_and_how_late_is_measured() -> None:
    world = at_noon()
    world.step()
    assert world.recorder.counts["schedule_fires"] == 1
    assert world.recorder.counts["schedule_lateness_seconds"] == 1
    world.clock.advance(86_400.0)
    world.step()
    # Each quarter of an hour of a day, but the last one, which is within its deadline.
    assert world.recorder.counts["schedule_skips"] == 95


def _named(came: Iterable[datetime]) -> Iterable[tuple[str, datetime]]:
    return ((f"video.s.{int(at.timestamp()) // 60}", at) for at in came)


@given(kill_at=moments, lose=st.lists(st.booleans(), max_size=40), seed=st.integers(0, 2**16))
@each(10)
def test_run_now_and_backfill_are_done_once_per_id(kill_at: set[int], lose: list[bool], seed: int) -> None:
    begin = datetime(2026, 3, 28, 12, tzinfo=UTC)
    fill = {"id": "march", "start": "2026-03-01T00:00:00Z", "end": "2026-03-03T00:00:00Z"}
    items = [
        schedule("a", "0 * * * *", backfill=fill, runNow="1"),
        schedule("f", "0 * * * *", backfill=fill, concurrencyPolicy="Forbid", suspend=True),
        schedule("r", "0 * * * *", backfill=fill, concurrencyPolicy="Replace", runNow="1"),
    ]
    world = World(items, at=begin, kill_at=kill_at, lose_answers=lose, seed=seed)
    world.live(3_600.0)
    world.change(0, runNow="2")
    world.change(2, runNow="2", backfill={**fill, "id": "march again", "end": "2026-03-01T06:00:00Z"})
    world.live(6 * 3_600.0)
    wanted = [datetime(2026, 3, 1, tzinfo=UTC) + timedelta(hours=n) for n in range(48)]
    assert set(world.made.values()) == {1}
    causes = Counter((name, cause, whose) for name, cause, _, whose in world.made if cause != "Clock")
    assert causes == {
        ("a", "Backfill", "march"): 48,
        ("f", "Backfill", "march"): 48,
        ("r", "Backfill", "march"): causes["r", "Backfill", "march"],
        ("r", "Backfill", "march again"): 6,
        ("a", "Now", "1"): 1,
        ("a", "Now", "2"): 1,
        ("r", "Now", "1"): 1,
        ("r", "Now", "2"): 1,
    }
    assert {at for name, cause, at, _ in world.made if (name, cause) == ("a", "Backfill")} == set(wanted)
    assert started(world, "f") == Counter()
    for name in "afr":
        assert world.standings[name]["backfill"]["done"] is True
    assert world.standings["f"]["backfill"]["started"] == 48
    assert world.most_active["f"] == 1
    assert world.most_active["a"] <= 11
