"""One pass over a ConductorConnection: its Secrets, its client, what the server says; then its status."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace

from podium.core import effects as do
from podium.core.connection import SecretSeen, Seen, decide_connection, report_conditions
from podium.core.definitions import Isolation
from podium.core.effects import ConnectionEffect, Report, Unknown
from podium.core.objects import ConductorConnection, project_connection
from podium.ports import (
    Access,
    Clock,
    Cluster,
    Conductor,
    Dial,
    DialedConductor,
    Gone,
    Json,
    Key,
    LoginRefused,
    PortError,
    Recorder,
    Refused,
)
from podium.reconciler.connections import Connections, Link
from podium.reconciler.store import Store
from podium.reconciler.tracker import RunTracker

log = logging.getLogger(__name__)

_MOST_EFFECTS = 10
# Seconds for requests under way, when the operator ends.
_LONGEST_END = 5.0


class ConnectionReconciler:
    """Keeps a client for each ConductorConnection, and the registry of links up to date."""

    def __init__(
        self,
        cluster: Cluster,
        clock: Clock,
        recorder: Recorder,
        store: Store,
        connections: Connections,
        dial: Dial,
        follow: Callable[[Conductor], RunTracker],
        *,
        wake: Callable[[Key], None],
    ) -> None:
        """`follow(client)`: a tracker for its runs. `wake(key)`: have an object looked at."""
        self._cluster = cluster
        self._clock = clock
        self._recorder = recorder
        self._store = store
        self._connections = connections
        self._dial = dial
        self._follow = follow
        self._wake = wake
        self._clients: dict[Key, tuple[DialedConductor, Access]] = {}
        self._closing: set[asyncio.Task[None]] = set()

    async def open_all(self) -> None:
        """Before anything is reconciled: a client for each, so that nothing is told to be missing."""
        await asyncio.gather(*(self._open(key) for key in self._store.connections))

    async def close_all(self) -> None:
        """The end."""
        for key in list(self._clients):
            self._hang_up(key)
        if self._closing:
            await asyncio.wait(self._closing, timeout=_LONGEST_END)

    async def reconcile(self, key: Key) -> float | None:
        """One pass; seconds until the next one is wanted, if any. Raises PortError to be tried again."""
        connection = self._store.connections.get(key)
        if connection is None:
            self._hang_up(key)
            self._connections.remove(key)
            self._wake_users(key)
            return None
        seen = Seen(connection, dialed=self._dialed(key))
        for _ in range(_MOST_EFFECTS):
            effect = decide_connection(seen)
            if isinstance(effect, Report):
                return await self._report(seen, effect)
            seen = await self._carry_out(seen, effect)
        raise RuntimeError(f"{key}: no report after {_MOST_EFFECTS} effects")

    async def _open(self, key: Key) -> None:
        seen = Seen(self._store.connections[key], dialed=self._dialed(key))
        for _ in range(_MOST_EFFECTS):
            effect = decide_connection(seen)
            if isinstance(effect, do.Describe | Report):
                return
            seen = await self._carry_out(seen, effect)

    def _dialed(self, key: Key) -> tuple[Access, Isolation] | Unknown | None:
        link = self._connections.get(key)
        if isinstance(link, Link):
            return self._clients[key][1], link.isolation
        return link

    # --- doing ---------------------------------------------------------------------------------------

    async def _carry_out(self, seen: Seen, effect: ConnectionEffect) -> Seen:
        key = seen.connection.key
        match effect:
            case do.ReadSecret(name):
                return replace(seen, secrets={**seen.secrets, name: await self._secret(key, name)})
            case do.Dial(access, isolation):
                return await self._open_client(seen, access, isolation)
            case do.HangUp(problem):
                self._replace(key, problem)
                self._hang_up(key)
                return replace(seen, dialed=problem)
            case do.Describe():
                client, _ = self._clients[key]
                try:
                    return replace(seen, facts=await client.describe())
                except LoginRefused as error:
                    return replace(seen, facts=Unknown(str(error), "LoginRefused", stalled=True))
                except PortError as error:
                    return replace(seen, facts=Unknown(str(error)))
            case Report():
                raise AssertionError("a report is not carried out")

    async def _secret(self, key: Key, name: str) -> SecretSeen:
        try:
            return await self._cluster.get_secret(key.namespace, name)
        except Gone:
            return "Absent"
        except PortError as error:
            words = f"Secret {name} cannot be read: {error}"
            # The API server's own words name its user, not what is in the Secret.
            return Unknown(words, "SecretUnreadable")

    async def _open_client(self, seen: Seen, access: Access, isolation: Isolation) -> Seen:
        key, opened = seen.connection.key, replace(seen, dialed=(access, isolation))
        known = self._clients.get(key)
        link = self._connections.get(key)
        if known is not None and isinstance(link, Link) and link.isolation == isolation:
            client, before = known
            if replace(before, credentials=access.credentials) == access:
                # The same server: rotated credentials lose nothing of what is known of it.
                log.info("%s: its credentials have changed", key)
                client.use(access.credentials)
                self._clients[key] = (client, access)
                return opened
        try:
            client = await self._dial(access, lambda: self._wake(key))
        except Refused as error:
            failure = Unknown(f"spec.caSecret: {error}", "InvalidSecret", stalled=True)
            return replace(seen, failure=failure)
        log.info("%s: Conductor at %s", key, access.url)
        self._hang_up(key)
        self._clients[key] = (client, access)
        self._replace(key, Link(client, self._follow(client), isolation, access.url))
        return opened

    def _replace(self, key: Key, link: Link | Unknown) -> None:
        self._connections.put(key, link)
        self._wake_users(key)

    def _hang_up(self, key: Key) -> None:
        """What is under way through the old client ends first; nobody waits for that."""
        if (known := self._clients.pop(key, None)) is not None:
            closing = asyncio.create_task(known[0].close(), name=f"close {key}")
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)

    def _wake_users(self, key: Key) -> None:
        for user in self._connections.users(key):
            self._wake(user)

    # --- reporting -----------------------------------------------------------------------------------

    async def _report(self, seen: Seen, report: Report) -> float | None:
        connection = seen.connection
        again = report.requeue_after.total_seconds() if report.requeue_after else None
        status = report_conditions(seen, report, self._clock.now())
        if status == connection.status:
            return again
        try:
            body = await self._cluster.apply_status(
                connection.key, status, uid=connection.uid, resource_version=connection.resource_version
            )
        except Gone:
            return None
        self._keep(body)
        for note in report.notes:
            self._recorder.event(
                connection.key, connection.uid, kind=note.kind, reason=note.reason, message=note.message
            )
        return again

    def _keep(self, body: Json) -> ConductorConnection:
        connection = project_connection(body)
        known = self._store.connections.get(connection.key)
        # As for runs: a deletion that is known already is not undone by the answer to a write.
        if known is not None and known.uid == connection.uid:
            self._store.put_connection(connection)
        return connection
