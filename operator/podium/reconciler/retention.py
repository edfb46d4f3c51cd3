"""One pass over the finished runs of a Workflow: those that are over the limits are deleted."""

import logging
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from podium.core.effects import Unknown
from podium.core.objects import Workflow, WorkflowRun
from podium.core.retention import Deletion, Policy, decide_retention
from podium.ports import Clock, Cluster, Conflict, Key, Recorder, Refused
from podium.reconciler.connections import Connections
from podium.reconciler.store import Store

log = logging.getLogger(__name__)

KIND = "Retention"
# A run's end and what follows it come together; one pass serves them all.
GATHER = 2.0
# How often people are told: a Workflow whose runs come and go all the time has other news too.
_NEWS_EVERY = timedelta(minutes=5)
# Deletions of all Workflows together, per second: after a start thousands may be due.
_RATE = 20.0
# What could not be deleted is tried again, a few in a pass: there may be thousands.
_REST = timedelta(minutes=1)
_TRIED_AGAIN = 5
_NEXT_PASS = 1.0
_SOON = 2.0
_LONG = float("inf")


@dataclass
class _Memory:
    """What was done and is not told yet, and what goes and is not gone yet."""

    told: datetime | None = None
    since: datetime | None = None
    """When the first of what is not told was done."""
    news: Counter[str] = field(default_factory=Counter)
    going: set[str] = field(default_factory=set)
    refused: dict[str, datetime] = field(default_factory=dict)
    """What may not be deleted, by its uid: when it is tried again."""
    warned: datetime | None = None

    def recall(self, runs: list[WorkflowRun], now: datetime) -> None:
        """Forget what is gone, and of what was refused the first few whose rest is over."""
        self.going &= {run.uid for run in runs if run.deleting_since is None}
        here = {run.uid for run in runs}
        rested = sorted((when, uid) for uid, when in self.refused.items() if when <= now and uid in here)
        again = {uid for _, uid in rested[:_TRIED_AGAIN]}
        self.refused = {uid: when for uid, when in self.refused.items() if uid in here - again}


class RetentionReconciler:
    """Deletes finished runs. Its keys are named after Workflows, which need not be there any more."""

    def __init__(
        self,
        cluster: Cluster,
        connections: Connections,
        clock: Clock,
        recorder: Recorder,
        store: Store,
        policy: Policy,
    ) -> None:
        self._cluster = cluster
        self._connections = connections
        self._clock = clock
        self._recorder = recorder
        self._store = store
        self._policy = policy
        self._memory: dict[Key, _Memory] = {}
        self._credit = _RATE
        self._credited: datetime | None = None

    async def reconcile(self, key: Key) -> float | None:
        """One pass; seconds until the next one is wanted, if any. Raises PortError to be tried again."""
        now = self._clock.now()
        whose = Key("Workflow", key.namespace, key.name)
        workflow = self._store.workflows.get(whose)
        runs = self._store.runs_of(key.namespace, key.name)
        if not runs and key not in self._memory:
            return None
        memory = self._memory.setdefault(key, _Memory())
        memory.recall(runs, now)
        waits = await self._delete_due(runs, workflow, memory, now)
        if memory.refused:
            waits.append(max(_NEXT_PASS, (min(memory.refused.values()) - now).total_seconds()))
        if (wait := self._tell(whose, memory, now, more=min(waits, default=_LONG) <= _SOON)) > 0:
            waits.append(wait)
        if not runs and not memory.news:
            del self._memory[key]
        return min(waits, default=None)

    async def _delete_due(
        self, runs: list[WorkflowRun], workflow: Workflow | None, memory: _Memory, now: datetime
    ) -> list[float]:
        """Delete a pass's share of what is due; seconds until more can be done.

        What may not be deleted takes nobody's place: others go instead.
        """
        room = most = self._policy.most
        refused: list[tuple[Deletion, Refused]] = []
        changed: set[str] = set()
        more = True
        waits: list[float] = []
        while more:
            passed_by = memory.going | memory.refused.keys() | changed
            left = [run for run in runs if run.uid not in passed_by]
            verdict = decide_retention(left, workflow, now, self._policy, self._is_away)
            waits = [verdict.again.total_seconds()] if verdict.again is not None else []
            if len(verdict.deletions) > room:
                waits.append(_NEXT_PASS)
            more = False
            for deletion in verdict.deletions[:room]:
                if (wait := self._wait(now)) > 0:
                    waits.append(wait)
                    more = False
                    break
                try:
                    await self._delete(deletion, memory, now)
                    room -= 1
                except Conflict:
                    # Someone may just have asked something of it: its news has it looked at again.
                    changed.add(deletion.uid)
                except Refused as error:
                    self._credit += 1
                    memory.refused[deletion.uid] = now + _REST
                    refused.append((deletion, error))
                    more = len(refused) < most
        if changed:
            # What the operator itself wrote is no news, and known in a moment.
            waits.append(_SOON)
        self._warn(workflow, memory, refused, now)
        return waits

    def _is_away(self, run: WorkflowRun) -> bool:
        link = self._connections.of_run(run)
        return isinstance(link, Unknown) or link.conductor.outage is not None

    async def _delete(self, deletion: Deletion, memory: _Memory, now: datetime) -> None:
        await self._cluster.delete(deletion.key, uid=deletion.uid, resource_version=deletion.resource_version)
        log.debug("%s: deleted (%s)", deletion.key, deletion.why)
        # The watch tells of it in a moment; until then it must be neither deleted nor counted again.
        memory.going.add(deletion.uid)
        memory.since = memory.since or now
        memory.news[deletion.why] += 1
        if deletion.purged:
            memory.news["purged"] += 1
        self._recorder.count("runs_deleted", why=deletion.why)

    def _tell(self, workflow: Key, memory: _Memory, now: datetime, *, more: bool) -> float:
        """Say what went, unless more goes in a moment; seconds until it may be said."""
        if not memory.news or memory.since is None:
            return 0.0
        if memory.told is not None and (rest := memory.told + _NEWS_EVERY - now) > timedelta(0):
            return rest.total_seconds()
        if more and now - memory.since < _NEWS_EVERY:
            return 0.0
        message = _words(memory.news)
        memory.told, memory.since = now, None
        memory.news.clear()
        log.info("%s: %s", workflow, message)
        if (known := self._store.workflows.get(workflow)) is not None:
            self._recorder.event(workflow, known.uid, kind="Normal", reason="RunsDeleted", message=message)
        return 0.0

    def _warn(
        self,
        workflow: Workflow | None,
        memory: _Memory,
        refused: list[tuple[Deletion, Refused]],
        now: datetime,
    ) -> None:
        """Say what may not be deleted, and why: at the Workflow, or at the run itself if that is gone."""
        if not refused or (memory.warned is not None and now < memory.warned + _NEWS_EVERY):
            return
        memory.warned = now
        deletion, error = refused[0]
        others = f" (and {len(memory.refused) - 1} more)" if len(memory.refused) > 1 else ""
        message = f"kept no longer, but may not be deleted: {deletion.key.name}{others}: {error}"
        key, uid = (workflow.key, workflow.uid) if workflow is not None else (deletion.key, deletion.uid)
        log.warning("%s: %s", key, message)
        self._recorder.event(key, uid, kind="Warning", reason="DeletionRefused", message=message)

    def _wait(self, now: datetime) -> float:
        """Seconds until one more may be deleted; 0 takes one."""
        if self._credited is not None:
            earned = (now - self._credited).total_seconds() * _RATE
            self._credit = min(_RATE, self._credit + max(0.0, earned))
        self._credited = now
        if self._credit < 1:
            return (1 - self._credit) / _RATE
        self._credit -= 1
        return 0.0


def retention_key(namespace: str, workflow: str) -> Key:
    """What has the finished runs of a Workflow looked at."""
    return Key(KIND, namespace, workflow)


def _words(news: Counter[str]) -> str:
    gone = news["ttl"] + news["history"]
    whys = [
        f"{news[why]} {text}"
        for why, text in (("ttl", "past ttlAfterFinished"), ("history", "over the history limits"))
        if news[why]
    ]
    if news["purged"] == gone:
        after = "removed from Conductor too"
    elif news["purged"]:
        after = f"{news['purged']} of them removed from Conductor too, the others stay there"
    else:
        after = "what Conductor has of them stays there"
    return f"finished runs deleted: {gone} ({', '.join(whys)}); {after}"
