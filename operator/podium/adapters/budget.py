"""How much may be asked of a server: requests wait for their turn, none fails for it."""

import math
import time
from dataclasses import dataclass

from aiolimiter import AsyncLimiter

# Requests that may come at once are a tenth of a second's: "a second" is then true of any second.
_BURST = 0.1


@dataclass
class Traffic:
    """What all clients together asked and waited, since the start."""

    requests: int = 0
    waited: float = 0.0
    """Seconds that requests waited for their budget."""


class Budget:
    """So many requests a second at most."""

    def __init__(self, requests_per_second: float, traffic: Traffic) -> None:
        burst = max(1, math.ceil(requests_per_second * _BURST))
        self._limiter = AsyncLimiter(burst, burst / requests_per_second)
        self._traffic = traffic

    async def take(self) -> None:
        """Wait until one more request is within the budget."""
        if self._limiter.has_capacity():
            await self._limiter.acquire()
            return
        before = time.monotonic()
        try:
            await self._limiter.acquire()
        finally:
            self._traffic.waited += time.monotonic() - before
