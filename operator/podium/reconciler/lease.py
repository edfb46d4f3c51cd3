"""One replica leads: a Lease is taken first, and everything else starts after."""

import asyncio
import logging
import os
import secrets
import socket
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Protocol, Self

from podium.core.durations import format_precise_time, parse_time
from podium.ports import Clock, Conflict, Gone, Json, PortError

log = logging.getLogger(__name__)


class Leases(Protocol):
    """Where Leases are kept."""

    async def get_lease(self, namespace: str, name: str) -> Json:
        """Raises Gone."""
        ...

    async def put_lease(self, namespace: str, name: str, body: Json, *, create: bool) -> Json:
        """Raises Conflict."""
        ...


class LeaderLease:
    """Takes and keeps a coordination.k8s.io Lease."""

    def __init__(
        self, leases: Leases, clock: Clock, *, namespace: str, name: str, identity: str, duration: float
    ) -> None:
        self._leases = leases
        self._clock = clock
        self._namespace = namespace
        self._name = name
        self._identity = identity
        self._duration = duration
        self._seen: tuple[str, datetime] | None = None
        self.renewed: datetime | None = None

    @classmethod
    def of(cls, name: str, leases: Leases, clock: Clock, duration: float) -> Self:
        """The Lease of this name (namespace/name; without a namespace, `default`), for this process."""
        namespace, _, plain = name.rpartition("/")
        identity = f"{socket.gethostname()}_{os.getpid()}_{secrets.token_hex(3)}"
        return cls(
            leases,
            clock,
            namespace=namespace or "default",
            name=plain,
            identity=identity,
            duration=duration,
        )

    async def acquire(self) -> None:
        """Wait until this process leads."""
        told = ""
        while True:
            try:
                holder = await self._try()
            except (Conflict, PortError) as error:
                holder = f"? ({error})"
            if holder == self._identity:
                return
            if holder != told:
                log.info("standing by: %s/%s is held by %s", self._namespace, self._name, holder)
                told = holder
            await asyncio.sleep(min(2.0, self._duration / 4))

    async def keep(self, on_lost: Callable[[], None]) -> None:
        """Renew until cancelled; call `on_lost` once the Lease may be another's.

        Never later, however long an answer takes: the moment is waited for, not looked for afterwards.
        """
        rest = self._duration / 3
        while self.holds():
            await asyncio.sleep(min(rest, self._left()))
            try:
                async with asyncio.timeout(self._left()):
                    if await self._try() != self._identity:
                        break
                rest = self._duration / 3
            except (PortError, TimeoutError) as error:
                log.warning("the Lease was not renewed: %s", str(error) or "no answer in time")
                rest = min(1.0, self._duration / 15)
        on_lost()

    def holds(self) -> bool:
        """Whether nobody else can have taken it yet."""
        return self._left() > 0

    def _left(self) -> float:
        """Seconds until someone else might have taken it."""
        if self.renewed is None:
            return 0.0
        return self._duration * 0.8 - (self._clock.now() - self.renewed).total_seconds()

    async def release(self) -> None:
        """Give it back, so that the next one need not wait."""
        try:
            lease = await self._leases.get_lease(self._namespace, self._name)
            if lease["spec"].get("holderIdentity") == self._identity:
                lease["spec"] |= {"holderIdentity": "", "leaseDurationSeconds": 1}
                await self._leases.put_lease(self._namespace, self._name, lease, create=False)
        except PortError:
            log.debug("the Lease was not given back; it runs out by itself")

    async def _try(self) -> str:
        """Take or renew it if that is allowed; who holds it then."""
        now = self._clock.now()
        spec: Json = {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": max(1, int(self._duration)),
            "renewTime": format_precise_time(now),
        }
        try:
            lease = await self._leases.get_lease(self._namespace, self._name)
        except Gone:
            body = {
                "apiVersion": "coordination.k8s.io/v1",
                "kind": "Lease",
                "metadata": {"name": self._name, "namespace": self._namespace},
                "spec": spec | {"acquireTime": spec["renewTime"], "leaseTransitions": 0},
            }
            await self._leases.put_lease(self._namespace, self._name, body, create=True)
            self.renewed = now
            return self._identity
        held = lease["spec"]
        holder = held.get("holderIdentity") or ""
        if holder and holder != self._identity and not self._ran_out(held, now):
            return str(holder)
        if holder != self._identity:
            spec |= {
                "acquireTime": spec["renewTime"],
                "leaseTransitions": int(held.get("leaseTransitions") or 0) + 1,
            }
        lease["spec"] = {**held, **spec}
        await self._leases.put_lease(self._namespace, self._name, lease, create=False)
        self.renewed = now
        return self._identity

    def _ran_out(self, held: Json, now: datetime) -> bool:
        """By our own clock since we first saw this renewal: clocks of machines differ."""
        renewal = str(held.get("renewTime") or "")
        if self._seen is None or self._seen[0] != renewal:
            self._seen = (renewal, now)
            # A holder whose renewal is long past needs no second look.
            if renewal and now - parse_time(renewal) < timedelta(seconds=3 * self._duration):
                return False
        return now - self._seen[1] >= timedelta(seconds=float(held.get("leaseDurationSeconds") or 1)) or (
            bool(renewal) and now - parse_time(renewal) >= timedelta(seconds=3 * self._duration)
        )
