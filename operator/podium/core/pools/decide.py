"""What to do next about a WorkerPool: keep its Deployment as the manifest says, as large as is needed."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from podium.api.v1alpha1.worker_pool import Scaling, WorkerPoolSpec
from podium.core import effects as do
from podium.core.durations import parse_duration
from podium.core.effects import PoolEffect, Unknown
from podium.core.objects import WorkerPool
from podium.core.pools.demand import Backlog, TaskLimit, TypeFacts, build_backlog
from podium.core.pools.manifests import Surroundings, build_owned, hash_manifest
from podium.core.pools.pods import OwnedSeen, PodSeen
from podium.core.pools.scaling import ASK_AGAIN, Limits, Memory, Need, Verdict, decide_replicas
from podium.ports import WorkerLoad

DEFAULT_INTERVAL = timedelta(seconds=2)
_SHORTEST_INTERVAL = timedelta(milliseconds=500)
# A look that is older says nothing any more.
_STALE = timedelta(seconds=15)
# Whoever is chosen to go has just said that it has nothing to do.
_FRESH = timedelta(seconds=1)
_JUST_ASKED = timedelta(seconds=6)
_GOES_FIRST = -100


@dataclass(frozen=True)
class Depths:
    """How much waits in the queues of a pool's task types, and when that was asked."""

    by_type: Mapping[str, int]
    at: datetime
    since: Mapping[str, datetime] = field(default_factory=dict)
    """Task type → since when every look has found something in its queue."""


@dataclass(frozen=True)
class Applied:
    """What was applied last, and the generation that it has had since."""

    hash: str
    generation: int


@dataclass(frozen=True)
class Seen:
    """Everything known about one WorkerPool at one moment."""

    pool: WorkerPool
    memory: Memory
    around: Surroundings | Unknown
    """What goes into its pods, or why that is not known."""
    replicas: int | None = None
    """Pods that the Deployment asked for when this pass began; None: there was none."""
    owned: Mapping[str, OwnedSeen] = field(default_factory=dict)
    """Kind → the object of its name that is in the cluster, as far as it belongs to a pool."""
    applied: Mapping[str, Applied] = field(default_factory=dict)
    pods: tuple[PodSeen, ...] = ()
    loads: Mapping[str, WorkerLoad] = field(default_factory=dict)
    """uid of a pod → what its worker said last."""
    depths: Depths | Unknown | None = None
    """None: not looked yet."""
    facts: Mapping[str, TypeFacts] = field(default_factory=dict)
    """Task type → what the runs say, in the pool's domain."""
    limits: Mapping[str, TaskLimit] = field(default_factory=dict)
    soon: str = ""
    """What will need the pool soon."""
    rival: str = ""
    """Why another pool has one of its task types."""
    strangers: tuple[str, ...] = ()
    """Task types that nobody knows, in words."""
    polled: Mapping[str, datetime] | None = None
    """Task type → when somebody asked for it last; None: not known."""
    done: frozenset[str] = frozenset()
    taken: str = ""
    """The kind of an object that has our name and is not ours."""
    refusal: str = ""
    """The API server's own words, if it refuses for good."""
    failure: str = ""
    """Why the last effect could not be carried out (it may work later)."""
    unmarked: str = ""
    """Why pods cannot be told who of them goes first: as long as some stay, none goes."""


@dataclass(frozen=True)
class Assessment:
    """What follows from what is seen."""

    need: Need
    backlog: Backlog | None
    """None: not known."""
    verdict: Verdict
    memory: Memory
    current: int
    """Pods that the Deployment asks for."""


def decide_pool(seen: Seen, now: datetime) -> PoolEffect | Assessment:
    """The next effect; an Assessment when nothing is left to do but to report."""
    found = assess(seen, now)
    if is_held(seen) or not isinstance(seen.around, Surroundings):
        return found
    if seen.taken or seen.refusal or seen.failure:
        return found
    spec = _spec(seen)
    if found.verdict.replicas < found.current and not _only_reports(spec) and spec.runtime == "Podium":
        if "loads" not in seen.done and _unheard(seen, now):
            return do.ReadLoads(_at_work(seen))
        found, marks = _choose(seen, found, now)
        if seen.unmarked and found.verdict.replicas:
            stays = replace(found.verdict, replicas=found.current, why=None, look_again=ASK_AGAIN)
            found, marks = replace(found, verdict=stays), []
        for pod, cost in marks:
            if f"mark {pod.uid}" not in seen.done:
                return do.MarkPod(pod, cost)
    replicas = found.current if _only_reports(spec) else found.verdict.replicas
    for manifest in build_owned(seen.pool, replicas, seen.around):
        kind = manifest["kind"]
        if kind in seen.done:
            continue
        live = seen.owned.get(kind)
        if live is None:
            return do.Make(manifest)
        known = seen.applied.get(kind)
        if known is None or (known.hash, known.generation) != (hash_manifest(manifest), live.generation):
            return do.Apply(manifest, live.uid)
    return found


def assess(seen: Seen, now: datetime) -> Assessment:
    """The need, and how many pods there shall be."""
    spec = seen.pool.spec
    current = seen.replicas or 0
    if spec is None:
        return Assessment(Need(None, 0, 0), None, Verdict(current, None, ""), seen.memory, current)
    backlog = _backlog(seen, spec, now)
    need = _need(seen, spec, backlog, now)
    if spec.suspend:
        verdict = Verdict(0, "Suspended" if current else None, "spec.suspend is true")
        return Assessment(need, backlog, verdict, seen.memory, current)
    if spec.scaling is None:
        to = 1 if spec.replicas is None else spec.replicas
        words = (
            "spec.replicas" if spec.replicas is not None else "one, as neither scaling nor replicas is set"
        )
        verdict = Verdict(to, "Manual" if to != current else None, words)
        return Assessment(need, backlog, verdict, seen.memory, current)
    if seen.replicas is None and _only_reports(spec):
        current = 1
    thought = seen.pool.status.get("desiredReplicas") if spec.scaling.dry_run else None
    verdict, memory = decide_replicas(
        limits_of(spec.scaling, spec.concurrency),
        current if thought is None else int(thought),
        need,
        seen.memory,
        now,
    )
    return Assessment(need, backlog, verdict, memory, current)


def is_held(seen: Seen) -> bool:
    """Whether nothing may be done about it now: what there is stays as it is."""
    pool = seen.pool
    return pool.deleting_since is not None or pool.spec is None or bool(seen.rival)


def limits_of(scaling: Scaling, concurrency: int) -> Limits:
    """What the law needs of a spec."""
    fallback = scaling.fallback
    return Limits(
        concurrency=concurrency,
        least=scaling.min_replicas,
        most=scaling.max_replicas,
        idle=scaling.min_replicas if scaling.idle_replicas is None else scaling.idle_replicas,
        utilization=scaling.target_utilization / 100,
        window=parse_duration(scaling.scale_down.stabilization_window),
        cooldown=parse_duration(scaling.cooldown_period),
        fallback_after=parse_duration(fallback.after) if fallback else None,
        fallback=fallback.replicas if fallback else 0,
    )


def polling_interval(spec: WorkerPoolSpec | None) -> timedelta:
    """How often its queues are looked at."""
    if spec is None or spec.scaling is None:
        return DEFAULT_INTERVAL
    return max(_SHORTEST_INTERVAL, parse_duration(spec.scaling.polling_interval))


def _spec(seen: Seen) -> WorkerPoolSpec:
    assert seen.pool.spec is not None
    return seen.pool.spec


def _only_reports(spec: WorkerPoolSpec) -> bool:
    return spec.scaling is not None and spec.scaling.dry_run and not spec.suspend


def _at_work(seen: Seen) -> tuple[PodSeen, ...]:
    """Pods that may have tasks, and stay."""
    return tuple(pod for pod in seen.pods if pod.running and not pod.leaving)


def _fresh_load(seen: Seen, pod: PodSeen, now: datetime, age: timedelta) -> WorkerLoad | None:
    load = seen.loads.get(pod.uid)
    return load if load is not None and now - load.at <= age else None


def _stale_after(spec: WorkerPoolSpec) -> timedelta:
    return max(_STALE, 3 * polling_interval(spec))


# --- the need ---------------------------------------------------------------------------------------


def _backlog(seen: Seen, spec: WorkerPoolSpec, now: datetime) -> Backlog | None:
    if not isinstance(seen.depths, Depths) or now - seen.depths.at > _stale_after(spec):
        return None
    if seen.depths.by_type.keys() != set(spec.task_types):
        return None  # its task types were just changed
    return build_backlog(seen.depths.by_type, seen.facts, _running(seen, spec, now), seen.limits)


def _running(seen: Seen, spec: WorkerPoolSpec, now: datetime) -> dict[str, int]:
    """Task type → tasks that are worked on, by the pods or, where those say nothing, by the runs."""
    by_runs = {name: facts.running for name, facts in seen.facts.items()}
    if spec.runtime == "Other":
        return by_runs
    by_pods: dict[str, int] = {}
    for pod in seen.pods:
        if load := _fresh_load(seen, pod, now, _stale_after(spec)):
            for name, count in load.running.items():
                by_pods[name] = by_pods.get(name, 0) + count
    return by_pods


def _need(seen: Seen, spec: WorkerPoolSpec, backlog: Backlog | None, now: datetime) -> Need:
    queued = backlog.waiting if backlog is not None else None
    at_work = _at_work(seen)
    if spec.runtime == "Other":
        running = sum(facts.running for name, facts in seen.facts.items() if name in spec.task_types)
        # Each of them may be in a pod of its own.
        return Need(queued, running, min(running, len(at_work)), soon=seen.soon)
    loads = [_fresh_load(seen, pod, now, _stale_after(spec)) for pod in at_work]
    known = [load for load in loads if load is not None]
    return Need(
        queued=queued,
        busy=sum(load.busy for load in known),
        busy_pods=sum(load.busy > 0 for load in known),
        unseen_pods=len(loads) - len(known),
        soon=seen.soon,
    )


# --- who goes ---------------------------------------------------------------------------------------


def _unheard(seen: Seen, now: datetime) -> bool:
    """Whether a pod has not just said how busy it is."""
    return any(_fresh_load(seen, pod, now, _FRESH) is None for pod in _at_work(seen))


def _choose(seen: Seen, found: Assessment, now: datetime) -> tuple[Assessment, list[tuple[PodSeen, int]]]:
    """Who goes: (pod, cost) to mark, and as many fewer pods as can go without taking one at work.

    Where a person decides how many, the least busy go; they finish what they have.
    """
    verdict, count = found.verdict, found.current - found.verdict.replicas
    staying = [pod for pod in seen.pods if not pod.leaving]
    busy = {pod.uid: _busy(seen, pod, now) for pod in staying}
    # What does not run goes first anyway, whatever its cost.
    staying.sort(key=lambda pod: (busy[pod.uid], pod.running, pod.ready, pod.cost, pod.name))
    not_made = max(0, found.current - len(staying))
    if verdict.why in ("LessToDo", "Idle", "MaxReplicas"):
        # Kubernetes takes pods that are not ready before all others, whatever their cost.
        exposed = any(busy[pod.uid] for pod in staying if pod.running and not pod.ready)
        free = not_made + sum(not busy[pod.uid] and not (exposed and pod.ready) for pod in staying)
        if free < count:
            count = free
            to = found.current - count
            words = f"{verdict.message}; {to} pods are at work"
            why = verdict.why if count else None
            # One that has not answered may be idle; its answer alone would not be news.
            verdict = replace(verdict, replicas=to, why=why, message=words, look_again=ASK_AGAIN)
    chosen = {pod.uid for pod in staying[: max(0, count - not_made)]}
    marks = [(pod, _GOES_FIRST if pod.uid in chosen else 0) for pod in staying if pod.running]
    if not count:
        marks = []
    return replace(found, verdict=verdict), [(pod, cost) for pod, cost in marks if pod.cost != cost]


def _busy(seen: Seen, pod: PodSeen, now: datetime) -> float:
    """Tasks of a pod; one that does not say counts as the busiest."""
    if not pod.running:
        return 0
    load = _fresh_load(seen, pod, now, _JUST_ASKED)
    return load.busy if load is not None else float("inf")
