"""Laws of the circuit breaker: what takes a connection down, and what brings it back."""

import itertools
from datetime import UTC, datetime, timedelta
from typing import get_args

from hypothesis import given
from hypothesis import strategies as some

from podium.core.outage import ENOUGH_GOOD, MOST_BROKEN, MOST_SILENT, Breaker, Outcome

NOW = datetime(2026, 1, 1, 12, 3, 4, tzinfo=UTC)
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)
Step = tuple[Outcome, bool]
steps = some.lists(some.tuples(some.sampled_from(OUTCOMES), some.booleans()), max_size=60)


def walk(taken: list[Step], breaker: Breaker | None = None) -> list[Breaker]:
    """The breaker before and after each step, a second apart."""
    seen = [breaker or Breaker()]
    for number, (outcome, probe) in enumerate(taken):
        at = NOW + timedelta(seconds=number)
        seen.append(seen[-1].after(outcome, at, why=f"{outcome} {number}", probe=probe))
    return seen


@given(steps)
def test_an_open_one_is_left_only_by_a_probe_that_is_answered(taken: list[Step]) -> None:
    seen = walk(taken)
    for (outcome, probe), before, after in zip(taken, seen, seen[1:], strict=False):
        if before.state == "Open" and after.state != "Open":
            assert (outcome, probe, after.state) == ("fine", True, "HalfOpen")


@given(steps)
def test_words_and_time_of_an_outage_stay_until_it_is_over(taken: list[Step]) -> None:
    told = [breaker.outage for breaker in walk(taken)]
    for before, after in itertools.pairwise(told):
        assert before is None or after is None or before == after


@given(steps)
def test_it_opens_only_after_a_row_of_failures(taken: list[Step]) -> None:
    seen = walk(taken)
    for number, (before, after) in enumerate(itertools.pairwise(seen)):
        if before.state != "Closed" or after.state != "Open":
            continue
        row: list[Outcome] = []
        for outcome, _ in reversed(taken[: number + 1]):
            if outcome == "fine":
                break
            row.append(outcome)
        assert row[0] == "refused" or row.count("silent") >= MOST_SILENT or row.count("broken") >= MOST_BROKEN


@given(steps)
def test_good_probes_always_close_it_and_leave_no_trace(taken: list[Step]) -> None:
    last = walk(taken)[-1]
    assert walk([("fine", True)] * ENOUGH_GOOD, last)[-1] == Breaker()


@given(some.lists(some.sampled_from(["silent", "broken"]), max_size=40))
def test_one_broken_object_among_good_ones_takes_nothing_down(failures: list[Outcome]) -> None:
    taken: list[Step] = [step for outcome in failures for step in ((outcome, False), ("fine", False))]
    assert {breaker.state for breaker in walk(taken)} == {"Closed"}


@given(steps)
def test_what_failed_to_connect_opens_it_at_once(taken: list[Step]) -> None:
    last = walk(taken)[-1]
    assert last.after("refused", NOW, why="no").state == "Open"


def test_the_words_say_what_and_since_when() -> None:
    outage = Breaker().after("refused", NOW, why="no connection: refused").outage
    assert outage is not None
    assert outage.since == NOW
    assert outage.message == "no connection: refused, since 12:03:04Z"


def test_since_is_the_first_failure_of_the_row() -> None:
    seen = walk([("silent", False)] * MOST_SILENT)
    assert [breaker.state for breaker in seen] == ["Closed"] * MOST_SILENT + ["Open"]
    outage = seen[-1].outage
    assert outage is not None
    assert outage.since == NOW
