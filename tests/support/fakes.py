"""Conductor, the API server and the time in memory: for laws that need thousands of crashes.

Nothing here waits, so a coroutine that uses only these runs to its end at once (`run_now`).
"""

import copy
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, TypeVar

from podium.api.v1alpha1 import FIELD_MANAGER
from podium.api.v1alpha1.reasons import EventReason
from podium.ports import (
    Conflict,
    Gone,
    Json,
    Key,
    Moved,
    NotRegistered,
    NotSent,
    Outage,
    OutcomeUnknown,
    Polled,
    RetryLater,
    RunSeen,
    RunState,
    ServerFacts,
    StartRequest,
    TaskAnswer,
    TaskSeen,
)

T = TypeVar("T")
BEGINNING = datetime(2026, 1, 1, tzinfo=UTC)
START_FATES = ("answered", "answer lost", "request lost", "not sent", "not registered", "killed")
Fate = Literal["answered", "answer lost", "request lost", "not sent", "not registered", "killed"]


class Killed(BaseException):
    """The process is gone, here and now."""


def run_now(job: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that never has to wait."""
    try:
        job.send(None)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
    raise AssertionError("it waits for something")


class FakeClock:
    """The time as a value; `monotonic()` is the same one in seconds."""

    def __init__(self, at: datetime = BEGINNING) -> None:
        self.at = at

    def now(self) -> datetime:
        """The time."""
        return self.at

    def monotonic(self) -> float:
        """Seconds since the beginning."""
        return (self.at - BEGINNING).total_seconds()

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.at += timedelta(seconds=seconds)


@dataclass
class FakeRecorder:
    """Remembers what people were told and what was counted."""

    events: list[tuple[Key, str, str]] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def event(
        self, key: Key, uid: str, *, kind: Literal["Normal", "Warning"], reason: EventReason, message: str
    ) -> None:
        """Remember it."""
        self.events.append((key, reason, message))

    def count(self, what: str, by: int = 1, **labels: str) -> None:
        """Count it."""
        self.counts[" ".join([what, *labels.values()])] += by

    def observe(self, what: str, seconds: float) -> None:
        """Count it."""
        self.counts[what] += 1


class FakeCluster:
    """Objects with resourceVersions, and their preconditions as the API server has them."""

    def __init__(self) -> None:
        self.objects: dict[Key, Json] = {}
        self.secrets: dict[str, dict[str, bytes]] = {}
        self._owned: dict[tuple[Key, str], set[tuple[str, str]]] = {}
        self._versions = itertools.count(100)
        self.lose_answer: Iterator[bool] = itertools.repeat(False)
        """For each write in turn: whether its answer is lost after it was carried out."""

    def put(self, kind: str, name: str, body: Json, namespace: str = "studio") -> Key:
        """A new object, or a changed spec of one: what `kubectl apply` does."""
        key = Key(kind, namespace, name)
        known = self.objects.get(key)
        metadata = {
            "name": name,
            "namespace": namespace,
            "uid": f"uid-{next(self._versions)}",
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "generation": 0,
            **(known["metadata"] if known else {}),
            **body.get("metadata", {}),
        }
        metadata["generation"] += 1
        status = (known or {}).get("status", {"observedGeneration": -1})
        self._store(key, {"status": status, **body, "metadata": metadata})
        return key

    def touch(self, key: Key) -> None:
        """Someone changes a label: only the resourceVersion moves."""
        self._store(key, self.objects[key])

    def request_deletion(self, key: Key, at: datetime) -> None:
        """`kubectl delete --wait=false`."""
        body = self.objects[key]
        if not body["metadata"].get("finalizers"):
            del self.objects[key]
            return
        body["metadata"]["deletionTimestamp"] = at.isoformat()
        self._store(key, body)

    async def get(self, key: Key) -> Json:
        """The object. Raises Gone."""
        if key not in self.objects:
            raise Gone(str(key))
        return copy.deepcopy(self.objects[key])

    async def pages(self, kind: str, namespace: str | None = None) -> AsyncIterator[list[Json]]:
        yield await self.list(kind, namespace)

    async def list(self, kind: str, namespace: str | None = None) -> list[Json]:
        """All of a kind."""
        return [
            copy.deepcopy(body)
            for key, body in self.objects.items()
            if key.kind == kind and namespace in (None, key.namespace)
        ]

    async def create(self, body: Json) -> Json:
        """A new object. Conflict if there is one of its name."""
        metadata = body["metadata"]
        key = Key(body["kind"], metadata["namespace"], metadata["name"])
        if key in self.objects:
            raise Conflict(f"{key} exists")
        self.put(key.kind, key.name, copy.deepcopy(body), key.namespace)
        return self._answer(key, self.objects[key])

    async def patch(self, key: Key, patch: Json, *, uid: str) -> Json:
        """Merge into spec and metadata; another uid is a conflict."""
        body = await self.get(key)
        if body["metadata"]["uid"] != uid:
            raise Conflict("the uid cannot be changed")
        for part, change in patch.items():
            body[part] = {**body.get(part, {}), **change}
        body["metadata"]["generation"] += 1
        return self._answer(key, body)

    async def apply_status(
        self,
        key: Key,
        status: Json,
        *,
        uid: str,
        resource_version: str | None = None,
        field_manager: str = FIELD_MANAGER,
    ) -> Json:
        """Replace what this manager wrote before. As the real one, it ignores the uid."""
        body = await self.get(key)
        self._check(body, resource_version)
        owned = self._owned.setdefault((key, field_manager), set())
        before = _take_apart(body["status"])
        after = {name: value for name, value in before.items() if name not in owned}
        applied = _take_apart(copy.deepcopy(status))
        self._owned[key, field_manager] = set(applied)
        return self._answer(key, {**body, "status": _put_together(after | applied)})

    async def patch_finalizers(self, key: Key, finalizers: Sequence[str], *, resource_version: str) -> Json:
        """Replace them; the last one of a deleted object lets it go."""
        body = await self.get(key)
        self._check(body, resource_version)
        body["metadata"]["finalizers"] = [*finalizers]
        answer = self._answer(key, body)
        if body["metadata"].get("deletionTimestamp") and not finalizers:
            del self.objects[key]
        return answer

    async def delete(self, key: Key, *, uid: str, resource_version: str | None = None) -> None:
        """Delete the object with this uid; with a resourceVersion, Conflict if it is not this very one."""
        if key not in self.objects:
            return
        if self.objects[key]["metadata"]["uid"] != uid:
            if resource_version:
                raise Conflict("the object was made again")
            return
        self._check(self.objects[key], resource_version)
        del self.objects[key]

    async def get_secret(self, namespace: str, name: str) -> dict[str, bytes]:
        """By its name, in every namespace. Raises Gone."""
        if name not in self.secrets:
            raise Gone(name)
        return dict(self.secrets[name])

    def _check(self, body: Json, resource_version: str | None) -> None:
        if resource_version and resource_version != body["metadata"]["resourceVersion"]:
            raise Conflict("the object has been modified")

    def _store(self, key: Key, body: Json) -> None:
        body["metadata"]["resourceVersion"] = str(next(self._versions))
        self.objects[key] = body

    def _answer(self, key: Key, body: Json) -> Json:
        self._store(key, body)
        if next(self.lose_answer):
            raise RetryLater("the API server does not answer")
        return copy.deepcopy(body)


def _take_apart(status: Json) -> dict[tuple[str, str], Any]:
    """Conditions are a map: each type belongs to who wrote it."""
    conditions = {("conditions", item["type"]): item for item in status.get("conditions", [])}
    return {(name, ""): value for name, value in status.items() if name != "conditions"} | conditions


def _put_together(parts: dict[tuple[str, str], Any]) -> Json:
    conditions = [item for (name, kind), item in parts.items() if kind]
    status = {name: value for (name, kind), value in parts.items() if not kind}
    return status | ({"conditions": conditions} if conditions else {})


class FakeConductor:
    """Runs that begin, go on for `lasts` seconds and succeed; starts whose fate is told in advance."""

    def __init__(self, clock: FakeClock, *, lasts: float = 1.0) -> None:
        self._clock = clock
        self._lasts = lasts
        self._ids = itertools.count(1)
        self.runs: dict[str, RunSeen] = {}
        self.appears: dict[str, float] = {}
        """Workflow id → when a look begins to find it."""
        self.fates: Iterator[tuple[Fate, float]] = itertools.repeat(("answered", 0.0))
        """For each start in turn: what happens to it, and after how many seconds it can be seen."""
        self.started: list[str] = []
        """Ids of the runs that starts have made, in order."""
        self.removed: list[str] = []
        """Ids of the runs that were removed with their data, in order."""
        self.rash_starts: list[str] = []
        """Correlation ids of starts that were sent while an earlier one had got through."""
        self.definitions: dict[tuple[str, int], Json] = {}
        self.calls: Counter[str] = Counter()
        self.away: type[RetryLater] | None = None
        self.ends_as: RunState = "COMPLETED"
        self.acted: list[str] = []
        """Actions that came through, in order."""
        self.action_fates: Iterator[tuple[Fate, float]] = itertools.repeat(("answered", 0.0))
        """For each action in turn: what happens to it, and after how many seconds it comes through."""
        self._coming: list[tuple[float, str, Callable[[], None]]] = []
        self.outage: Outage | None = None
        self.store = "store-1"
        self.depths: dict[tuple[str, str], int] = {}
        """(task type, domain) → tasks in that queue."""
        self.moved: list[Moved] | None = []
        """None: it has no search."""
        self.reads: list[tuple[str, ...]] = []

    def within(self, seconds: float) -> "FakeConductor":
        """Nothing here takes time."""
        return self

    async def read_store(self, cluster_id: str) -> str:
        """Which database this is."""
        self._call("read_store")
        return self.store

    def lose_data(self) -> None:
        """It comes back with an empty database."""
        self.runs.clear()
        self.appears.clear()
        self.definitions.clear()
        self.store += "'"

    def seen(self, workflow_id: str) -> RunSeen | None:
        """What a look shows now."""
        self._let_through()
        run = self.runs.get(workflow_id)
        if run is None or self._clock.monotonic() < self.appears.get(workflow_id, 0.0):
            return None
        begun = self.appears.get(workflow_id, 0.0)
        if run.state == "RUNNING" and self._clock.monotonic() - begun >= self._lasts:
            run = self.runs[workflow_id] = replace(run, state=self.ends_as, end_ms=self._ms())
        return run

    def of(self, correlation_id: str) -> list[RunSeen]:
        """Every run of a correlation id that can be seen."""
        found = [self.seen(workflow_id) for workflow_id in self.runs]
        return [run for run in found if run is not None and run.correlation_id == correlation_id]

    def set_state(self, workflow_id: str, state: RunState, reason: str = "") -> None:
        """Someone does this in Conductor itself."""
        self.runs[workflow_id] = replace(self.runs[workflow_id], state=state, reason=reason)

    async def describe(self) -> ServerFacts:
        """A version, if it is there."""
        self._call("describe")
        return ServerFacts("3.32.3")

    async def start(self, request: StartRequest) -> str:
        """A run, or what its fate is."""
        self._call("start")
        fate, delay = next(self.fates)
        if fate == "not sent":
            raise NotSent("no connection")
        if fate == "not registered":
            raise NotRegistered("no definition of inner")
        if any(run.correlation_id == request.correlation_id for run in self.runs.values()):
            self.rash_starts.append(request.correlation_id)
        if fate == "request lost":
            raise OutcomeUnknown("the connection was closed")
        workflow_id = f"w{next(self._ids)}"
        self.runs[workflow_id] = RunSeen(
            workflow_id, request.name, request.version, "RUNNING", request.correlation_id, self._ms()
        )
        self.started.append(workflow_id)
        # One whose answer came can be seen: Conductor stores it first.
        self.appears[workflow_id] = self._clock.monotonic() + (0.0 if fate == "answered" else delay)
        if fate == "killed":
            raise Killed("in the middle of a start")
        if fate == "answer lost":
            raise OutcomeUnknown("the answer was lost")
        return workflow_id

    async def find_runs(self, name: str, correlation_id: str) -> list[RunSeen]:
        """By correlation id, oldest first."""
        self._call("find_runs")
        return sorted(self.of(correlation_id), key=lambda run: run.create_ms)

    async def get_runs(self, workflow_ids: Sequence[str]) -> dict[str, RunSeen | None]:
        """Many runs in one read."""
        self._call("get_runs")
        self.reads.append(tuple(workflow_ids))
        return {workflow_id: self.seen(workflow_id) for workflow_id in workflow_ids}

    async def find_last_move(self) -> int | None:
        """When the last of `moved` did."""
        self._call("find_last_move")
        return None if self.moved is None else max((item.at_ms for item in self.moved), default=0)

    async def list_moved(self, since_ms: int, *, most: int) -> tuple[Moved, ...] | None:
        """What `moved` says."""
        self._call("list_moved")
        if self.moved is None:
            return None
        return tuple(item for item in self.moved if item.at_ms > since_ms)[:most]

    async def pause(self, workflow_id: str) -> None:
        """Conflict if it has ended."""
        self._change("pause", workflow_id, "PAUSED", ("RUNNING", "PAUSED"))

    async def resume(self, workflow_id: str) -> None:
        """Conflict if it is not paused."""
        self._change("resume", workflow_id, "RUNNING", ("PAUSED",))

    async def terminate(self, workflow_id: str, reason: str) -> None:
        """As the real one: only what ended well is safe from it."""
        self._change("terminate", workflow_id, "TERMINATED", ("RUNNING", "PAUSED", "FAILED"))
        self.runs[workflow_id] = replace(self.runs[workflow_id], reason=reason)

    async def retry(self, workflow_id: str, *, resume_children: bool) -> None:
        """A run that ended badly goes on."""
        now = self._ms
        self._act("Retry", workflow_id, ("FAILED", "TERMINATED"), lambda: {"retried_ms": now()})

    async def restart(self, workflow_id: str) -> None:
        """A run that ended begins anew."""
        now = self._ms
        ended: tuple[RunState, ...] = ("FAILED", "TERMINATED", "COMPLETED")
        self._act("Restart", workflow_id, ended, lambda: {"create_ms": now()})

    async def rerun(self, workflow_id: str, task_id: str, task_input: Json | None) -> None:
        """A run that ended goes again from a task."""

        def again() -> Json:
            tasks = self.runs[workflow_id].tasks
            return {"tasks": tuple(replace(task, scheduled_ms=self._ms()) for task in tasks)}

        self._act("Rerun", workflow_id, ("FAILED", "TERMINATED", "COMPLETED"), again)

    async def skip(self, workflow_id: str, ref: str) -> None:
        """A task that has not begun is left out."""

        def skipped() -> Json:
            return {"tasks": (*self.runs[workflow_id].tasks, TaskSeen(ref, ref, "SKIPPED"))}

        self._act("Skip", workflow_id, ("RUNNING",), skipped)

    async def answer(self, answer: TaskAnswer) -> None:
        """It is counted, and changes nothing."""
        self._call("answer")

    async def nudge(self, workflow_id: str) -> None:
        """Nothing is late here."""

    def _act(
        self, kind: str, workflow_id: str, fits: tuple[RunState, ...], change: Callable[[], Json]
    ) -> None:
        self._call(kind)
        fate, delay = next(self.action_fates)
        if fate == "not sent":
            raise NotSent("no connection")
        if fate == "request lost":
            raise OutcomeUnknown("the connection was closed")

        def come_through() -> None:
            run = self.runs[workflow_id]
            if run.state not in fits:
                return
            self.acted.append(kind)
            self.runs[workflow_id] = replace(run, state="RUNNING", **change())
            self.appears[workflow_id] = self._clock.monotonic()

        if fate == "answered":
            run = self.seen(workflow_id)
            if run is None:
                raise Gone(workflow_id)
            if run.state not in fits:
                raise Conflict(f"{workflow_id} is {run.state}")
            come_through()
            return
        self._coming.append((self._clock.monotonic() + delay, kind, come_through))
        if fate == "killed":
            raise Killed("in the middle of an action")
        raise OutcomeUnknown("the answer was lost")

    def _let_through(self) -> None:
        now = self._clock.monotonic()
        due = [item for item in self._coming if item[0] <= now]
        self._coming = [item for item in self._coming if item[0] > now]
        for _, _, come_through in due:
            come_through()

    async def find_related(self, correlation_id: str) -> tuple[str, ...]:
        """What a search finds; it is as quick as the runs themselves."""
        self._call("find_related")
        return tuple(run.workflow_id for run in self.of(correlation_id))

    async def remove(self, workflow_id: str) -> None:
        """Whatever its state; one that is gone is fine."""
        self._call("remove")
        if self.runs.pop(workflow_id, None) is not None:
            self.removed.append(workflow_id)

    async def get_definition(self, name: str, version: int) -> Json | None:
        """One version, or None."""
        self._call("get_definition")
        return self.definitions.get((name, version))

    async def get_definitions(self, name: str) -> list[Json]:
        """Every version."""
        return [body for (known, _), body in sorted(self.definitions.items()) if known == name]

    async def list_definition_stamps(self) -> dict[tuple[str, int], int]:
        """All stored at once."""
        return dict.fromkeys(self.definitions, 1)

    async def put_definition(self, definition: Json) -> None:
        """Keep it."""
        self.definitions[definition["name"], definition["version"]] = definition

    async def delete_definition(self, name: str, version: int) -> None:
        """Drop it."""
        self.definitions.pop((name, version), None)

    async def list_task_types(self) -> frozenset[str]:
        """None."""
        return frozenset()

    async def put_task_definition(self, task: Json) -> None:
        """Nothing to keep."""

    async def read_depths(self, queues: Sequence[tuple[str, str]]) -> dict[tuple[str, str], int]:
        """How much waits in each of them."""
        self._call("read_depths")
        return {queue: self.depths.get(queue, 0) for queue in queues}

    async def list_pollers(self) -> tuple[Polled, ...]:
        """None."""
        return ()

    def _change(self, verb: str, workflow_id: str, state: RunState, fits: tuple[RunState, ...]) -> None:
        self._call(verb)
        run = self.seen(workflow_id)
        if run is None:
            raise Gone(workflow_id)
        if run.state not in fits:
            raise Conflict(f"{workflow_id} is {run.state}")
        self.runs[workflow_id] = replace(run, state=state, end_ms=self._ms() if state == "TERMINATED" else 0)

    def _call(self, verb: str) -> None:
        self.calls[verb] += 1
        if self.away is not None:
            raise self.away("Conductor is away")

    def _ms(self) -> int:
        return int(self._clock.now().timestamp() * 1000)


class FakeTracker:
    """Views as they were put; `read` stands for the bulk read."""

    def __init__(self, conductor: FakeConductor) -> None:
        self._conductor = conductor
        self.keys: dict[str, Key] = {}
        self._views: dict[str, RunSeen | None] = {}
        self._settled: dict[str, RunSeen | None] = {}

    def watch(self, workflow_id: str, key: Key) -> None:
        """Follow it."""
        self.keys[workflow_id] = key

    def active(self) -> Iterator[tuple[Key, RunSeen]]:
        """None: what pools need is told by their queues here."""
        return iter(())

    def view(self, workflow_id: str) -> RunSeen | str | None:
        """The view as it was read last."""
        return (self._views[workflow_id] or "Absent") if workflow_id in self._views else None

    def put(self, workflow_id: str, view: RunSeen | None) -> None:
        """Someone read it."""
        self._views[workflow_id] = view

    def settle(self, workflow_id: str) -> None:
        """Its end is written: it is read again only if it moves."""
        self._settled[workflow_id] = self._views.pop(workflow_id, None)

    def refresh(self, workflow_id: str) -> None:
        """It is read with the next read anyway."""
        self._settled.pop(workflow_id, None)

    def refresh_all(self) -> None:
        """As `refresh`, for all."""
        self._settled.clear()

    def forget(self, workflow_id: str) -> None:
        """Nobody asks for it."""
        self.keys.pop(workflow_id, None)

    def forget_key(self, key: Key) -> None:
        """Its object is gone."""
        self.keys = {known: whose for known, whose in self.keys.items() if whose != key}

    def read(self) -> None:
        """Read everything that is watched; of what is settled, only what moved since."""
        for workflow_id in self.keys:
            seen = self._conductor.seen(workflow_id)
            if workflow_id not in self._settled or self._settled[workflow_id] != seen:
                self._settled.pop(workflow_id, None)
                self.put(workflow_id, seen)


class FakeLeases:
    """One Lease per name, replaced only with the resourceVersion that it has."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str, str], Json] = {}
        self.away: Callable[[], bool] = lambda: False
        self._versions = itertools.count(1)

    async def get_lease(self, namespace: str, name: str) -> Json:
        """Raises Gone."""
        if self.away():
            raise RetryLater("the API server is away")
        if (namespace, name) not in self.kept:
            raise Gone(name)
        return copy.deepcopy(self.kept[namespace, name])

    async def put_lease(self, namespace: str, name: str, body: Json, *, create: bool) -> Json:
        """Raises Conflict."""
        if self.away():
            raise RetryLater("the API server is away")
        known = self.kept.get((namespace, name))
        if create != (known is None):
            raise Conflict(name)
        if known and known["metadata"]["resourceVersion"] != body["metadata"].get("resourceVersion"):
            raise Conflict(name)
        stored = copy.deepcopy(body)
        stored["metadata"]["resourceVersion"] = str(next(self._versions))
        self.kept[namespace, name] = stored
        return copy.deepcopy(stored)
