"""One pass over a Workflow: look, decide, do, until the decision is a report; then one status write."""

import asyncio
import logging
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from podium.core import effects as do
from podium.core.calls import Call, Called, calls_in, find_callers
from podium.core.definitions import Checked, Isolation, Rules, check_workflow, conductor_name
from podium.core.effects import DefinitionEffect, Report, Unknown, WorkflowEffect
from podium.core.objects import Workflow, project_workflow
from podium.core.pools.serving import served_types
from podium.core.schedules import without_schedules
from podium.core.workflow import Policy, Seen, decide_workflow, may_have_other_workers, report_conditions
from podium.ports import (
    Clock,
    Cluster,
    Gone,
    Json,
    Key,
    NotSent,
    PortError,
    Recorder,
    Refused,
)
from podium.reconciler.connections import Connections, Link, hurried, usable
from podium.reconciler.store import Store

log = logging.getLogger(__name__)

_MOST_EFFECTS = 600
_MOST_COMPILED = 64


class WorkflowReconciler:
    """Brings Workflows and Conductor's definitions together."""

    def __init__(
        self,
        cluster: Cluster,
        connections: Connections,
        clock: Clock,
        recorder: Recorder,
        store: Store,
        policy: Policy,
        *,
        wake: Callable[[Key], None],
        status_interval: float,
    ) -> None:
        """`wake(key)`: have a run looked at, because its Workflow changed."""
        self._cluster = cluster
        self._connections = connections
        self._clock = clock
        self._recorder = recorder
        self._store = store
        self._policy = policy
        self._wake = wake
        self._status_interval = status_interval
        self._written: dict[Key, datetime] = {}
        self._calls: dict[str, dict[tuple[str, int], frozenset[Call]]] = {}
        self._compiled: OrderedDict[tuple[str, int, Rules], Checked] = OrderedDict()

    async def reconcile(self, key: Key) -> float | None:
        """One pass; seconds until the next one is wanted, if any. Raises PortError to be tried again."""
        workflow = self._store.workflows.get(key)
        if workflow is None:
            self._written.pop(key, None)
            return None
        link = self._connections.of_workflow(workflow)
        if isinstance(link, Link):
            timeout, now = self._policy.deletion_timeout, self._clock.now()
            link = hurried(link, workflow.deleting_since, timeout, now)
        seen = await self._look(workflow, link)
        for _ in range(_MOST_EFFECTS):
            effect = decide_workflow(seen, self._clock.now())
            if isinstance(effect, Report):
                return await self._report(seen, effect)
            seen = await self._carry_out(seen, effect, link)
        raise RuntimeError(f"{key}: no report after {_MOST_EFFECTS} effects")

    async def find_drift(self) -> list[Key]:
        """Workflows whose definitions are not those that were checked last: one request to each Conductor.

        A pass over what is returned checks them; a change after this look has another stamp, and is
        returned by the next one.
        """
        looks = await asyncio.gather(*(self._find_drift_of(link) for link in self._connections.links()))
        return [key for moved in looks for key in moved]

    async def _find_drift_of(self, link: Link) -> list[Key]:
        users = [
            workflow
            for workflow in self._store.workflows.values()
            if self._connections.of_workflow(workflow) is link
        ]
        if not users:
            return []
        stamps: defaultdict[str, set[tuple[int, int]]] = defaultdict(set)
        try:
            listed = await link.conductor.list_definition_stamps()
        except NotSent:
            return []  # it is away, which was told
        except PortError as error:
            if str(error) != link.trouble:
                log.warning("cannot look for altered definitions: %s", error)
            link.trouble = str(error)
            return []
        link.trouble = ""
        for (name, version), at in listed.items():
            stamps[name].add((version, at))
        moved = []
        for workflow in users:
            known = workflow.status.get("conductor") or {}
            name = str(known.get("name", ""))
            if not name or workflow.deleting_since is not None:
                continue
            found = frozenset(stamps.get(name, ()))
            here = {version for version, _ in found}
            if found == link.checked.get(name) and known.get("version") in here:
                continue
            for version in here | {known["version"]}:
                link.definitions.forget(name, version)
            link.checked[name] = found
            moved.append(workflow.key)
        return moved

    async def find_changed_workers(self) -> list[Key]:
        """Workflows that other workers serve than their status says: one request to each Conductor."""
        changed = []
        now = self._clock.now()
        # The watch may add or take one while this waits.
        for workflow in list(self._store.workflows.values()):
            link = self._connections.of_workflow(workflow)
            if isinstance(link, Unknown) or workflow.deleting_since is not None:
                continue
            pollers = await link.read_pollers(now)
            domain = workflow.key.namespace if link.isolated else ""
            if not isinstance(pollers, Unknown) and may_have_other_workers(
                workflow, pollers, self._pools(workflow), domain, now
            ):
                changed.append(workflow.key)
        return changed

    async def _look(self, workflow: Workflow, link: Link | Unknown) -> Seen:
        tally = self._store.tally(workflow.key.namespace, workflow.key.name)
        if isinstance(link, Unknown):
            # How strict its Conductor is cannot be known: only what is wrong everywhere is told.
            policy = self._policy_of("Shared")
            return Seen(workflow, policy, link, link, link, tally, checked=self._check(workflow, policy))
        policy = self._policy_of(link.isolation)
        definitions: tuple[Json, ...] | Unknown = ()
        registered: frozenset[str] | Unknown = frozenset()
        known_name = (workflow.status.get("conductor") or {}).get("name")
        if workflow.spec is not None or known_name:
            name = (
                conductor_name(workflow.key.namespace, workflow.key.name, workflow.spec)
                if workflow.spec is not None
                else str(known_name)
            )
            try:
                definitions = tuple(await link.conductor.get_definitions(name))
                # What was just read needs no second look by the search for drift.
                link.checked[name] = frozenset(
                    (item["version"], item.get("updateTime") or item.get("createTime") or 0)
                    for item in definitions
                )
                if workflow.deleting_since is None:
                    registered = await link.read_task_types(self._clock.now())
            except PortError as error:
                definitions = registered = Unknown(str(error))
        return Seen(
            workflow=workflow,
            policy=policy,
            called=Called() if isinstance(definitions, Unknown) else self._called(workflow, definitions),
            definitions=definitions,
            registered_types=registered,
            pollers=await link.read_pollers(self._clock.now()),
            runs=tally,
            pools=self._pools(workflow),
            checked=self._check(workflow, policy),
        )

    def _called(self, workflow: Workflow, definitions: tuple[Json, ...]) -> Called:
        if not definitions:
            return Called()  # none of them can go
        namespace = workflow.key.namespace
        known, made, calls = self._calls.get(namespace, {}), {}, []
        for item in self._store.workflows_of(namespace):
            mark = (item.uid, item.generation)
            made[mark] = known[mark] if mark in known else calls_in(item.spec)
            calls.append((item, made[mark]))
        self._calls[namespace] = made
        versions, callers = find_callers(workflow, calls)
        return Called(versions, self._store.oldest_active(namespace, callers))

    def _pools(self, workflow: Workflow) -> dict[str, str]:
        connection = workflow.spec.connection if workflow.spec else None
        return served_types(self._store.pools_of(workflow.key.namespace), connection)

    def _check(self, workflow: Workflow, policy: Policy) -> Checked | None:
        """Compiled and linted once for each generation: a big one takes half a second."""
        if workflow.spec is None:
            return None
        mark = (workflow.uid, workflow.generation, policy.rules)
        checked = self._compiled.pop(mark, None) or check_workflow(
            workflow.spec, namespace=workflow.key.namespace, name=workflow.key.name, rules=policy.rules
        )
        self._compiled[mark] = checked
        while len(self._compiled) > _MOST_COMPILED:
            self._compiled.popitem(last=False)
        return checked

    def _policy_of(self, isolation: Isolation) -> Policy:
        return replace(self._policy, rules=replace(self._policy.rules, isolation=isolation))

    async def _carry_out(self, seen: Seen, effect: WorkflowEffect, link: Link | Unknown) -> Seen:
        key = seen.workflow.key
        match effect:
            case do.SetFinalizers(finalizers):
                body = await self._cluster.patch_finalizers(
                    key, finalizers, resource_version=seen.workflow.resource_version
                )
                return replace(seen, workflow=self._keep(body))
            case Report():
                raise AssertionError("a report is not carried out")
            case _:
                return await self._ask(seen, effect, usable(link))

    async def _ask(self, seen: Seen, effect: DefinitionEffect, link: Link) -> Seen:
        key = seen.workflow.key
        match effect:
            case do.PutTaskDefinition(definition):
                link.task_types = None
                return await self._try(
                    seen, f"task {definition['name']}", link.conductor.put_task_definition(definition)
                )
            case do.PutDefinition(definition, restores):
                log.info("%s: registering %s version %s", key, definition["name"], definition["version"])
                after = await self._try(
                    seen, f"definition {definition['version']}", link.conductor.put_definition(definition)
                )
                if after.failure or after.refusal:
                    return after
                link.definitions.learn(definition)
                others = tuple(
                    item
                    for item in (seen.definitions if not isinstance(seen.definitions, Unknown) else ())
                    if item["version"] != definition["version"]
                )
                restored = {f"restored {definition['version']}"} if restores else set()
                return replace(after, definitions=(*others, definition), done=after.done | restored)
            case do.DeleteDefinition(name, version):
                link.definitions.forget(name, version)
                return await self._try(
                    seen, f"delete {version}", link.conductor.delete_definition(name, version)
                )

    async def _try(self, seen: Seen, what: str, call: object) -> Seen:
        done = seen.done | {what}
        try:
            await call  # type: ignore[misc]
        except Refused as error:
            return replace(seen, done=done, refusal=str(error))
        except PortError as error:
            return replace(seen, done=done, failure=str(error))
        return replace(seen, done=done)

    async def _report(self, seen: Seen, report: Report) -> float | None:
        workflow, now = seen.workflow, self._clock.now()
        again = report.requeue_after.total_seconds() if report.requeue_after else None
        if report.status is None:
            return again
        status = report_conditions(seen, report, now)
        if _by_type(status) == _by_type(without_schedules(workflow.status)):
            self._tell(workflow, report)
            return again
        written = self._written.get(workflow.key)
        generation_seen = workflow.status.get("observedGeneration") == workflow.generation
        if not report.urgent and generation_seen and written is not None:
            rest = self._status_interval - (now - written).total_seconds()
            if rest > 0:
                return min(rest, again) if again is not None else rest
        try:
            body = await self._cluster.apply_status(
                workflow.key, status, uid=workflow.uid, resource_version=workflow.resource_version
            )
        except Gone:
            return None
        self._written[workflow.key] = now
        stored = self._keep(body)
        self._tell(workflow, report)
        before, after = workflow.status.get("conditions"), stored.status.get("conditions")
        if before != after or workflow.status.get("conductor") != stored.status.get("conductor"):
            self._wake_waiting_runs(stored)
        return again

    def _tell(self, workflow: Workflow, report: Report) -> None:
        for note in report.notes:
            self._recorder.event(
                workflow.key, workflow.uid, kind=note.kind, reason=note.reason, message=note.message
            )

    def _wake_waiting_runs(self, workflow: Workflow) -> None:
        for run in self._store.runs_of(workflow.key.namespace, workflow.key.name):
            if run.status.get("phase") in (None, "Pending"):
                self._wake(run.key)

    def _keep(self, body: Json) -> Workflow:
        workflow = project_workflow(body)
        known = self._store.workflows.get(workflow.key)
        # As for runs: a deletion that is known already is not undone by the answer to a write.
        if known is not None and known.uid == workflow.uid:
            self._store.put_workflow(workflow)
        return workflow


def _by_type(status: Json) -> Json:
    """Conditions are a map with more than one writer: their order has no meaning."""
    return {**status, "conditions": sorted(status.get("conditions", []), key=lambda item: str(item["type"]))}
