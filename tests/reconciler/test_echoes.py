"""A watch that does not tell of what was written is deaf."""

from hypothesis import given
from hypothesis import strategies as some

from podium.ports import Key
from podium.reconciler.echoes import Echoes
from support.fakes import FakeClock

KEY = Key("WorkflowRun", "studio", "v1")


def silence() -> tuple[Echoes, FakeClock]:
    clock = FakeClock()
    return Echoes(clock.monotonic), clock


def test_what_is_heard_in_time_is_no_matter() -> None:
    echoes, clock = silence()
    echoes.wrote(KEY, "7")
    clock.advance(10)
    assert not echoes.is_late()
    echoes.heard(KEY, "7")
    clock.advance(100)
    assert not echoes.is_late()


def test_what_is_not_heard_is_late() -> None:
    echoes, clock = silence()
    echoes.heard(KEY, "6")
    echoes.wrote(KEY, "7")
    clock.advance(10)
    echoes.wrote(KEY, "8")
    echoes.heard(KEY, "7")
    clock.advance(6)
    assert echoes.is_late()
    echoes.forgive()
    assert not echoes.is_late()


def test_a_write_that_changed_nothing_brings_no_event_and_awaits_none() -> None:
    echoes, clock = silence()
    echoes.heard(KEY, "7")
    echoes.wrote(KEY, "7")
    clock.advance(100)
    assert not echoes.is_late()


def test_what_is_gone_is_awaited_no_more() -> None:
    echoes, clock = silence()
    echoes.wrote(KEY, "7")
    echoes.gone(KEY)
    clock.advance(100)
    assert not echoes.is_late()


@given(some.lists(some.integers(1, 50), min_size=1).flatmap(some.permutations), some.integers(0, 50))
def test_in_whatever_order_they_come_hearing_the_last_is_enough(versions: list[int], moment: int) -> None:
    """The event may be quicker than the answer to the write."""
    echoes, clock = silence()
    for number, version in enumerate(versions):
        if number == moment:
            echoes.heard(KEY, str(max(versions)))
        echoes.wrote(KEY, str(version))
    if moment >= len(versions):
        echoes.heard(KEY, str(max(versions)))
    clock.advance(100)
    assert not echoes.is_late()
