"""The gate before a server: the circuit breaker at work.

While the server is away nothing passes but one small probe every few seconds, and what asks fails
at once, so that nothing storms when it returns. A server that takes requests and is silent is found
out by the same probe, long before a long request runs out of time.
"""

import asyncio
import contextlib
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime

from podium.core.outage import Breaker, Outcome
from podium.ports import NotSent, Outage

log = logging.getLogger(__name__)

Probe = Callable[[], Awaitable[tuple[Outcome, str]]]

# Seconds between two probes of a server that is away: apart, so that replicas do not keep time.
_REST = (1.0, 3.0)
_LONGEST_REST = 60.0
_SHORT_REST = (0.1, 0.3)
# Requests at once to a server that has just come back.
_FEW = 2
# So long nothing at all may be heard while something waits for an answer; then it is probed.
_QUIET = 5.0
_LOOK = 0.5
# A server that is back answers within this time what it took before; else the connection is dead.
_GRACE = 3.0


class Gate:
    """Lets requests pass, or not. `async with gate.minded():`, and in it `async with gate.passing():`"""

    def __init__(self, what: str, probe: Probe, *, at_once: int) -> None:
        """`what`: the server in words. `probe()`: a small request past the gate; it never raises."""
        self._what = what
        self._probe = probe
        self._at_once = at_once
        self._turns = asyncio.Semaphore(at_once)
        self._few = asyncio.Semaphore(_FEW)
        self._breaker = Breaker()
        self._flying: dict[asyncio.Timeout, tuple[float, bool]] = {}
        """Requests under way: since when, and whether they are patient."""
        self._heard = self._not_before = 0.0
        self.passed = 0
        """Requests that passed so far, probes included."""
        self._moved = asyncio.Event()
        self._minding: asyncio.Task[None] | None = None

    @property
    def outage(self) -> Outage | None:
        """Since when the server is away, if it is."""
        return self._breaker.outage

    @contextlib.asynccontextmanager
    async def minded(self) -> AsyncIterator[None]:
        """Probe, as long as this is open, whenever there is a reason to."""
        self._minding = asyncio.create_task(self._mind(), name=f"probe {self._what}")
        try:
            yield
        finally:
            self._minding.cancel()
            await asyncio.gather(self._minding, return_exceptions=True)

    @contextlib.asynccontextmanager
    async def passing(self, *, patient: bool = False) -> AsyncIterator[None]:
        """One request. Raises NotSent if the server is away.

        When it goes away meanwhile, the request is given up with TimeoutError: nothing better will
        come. A `patient` one is not, as whether it was carried out matters too much: only when the
        server is back, and still does not answer it, its connection must be dead.
        """
        self._refuse_if_away()
        async with self._turns, contextlib.AsyncExitStack() as few:
            if self._breaker.state == "HalfOpen":
                await few.enter_async_context(self._few)
            self._refuse_if_away()
            self.passed += 1
            now = asyncio.get_running_loop().time()
            async with asyncio.timeout(None) as limit:
                self._flying[limit] = (now, patient)
                try:
                    yield
                finally:
                    del self._flying[limit]

    @contextlib.asynccontextmanager
    async def emptied(self) -> AsyncIterator[None]:
        """Let what is under way end; nothing passes meanwhile."""
        async with contextlib.AsyncExitStack() as turns:
            for _ in range(self._at_once):
                await turns.enter_async_context(self._turns)
            yield

    def tell(self, outcome: Outcome, why: str = "", *, probe: bool = False, after: float = 0.0) -> None:
        """What came of a request. `after`: seconds that the server asks to be left alone."""
        if after > 0:
            self._not_before = asyncio.get_running_loop().time() + min(after, _LONGEST_REST)
        if outcome != "silent":
            self._heard = asyncio.get_running_loop().time()
        before = self._breaker
        self._breaker = before.after(outcome, datetime.now(UTC), why=why, probe=probe)
        if before.state == self._breaker.state:
            return
        self._moved.set()
        if self._breaker.state == "Open":
            if before.state == "Closed" and self.outage is not None:
                log.warning("%s; only probes are sent until it answers", self.outage.message)
            self._give_up(patient=False, after=0.0)
        elif self._breaker.state == "Closed" and before.since is not None:
            gone = (datetime.now(UTC) - before.since).total_seconds()
            log.info("%s answers again after %.1f s", self._what, gone)
            self._give_up(patient=True, after=_GRACE)

    def _give_up(self, *, patient: bool, after: float) -> None:
        now = asyncio.get_running_loop().time()
        for limit, (_, is_patient) in self._flying.items():
            if is_patient == patient:
                with contextlib.suppress(RuntimeError):  # it is on its way out already
                    limit.reschedule(now + after)

    def _refuse_if_away(self) -> None:
        if self._breaker.state == "Open" and self.outage is not None:
            raise NotSent(self.outage.message)

    async def _mind(self) -> None:
        while True:
            self._moved.clear()
            match self._breaker.state:
                case "Closed":
                    await self._rest(_LOOK)
                    if self._moved.is_set() or not self._is_too_quiet():
                        continue
                case "Open":
                    asked = self._not_before - asyncio.get_running_loop().time()
                    await asyncio.sleep(max(0.0, asked) + random.uniform(*_REST))
                case "HalfOpen":
                    await self._rest(random.uniform(*_SHORT_REST))
            self.passed += 1
            try:
                outcome, why = await self._probe()
            except Exception as error:
                # A gate that nobody minds would stay as it is for ever.
                log.exception("a probe of %s", self._what)
                outcome, why = "broken", f"{self._what} cannot be probed: {error!r:.100}"
            self.tell(outcome, why, probe=True)

    async def _rest(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._moved.wait()

    def _is_too_quiet(self) -> bool:
        if not self._flying:
            return False
        oldest = min(since for since, _ in self._flying.values())
        return asyncio.get_running_loop().time() - max(self._heard, oldest) > _QUIET
