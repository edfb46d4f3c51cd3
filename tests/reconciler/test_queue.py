"""Keys are looked at once, in time, in turn, and again after a failure."""

import asyncio
import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podium.ports import Key
from podium.reconciler.queue import KeyedQueue
from support.fakes import FakeClock, run_now

A, B, C = (Key("WorkflowRun", "studio", name) for name in "abc")


def queue() -> tuple[KeyedQueue, FakeClock]:
    clock = FakeClock()
    return KeyedQueue(clock.monotonic, seed=1), clock


def take_due(keys: KeyedQueue, *, settle: bool = True) -> list[Key]:
    """Everything that is due now, in order."""
    taken = []
    while min(keys._due.values(), default=math.inf) <= keys._now():
        taken.append(run_now(keys.take()))
        if settle:
            keys.done(taken[-1])
    return taken


def test_what_is_added_twice_is_taken_once() -> None:
    keys, _ = queue()
    for _ in range(3):
        keys.add(A)
    assert len(keys) == 1
    assert take_due(keys) == [A]
    assert len(keys) == 0


def test_the_earlier_of_two_delays_wins() -> None:
    keys, clock = queue()
    keys.add(A, 10)
    keys.add(A, 2)
    keys.add(A, 30)
    clock.advance(1)
    assert take_due(keys) == []
    clock.advance(1)
    assert take_due(keys) == [A]
    clock.advance(100)
    assert take_due(keys) == []


def test_what_is_added_while_it_is_worked_on_is_taken_again_afterwards() -> None:
    keys, _ = queue()
    keys.add(A)
    assert take_due(keys, settle=False) == [A]
    keys.add(A)
    keys.add(A, 5)
    assert take_due(keys) == []
    keys.done(A)
    assert take_due(keys) == [A]


def test_an_event_while_it_failed_does_not_wait_for_the_back_off() -> None:
    keys, _ = queue()
    keys.add(A)
    take_due(keys, settle=False)
    keys.add(A)
    keys.done(A, failed=True)
    assert take_due(keys) == [A]


def test_first_come_first_served() -> None:
    keys, clock = queue()
    for key in (A, B, C):
        keys.add(key)
    clock.advance(1)
    keys.add(B)
    assert take_due(keys) == [A, B, C]


def test_one_that_comes_back_at_once_starves_nobody() -> None:
    keys, clock = queue()
    for key in (A, B, C):
        keys.add(key)
    taken = []
    for _ in range(6):
        key = run_now(keys.take())
        taken.append(key)
        clock.advance(0.01)
        keys.done(key, again_after=0)
    assert taken == [A, B, C, A, B, C]


def test_failures_are_repeated_later_and_later_and_a_success_forgives_them() -> None:
    keys, clock = queue()
    waits = []
    keys.add(A)
    for _ in range(14):
        [key] = take_due(keys, settle=False)
        keys.done(key, failed=True)
        waits.append(keys._due[A] - clock.monotonic())
        clock.advance(waits[-1] + 0.001)
    assert 0.14 <= waits[0] <= 0.26
    assert all(after > before for before, after in pairwise(waits[:3:2]))
    assert all(42 <= wait <= 78 for wait in waits[-3:])
    [key] = take_due(keys, settle=False)
    keys.done(key)
    keys.add(A)
    [key] = take_due(keys, settle=False)
    keys.done(key, failed=True)
    assert keys._due[A] - clock.monotonic() <= 0.26


@given(st.lists(st.tuples(st.sampled_from([A, B, C]), st.floats(0, 10)), max_size=20))
def test_nothing_is_lost_and_nothing_is_early(added: list[tuple[Key, float]]) -> None:
    keys, clock = queue()
    earliest: dict[Key, float] = {}
    for key, delay in added:
        keys.add(key, delay)
        earliest[key] = min(delay, earliest.get(key, delay))
    taken: dict[Key, float] = {}
    for key, at in sorted(earliest.items(), key=lambda item: item[1]):
        clock.advance(max(0.0, at - clock.monotonic()) + 1e-5)
        for due in take_due(keys):
            assert due not in taken
            taken[due] = clock.monotonic()
        assert key in taken
    assert all(taken[key] >= at for key, at in earliest.items())


@pytest.mark.parametrize("workers", [1, 3])
async def test_who_waits_is_woken(workers: int) -> None:
    keys, _ = queue()
    waiting = [asyncio.create_task(keys.take()) for _ in range(workers)]
    await asyncio.sleep(0)
    for key in (A, B, C)[:workers]:
        keys.add(key)
    assert set(await asyncio.wait_for(asyncio.gather(*waiting), 5)) == {A, B, C} & set((A, B, C)[:workers])


def test_times_that_were_superseded_do_not_pile_up() -> None:
    keys, clock = queue()
    for number in range(1000):
        keys.add(A, 7 * 86_400)  # a due time far away, and something that happens before it, again and again
        keys.add(A, 1)
        clock.advance(1)
        assert take_due(keys) == [A], number
    assert len(keys._heap) < 100
    keys.add(B, 5)
    keys.add(C, 3)
    clock.advance(6)
    assert take_due(keys) == [C, B]


def test_what_failed_is_hastened_and_nothing_else() -> None:
    keys, clock = queue()
    keys.add(A)
    for _ in range(12):
        assert take_due(keys, settle=False) == [A]
        keys.done(A, failed=True)
        clock.advance(100)
    assert take_due(keys, settle=False) == [A]
    keys.done(A, failed=True)
    keys.add(B, delay=1_000)
    keys.hasten(5)
    clock.advance(5)
    assert take_due(keys) == [A]


def test_a_server_that_asks_for_a_rest_gets_it() -> None:
    keys, clock = queue()
    keys.add(A)
    take_due(keys, settle=False)
    keys.done(A, failed=True, rest=10)
    clock.advance(9.9)
    assert take_due(keys) == []
    clock.advance(5.2)
    assert take_due(keys) == [A]
