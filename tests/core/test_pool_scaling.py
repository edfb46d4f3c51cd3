"""The law of scaling: up at once, down calmly, never below what works, and not at all on no news."""

import math
import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podium.core.pools.scaling import Limits, Memory, Need, Verdict, decide_replicas

BEGINNING = datetime(2026, 1, 1, tzinfo=UTC)
LIMITS = Limits(
    concurrency=5,
    least=0,
    most=20,
    idle=0,
    utilization=0.8,
    window=timedelta(seconds=60),
    cooldown=timedelta(minutes=5),
)


class Pool:
    """A pool whose pods come and go at once."""

    def __init__(self, limits: Limits = LIMITS, replicas: int = 0) -> None:
        self.limits = limits
        self.replicas = replicas
        self.now = BEGINNING
        self.memory = Memory(since=self.now, begun=self.now)
        self.history: list[Verdict] = []

    def sees(self, need: Need, after: float = 2.0) -> Verdict:
        self.now += timedelta(seconds=after)
        verdict, self.memory = decide_replicas(self.limits, self.replicas, need, self.memory, self.now)
        self.history.append(verdict)
        self.replicas = verdict.replicas
        return verdict


def need(queued: int | None = 0, busy: int = 0, **more: object) -> Need:
    return Need(queued, busy, busy_pods=math.ceil(busy / 5), **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("queued", "busy", "wanted"),
    [
        (1, 0, 1),
        (4, 0, 1),  # four of five slots are 80 %
        (5, 0, 2),
        (7, 11, 5),
        (1000, 0, 20),
        (0, 8, 2),
        (0, 0, 0),
    ],
)
def test_as_many_pods_as_busy_and_queued_tasks_need(queued: int, busy: int, wanted: int) -> None:
    assert Pool().sees(need(queued, busy)).replicas == wanted


def test_a_backlog_is_answered_at_once_and_says_why() -> None:
    pool = Pool(replicas=1)
    verdict = pool.sees(need(queued=18, busy=5))
    assert (verdict.replicas, verdict.why) == (6, "Backlog")
    assert verdict.message == "5 busy + 18 queued at 5 a pod, 80%"


def test_more_than_may_be_is_said() -> None:
    verdict = Pool().sees(need(queued=200))
    assert verdict.replicas == 20
    assert verdict.capped


def test_it_shrinks_only_after_the_window_and_to_what_was_needed_within_it() -> None:
    pool = Pool(replicas=10)
    assert pool.sees(need(busy=40)).replicas == 10
    times = 0
    while pool.sees(need(busy=8)).replicas == 10:
        times += 1
        assert times < 40
    assert times >= 29, "sixty seconds at two seconds a look"
    assert pool.replicas == math.ceil(8 * 1.2 / 4)
    assert pool.history[-1].why == "LessToDo"


def test_the_last_pod_goes_after_the_cooldown_and_no_sooner() -> None:
    pool = Pool()
    pool.sees(need(queued=1))
    gone_after = 0.0
    while pool.sees(need()).replicas:
        gone_after += 2.0
        assert gone_after < 400
    assert 298 <= gone_after <= 302
    assert pool.history[-1].why == "Idle"


def test_work_that_lasted_long_without_a_change_counts_until_it_ends() -> None:
    pool = Pool(replicas=1)
    pool.sees(need(busy=5))
    # Nothing moved for an hour, so nobody looked at the pool.
    assert pool.sees(need(), after=3600).replicas >= 1
    assert pool.sees(need(), after=200).replicas == 1
    assert pool.sees(need(), after=101).replicas == 0


def test_idle_replicas_stay_when_there_is_nothing_to_do_and_min_replicas_while_there_is() -> None:
    pool = Pool(replace(LIMITS, least=4, idle=1))
    assert pool.sees(need(queued=1)).replicas == 4
    for _ in range(200):
        pool.sees(need())
    assert pool.replicas == 1


def test_what_will_need_it_soon_wakes_it_from_zero_and_keeps_one() -> None:
    pool = Pool()
    verdict = pool.sees(need(soon="video-1 runs"))
    assert (verdict.replicas, verdict.why) == (1, "NeededSoon")
    for _ in range(500):
        pool.sees(need(soon="video-1 runs"))
    assert pool.replicas == 1


def test_an_outage_shrinks_nothing_however_long() -> None:
    pool = Pool(replicas=7)
    pool.sees(need(busy=28))
    for _ in range(3000):
        assert pool.sees(need(queued=None)).replicas == 7
    # Back again, it still takes the window and the cooldown.
    assert pool.sees(need()).replicas == 7


def test_a_pool_at_rest_below_its_min_replicas_stays_there_on_no_news_and_after_a_restart() -> None:
    pool = Pool(replace(LIMITS, least=2, idle=0))
    for _ in range(200):
        pool.sees(need())
    assert pool.replicas == 0
    assert pool.sees(need(queued=None)).replicas == 0
    pool.memory = Memory(since=pool.now, begun=pool.now)
    assert pool.sees(need()).replicas == 0
    assert pool.sees(need(queued=1)).replicas == 2


def test_after_an_outage_in_which_nothing_moved_a_whole_window_is_seen_first() -> None:
    pool = Pool(replicas=20)
    pool.sees(need(busy=80))
    pool.sees(need(queued=None))
    # Only what moves makes a pass.
    assert pool.sees(need(busy=5), after=600).replicas == 20
    assert pool.sees(need(busy=5), after=58).replicas == 20
    assert pool.sees(need(busy=5), after=4).replicas < 20


def test_pods_that_did_not_answer_are_looked_at_again_soon() -> None:
    pool = Pool(replicas=3)
    assert pool.sees(need(unseen_pods=1)).look_again == timedelta(seconds=5)
    assert pool.sees(need(queued=None)).look_again is None


def test_an_unseen_pod_holds_but_a_known_backlog_still_grows_it() -> None:
    pool = Pool(replicas=3)
    for _ in range(300):
        assert pool.sees(need(busy=0, unseen_pods=1)).replicas == 3
    assert pool.sees(need(queued=40, unseen_pods=1)).replicas == 10


def test_the_fallback_comes_after_its_time_and_never_shrinks() -> None:
    limits = replace(LIMITS, fallback_after=timedelta(minutes=10), fallback=4)
    pool = Pool(limits, replicas=2)
    pool.sees(need(busy=8))
    pool.sees(need(queued=None))
    verdict = pool.sees(need(queued=None), after=400)
    assert (verdict.replicas, verdict.look_again) == (2, timedelta(seconds=200))
    verdict = pool.sees(need(queued=None), after=200)
    assert (verdict.replicas, verdict.why) == (4, "Fallback")
    large = Pool(limits, replicas=9)
    for _ in range(3):
        assert large.sees(need(queued=None), after=3600).replicas == 9


def test_less_than_max_replicas_allow_now_holds_at_once_but_for_pods_at_work() -> None:
    pool = Pool(replicas=12)
    pool.sees(need(busy=30))
    pool.limits = replace(LIMITS, most=3)
    verdict = pool.sees(Need(0, 30, busy_pods=8))
    assert (verdict.replicas, verdict.why) == (8, "MaxReplicas")


@given(st.integers(0, 2**32 - 1), st.integers(3, 90))
def test_a_steady_load_with_a_fifth_of_noise_never_turns_it_round(seed: int, load: int) -> None:
    """Twenty minutes, a look each two seconds."""
    chance = random.Random(seed)
    pool = Pool(replace(LIMITS, most=100))
    for _ in range(600):
        tasks = round(load * chance.uniform(0.8, 1.2))
        busy = min(tasks, pool.replicas * 5)
        pool.sees(Need(tasks - busy, busy, busy_pods=min(pool.replicas, busy)))
    moves = [
        later.replicas - before.replicas
        for before, later in zip(pool.history, pool.history[1:], strict=False)
        if later.replicas != before.replicas
    ]
    assert all(move > 0 for move in moves), f"it turned round: {moves}"


needs = st.builds(
    Need,
    queued=st.none() | st.integers(0, 300),
    busy=st.integers(0, 100),
    busy_pods=st.integers(0, 25),
    unseen_pods=st.integers(0, 3),
    soon=st.sampled_from(["", "a run"]),
)
limits = st.builds(
    Limits,
    concurrency=st.integers(1, 50),
    least=st.integers(0, 5),
    most=st.integers(5, 40),
    idle=st.just(0),
    utilization=st.floats(0.01, 1.0),
    window=st.integers(0, 300).map(lambda seconds: timedelta(seconds=seconds)),
    cooldown=st.integers(0, 600).map(lambda seconds: timedelta(seconds=seconds)),
    fallback_after=st.none() | st.just(timedelta(minutes=10)),
    fallback=st.integers(0, 5),
)


@given(limits, st.integers(0, 60), st.lists(st.tuples(needs, st.integers(0, 900)), max_size=30))
def test_the_laws_hold_for_every_story(limits: Limits, replicas: int, story: list[tuple[Need, int]]) -> None:
    pool = Pool(limits, replicas)
    for moment, seconds in story:
        before = pool.replicas
        verdict = pool.sees(moment, after=seconds)
        after = verdict.replicas
        assert (verdict.why is None) == (after == before), "what changes has a reason"
        if after < before:
            assert moment.known, "never on no news"
            assert after >= min(before, moment.busy_pods), "never below the pods that work"
            assert after or not moment.active, "zero only with nothing to do"
        if after > before:
            assert after <= limits.most
        if moment.active and limits.most:
            assert after >= 1, "what waits is served"
        if moment.known and not verdict.capped:
            slots = after * limits.concurrency * limits.utilization
            assert slots + 1e-6 >= moment.slots, "as many as are needed, at once"
