"""One replica leads, and the next one takes over when it is gone."""

import asyncio

import pytest

from podium.adapters.clock import SystemClock
from podium.ports import Conflict, Json
from podium.reconciler.lease import LeaderLease
from support.fakes import FakeClock, FakeLeases

DURATION = 15.0


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def leases() -> FakeLeases:
    return FakeLeases()


def contender(leases: FakeLeases, clock: FakeClock, name: str, duration: float = DURATION) -> LeaderLease:
    return LeaderLease(leases, clock, namespace="podium", name="podium", identity=name, duration=duration)


async def test_the_first_leads_and_the_second_stands_by(leases: FakeLeases, clock: FakeClock) -> None:
    one, two = (contender(leases, clock, name) for name in ("one", "two"))
    await one.acquire()
    assert await two._try() == "one"
    assert (one.holds(), two.holds()) == (True, False)


async def test_one_that_renews_is_never_replaced(leases: FakeLeases, clock: FakeClock) -> None:
    one, two = (contender(leases, clock, name) for name in ("one", "two"))
    for _ in range(20):
        assert await one._try() == "one"
        clock.advance(5)
        assert await two._try() == "one"


async def test_one_that_is_gone_is_replaced_and_had_stopped_before(
    leases: FakeLeases, clock: FakeClock
) -> None:
    one, two = (contender(leases, clock, name) for name in ("one", "two"))
    await one.acquire()
    held = []
    while await two._try() != "two":
        held.append(one.holds())
        clock.advance(1)
    assert not one.holds()
    assert held[0]
    assert not held[-1]
    assert clock.monotonic() == DURATION
    assert leases.kept["podium", "podium"]["spec"]["leaseTransitions"] == 1
    assert await one._try() == "two"


async def test_clocks_of_machines_differ(leases: FakeLeases, clock: FakeClock) -> None:
    fast = FakeClock()
    fast.advance(30)  # ahead by twice the duration: judged by its own watching, not by the other's stamp
    one, two = contender(leases, clock, "one"), contender(leases, fast, "two")
    for _ in range(10):
        assert await one._try() == "one"
        assert await two._try() == "one"
        clock.advance(5)
        fast.advance(5)


async def test_given_back_it_is_free_at_once(leases: FakeLeases, clock: FakeClock) -> None:
    one, two = (contender(leases, clock, name) for name in ("one", "two"))
    await one.acquire()
    await one.release()
    assert await two._try() == "two"
    await one.release()  # it is another's now: nothing happens
    assert leases.kept["podium", "podium"]["spec"]["holderIdentity"] == "two"


async def test_of_two_at_the_same_moment_one_wins(leases: FakeLeases, clock: FakeClock) -> None:
    one, two = (contender(leases, clock, name) for name in ("one", "two"))
    await one.acquire()
    stale = await leases.get_lease("podium", "podium")
    await one._try()
    with pytest.raises(Conflict):
        await leases.put_lease("podium", "podium", stale, create=False)
    assert await two._try() == "one"


async def test_a_leader_that_cannot_renew_gives_up_before_another_can_lead(
    leases: FakeLeases, clock: FakeClock
) -> None:
    one = contender(leases, clock, "one", duration=0.03)
    await one.acquire()
    lost = asyncio.Event()
    leases.away = lambda: True
    clock.advance(0.03 * 0.8)
    await asyncio.wait_for(one.keep(lost.set), 5)
    assert lost.is_set()


async def test_an_answer_that_does_not_come_makes_nobody_lead_too_long(
    leases: FakeLeases, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The moment is kept although the API server takes the request and is silent."""
    one = LeaderLease(leases, SystemClock(), namespace="podium", name="podium", identity="one", duration=0.5)
    await one.acquire()

    async def silence(*_: object, **__: object) -> Json:
        await asyncio.sleep(60)
        return {}

    monkeypatch.setattr(leases, "get_lease", silence)
    lost = asyncio.Event()
    begun = asyncio.get_running_loop().time()
    await asyncio.wait_for(one.keep(lost.set), 5)
    assert lost.is_set()
    assert asyncio.get_running_loop().time() - begun < 0.5
