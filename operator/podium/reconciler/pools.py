"""One pass over a WorkerPool: look, decide, do, until nothing is left to do; then one status write."""

import logging
from dataclasses import replace
from datetime import datetime, timedelta

from podium.core import effects as do
from podium.core.definitions.findings import did_you_mean
from podium.core.effects import PoolEffect, Report, Unknown
from podium.core.objects import WorkerPool, project_worker_pool
from podium.core.pools.decide import Applied, Assessment, Seen, decide_pool
from podium.core.pools.manifests import Surroundings, hash_manifest
from podium.core.pools.pods import DELETION_COST, project_pod
from podium.core.pools.report import build_report, report_conditions
from podium.core.pools.scaling import Memory
from podium.core.pools.workflows import Uses, limits_in, longest_task_in, uses_of
from podium.ports import (
    Clock,
    Cluster,
    Conflict,
    Gone,
    Json,
    Key,
    PortError,
    Recorder,
    Refused,
    Workloads,
)
from podium.reconciler.connections import Connections, Link
from podium.reconciler.fleet import Fleet
from podium.reconciler.look import Look, domain_of
from podium.reconciler.store import Store

log = logging.getLogger(__name__)

_MOST_EFFECTS = 500
# Numbers that move all the time are written this often; what was decided is written at once.
_NUMBERS_INTERVAL = timedelta(seconds=10)
# Whether there is any work at all is news.
_BEGIN_INTERVAL = timedelta(seconds=2)
_LOOK_FOR_TYPES = timedelta(seconds=60)
# Seconds. The first list of pods and Deployments is under way.
_UNTIL_LISTED = 0.2


class PoolReconciler:
    """Brings WorkerPools and their Deployments together."""

    def __init__(
        self,
        cluster: Cluster,
        workloads: Workloads,
        connections: Connections,
        clock: Clock,
        recorder: Recorder,
        store: Store,
        fleet: Fleet,
        look: Look,
    ) -> None:
        self._cluster = cluster
        self._workloads = workloads
        self._connections = connections
        self._clock = clock
        self._recorder = recorder
        self._store = store
        self._fleet = fleet
        self._look_at = look
        self.found: dict[Key, Assessment] = {}
        """What each pool needs, as it was seen last; for those who watch."""
        self._memory: dict[tuple[Key, str], Memory] = {}
        self._applied: dict[tuple[Key, str], dict[str, Applied]] = {}
        self._written: dict[Key, datetime] = {}
        self._types: dict[Link, tuple[datetime, frozenset[str]]] = {}
        self._uses: dict[str, dict[tuple[str, str], Uses]] = {}

    async def reconcile(self, key: Key) -> float | None:
        """One pass; seconds until the next one is wanted, if any. Raises PortError to be tried again."""
        pool = self._store.pools.get(key)
        if pool is None:
            self._forget(key)
            return None
        if not self._fleet.listed.is_set() and not self._fleet.trouble:
            return _UNTIL_LISTED
        seen = await self._see(pool)
        if seen.depths is None and not isinstance(seen.around, Unknown):
            self._look_at.hasten()
        for _ in range(_MOST_EFFECTS):
            step = decide_pool(seen, self._clock.now())
            if isinstance(step, Assessment):
                self._memory[pool.key, pool.uid] = step.memory
                self.found[pool.key] = step
                return await self._report(seen, step)
            seen = await self._carry_out(seen, step)
        raise RuntimeError(f"{key}: no report after {_MOST_EFFECTS} effects")

    def _forget(self, key: Key) -> None:
        self._written.pop(key, None)
        self.found.pop(key, None)
        self._memory = {mark: item for mark, item in self._memory.items() if mark[0] != key}
        self._applied = {mark: item for mark, item in self._applied.items() if mark[0] != key}

    # --- looking -------------------------------------------------------------------------------------

    async def _see(self, pool: WorkerPool) -> Seen:
        now, mark = self._clock.now(), (pool.key, pool.uid)
        link = self._connections.of_pool(pool)
        owned = {kind: item for kind, item in self._fleet.owned(pool.key).items() if item.owner == pool.uid}
        pods = self._fleet.pods(pool.key)
        uses = self._uses_in(pool.key.namespace)
        types = pool.spec.task_types if pool.spec else []
        connection = pool.spec.connection if pool.spec else None
        deployment = owned.get("Deployment")
        return Seen(
            pool=pool,
            memory=self._memory.get(mark) or Memory(since=now, begun=now),
            around=self._around(pool, link, uses, deployment.grace if deployment is not None else 0),
            replicas=deployment.replicas if deployment is not None else None,
            owned=owned,
            applied=self._applied.get(mark, {}),
            pods=pods,
            loads=self._look_at.loads(pods),
            depths=self._look_at.depths(pool),
            facts=self._look_at.facts(pool),
            limits=limits_in(uses, types, connection),
            soon=self._look_at.soon(pool),
            rival=self._rival(pool),
            strangers=await self._strangers(pool, link, now),
            polled=self._look_at.polled(pool),
        )

    def _around(
        self, pool: WorkerPool, link: Link | Unknown, uses: list[Uses], grace: int
    ) -> Surroundings | Unknown:
        if isinstance(link, Unknown):
            return link
        if trouble := self._fleet.trouble:
            return Unknown(trouble, "PodsRefused")
        types = pool.spec.task_types if pool.spec else []
        name = pool.spec.connection if pool.spec else None
        named = self._store.connections.get(Key("ConductorConnection", pool.key.namespace, name or ""))
        if name is not None and (named is None or named.spec is None):
            # Its link goes a moment later. Pods without its credentials would replace those that work.
            return Unknown(f"there is no ConductorConnection {name} here", "ConnectionNotFound")
        return Surroundings(
            conductor_url=link.url,
            domain=domain_of(pool, link),
            connection=named.spec if named is not None else None,
            longest_task=longest_task_in(uses, types, name),
            grace=timedelta(seconds=grace),
        )

    def _uses_in(self, namespace: str) -> list[Uses]:
        """What its Workflows say of task types; each state of them is read once."""
        before, now = self._uses.get(namespace, {}), {}
        for workflow in self._store.workflows_of(namespace):
            mark = (workflow.uid, workflow.resource_version)
            now[mark] = before.get(mark) or uses_of(workflow)
        self._uses[namespace] = now
        return list(now.values())

    def _rival(self, pool: WorkerPool) -> str:
        """Why another pool has one of its task types: the older one keeps it."""
        if pool.spec is None:
            return ""
        for other in self._store.pools_of(pool.key.namespace):
            if other.key == pool.key:
                return ""
            if other.spec is None or other.deleting_since or other.spec.connection != pool.spec.connection:
                continue
            shared = [name for name in pool.spec.task_types if name in other.spec.task_types]
            if shared:
                return (
                    f"spec.taskTypes: {', '.join(shared[:3])} belongs to WorkerPool {other.key.name}, which "
                    "is older: take it out of one of the two"
                )
        return ""

    async def _strangers(self, pool: WorkerPool, link: Link | Unknown, now: datetime) -> tuple[str, ...]:
        if pool.spec is None or isinstance(link, Unknown):
            return ()
        used = {
            str(name)
            for workflow in self._store.workflows_of(pool.key.namespace)
            for name in workflow.status.get("taskTypes") or ()
        }
        unused = [name for name in pool.spec.task_types if name not in used]
        if not unused:
            return ()
        known = self._types.get(link)
        if known is None or now - known[0] > _LOOK_FOR_TYPES:
            try:
                known = self._types[link] = (now, await link.read_task_types(now))
            except PortError:
                return ()  # not known is not wrong
        return tuple(
            f"spec.taskTypes: no Workflow here uses {name}, and Conductor does not know it"
            f"{did_you_mean(name, used | known[1])}"
            for name in unused
            if name not in known[1]
        )

    # --- doing ---------------------------------------------------------------------------------------

    async def _carry_out(self, seen: Seen, effect: PoolEffect) -> Seen:
        match effect:
            case do.ReadLoads(pods):
                await self._look_at.read_loads(list(pods))
                return replace(seen, loads=self._look_at.loads(seen.pods), done=seen.done | {"loads"})
            case do.MarkPod(pod, cost):
                annotations = {DELETION_COST: str(cost)}
                done = seen.done | {f"mark {pod.uid}"}
                try:
                    body = await self._workloads.mark_pod(
                        pod.namespace, pod.name, uid=pod.uid, annotations=annotations
                    )
                except (Gone, Conflict):
                    return replace(seen, done=done)  # it went by itself
                except PortError as error:
                    words = f"Pod {pod.name}: it cannot be marked as the one that goes first: {error}"
                    return replace(seen, done=done, unmarked=words)
                self._fleet.put_pod({"kind": "Pod", **body})
                marked = project_pod(body)
                pods_now = tuple(marked if item.uid == pod.uid else item for item in seen.pods)
                return replace(seen, pods=pods_now, done=done)
            case do.Make(manifest):
                return await self._make(seen, manifest)
            case do.Apply(manifest, uid):
                try:
                    body = await self._workloads.apply(manifest, uid=uid)
                except PortError as error:
                    return _failed(seen, manifest["kind"], error)
                return self._stored(seen, manifest, body)
            case Report():
                raise AssertionError("a report is not carried out")

    async def _make(self, seen: Seen, manifest: Json) -> Seen:
        kind = manifest["kind"]
        try:
            body = await self._workloads.make(manifest)
        except Conflict:
            # There is one: ours, of which the watch has not told yet, or somebody else's.
            try:
                found = await self._workloads.read(manifest)
            except PortError as error:
                return _failed(seen, kind, error)
            known = self._fleet.put_owned({**found, "kind": kind})
            if known.owner != seen.pool.uid and _goes(found, seen.pool):
                return replace(seen, failure=f"{kind}: that of an earlier pool of this name is still going")
            if known.owner != seen.pool.uid:
                return replace(seen, taken=kind)
            # How many pods there are is known from it, too: a pool that were taken for empty would shrink.
            replicas = known.replicas if kind == "Deployment" else seen.replicas
            return replace(seen, owned={**seen.owned, kind: known}, replicas=replicas)
        except PortError as error:
            return _failed(seen, kind, error)
        return self._stored(seen, manifest, body)

    def _stored(self, seen: Seen, manifest: Json, body: Json) -> Seen:
        kind = manifest["kind"]
        # What an answer leaves out does not change what it is.
        known = self._fleet.put_owned({**body, "kind": kind})
        generation = int(body["metadata"].get("generation") or 0)
        applied = {**seen.applied, kind: Applied(hash_manifest(manifest), generation)}
        self._applied[seen.pool.key, seen.pool.uid] = applied
        return replace(seen, owned={**seen.owned, kind: known}, applied=applied, done=seen.done | {kind})

    # --- reporting -----------------------------------------------------------------------------------

    async def _report(self, seen: Seen, found: Assessment) -> float | None:
        pool, now = seen.pool, self._clock.now()
        report = build_report(seen, found, now)
        again = report.requeue_after.total_seconds() if report.requeue_after else None
        if report.status is None:
            return again
        status = report_conditions(seen, report, now)
        if status == pool.status:
            return again
        written = self._written.get(pool.key)
        fresh = pool.status.get("observedGeneration") == pool.generation
        if not report.urgent and fresh and written is not None:
            began_or_ended = any(
                bool(status.get(part)) != bool(pool.status.get(part)) for part in ("busy", "queued")
            )
            interval = _BEGIN_INTERVAL if began_or_ended else _NUMBERS_INTERVAL
            rest = (written + interval - now).total_seconds()
            if rest > 0:
                return min(rest, again) if again is not None else rest
        try:
            body = await self._cluster.apply_status(
                pool.key, status, uid=pool.uid, resource_version=pool.resource_version
            )
        except Gone:
            return None
        self._written[pool.key] = now
        stored = project_worker_pool(body)
        known = self._store.pools.get(pool.key)
        if known is not None and known.uid == stored.uid:
            self._store.put_pool(stored)
        for note in report.notes:
            self._recorder.event(pool.key, pool.uid, kind=note.kind, reason=note.reason, message=note.message)
        return again


def _goes(found: Json, pool: WorkerPool) -> bool:
    """Whether it is being deleted, or soon will be, because its pool was."""
    metadata = found["metadata"]
    owners = metadata.get("ownerReferences") or ()
    orphan = any(item.get("kind") == pool.key.kind and item.get("name") == pool.key.name for item in owners)
    return bool(metadata.get("deletionTimestamp")) or orphan


def _failed(seen: Seen, kind: str, error: PortError) -> Seen:
    if isinstance(error, Conflict | Gone):
        raise error  # someone was quicker: look again
    words = f"{kind}: {error}"
    if isinstance(error, Refused) and "403" not in str(error):
        return replace(seen, refusal=words)
    return replace(seen, failure=words)
