"""What is said about a WorkerPool: its status, its conditions, and the Events."""

from datetime import datetime, timedelta
from typing import Literal

from podium.api.v1alpha1.worker_pool import MOST_DECISIONS, POOL_LABEL
from podium.core.conditions import Word, json_bytes, ready, reconciling, shorten, stalled, write_conditions
from podium.core.durations import format_time
from podium.core.effects import Note, Report, Unknown
from podium.core.objects import conditions_of
from podium.core.pools.decide import Assessment, Depths, Seen, is_held
from podium.core.pools.pods import PodSeen, Trouble
from podium.ports import Json

STARVED_AFTER = timedelta(seconds=60)
_LOOK_AGAIN = timedelta(seconds=5)
_MOST_BYTES = 8 * 1024
_SHORT_MESSAGE = 100
# In this order: what is told if there are several.
_TROUBLES: tuple[Trouble, ...] = ("ImagePullFailed", "ContainerConfigError", "CrashLooping", "Unschedulable")


def build_report(seen: Seen, found: Assessment, now: datetime) -> Report:
    """The status of a pool after a pass, with what people are told."""
    pool, before = seen.pool, seen.pool.status
    if pool.deleting_since is not None:
        return Report(None)
    status, notes = _build_status(seen, found, now)
    words = (*_ready_words(seen, found, now), *_more_words(seen, found))
    news = [
        word for word in words if word.type == "Ready" and word.status == "False" and _is_news(seen, word)
    ]
    notes += [Note("Warning", word.reason, word.message) for word in news]
    moved = any(
        before.get(part) != status.get(part)
        for part in ("decisions", "replicas", "readyReplicas", "draining")
    )
    return Report(
        status,
        words,
        tuple(notes),
        _again(seen, found, now),
        urgent=bool(notes) or moved or any(_is_news(seen, word, by_message=False) for word in words),
    )


def report_conditions(seen: Seen, report: Report, now: datetime) -> Json:
    """The status of a report, with its conditions and generation: what is written."""
    pool = seen.pool
    status = dict(report.status or {})
    status["observedGeneration"] = pool.generation
    status["conditions"] = write_conditions(
        report.words, conditions_of(pool), generation=pool.generation, now=now
    )
    while json_bytes(status) > _MOST_BYTES and len(status.get("decisions", ())) > 1:
        status = {**status, "decisions": status["decisions"][:-1]}
    return status


# --- the status -------------------------------------------------------------------------------------


def _build_status(seen: Seen, found: Assessment, now: datetime) -> tuple[Json, list[Note]]:
    pool, before = seen.pool, seen.pool.status
    deployment = seen.owned.get("Deployment")
    staying = [pod for pod in seen.pods if not pod.leaving]
    status: Json = {
        "replicas": len(staying),
        "selector": f"{POOL_LABEL}={pool.key.name}",
        "readyReplicas": sum(pod.ready for pod in staying),
    }
    if draining := len(seen.pods) - len(staying):
        status["draining"] = draining
    decisions, notes = list(before.get("decisions") or ()), []
    wanted = found.current if is_held(seen) else found.verdict.replicas
    if pool.spec is not None and (deployment is not None or found.verdict.why is not None):
        status["desiredReplicas"] = wanted
    if (decision := _decision(seen, found, now)) is not None:
        decisions = [decision, *decisions][:MOST_DECISIONS]
        notes.append(_note(seen, decision))
    if decisions:
        status["decisions"] = decisions
    if found.need.unseen_pods == 0:
        status["busy"] = found.need.busy
    if found.backlog is not None:
        status["queued"] = found.backlog.waiting + found.backlog.capped
        if found.backlog.delayed:
            status["delayed"] = found.backlog.delayed
        if found.backlog.waiting and (oldest := _oldest_wait(seen, now)) is not None:
            status["oldestWait"] = _age(oldest)
    if (age := _poll_age(seen, now)) is not None:
        status["lastPollAge"] = _age(age)
    return status, notes


def _decision(seen: Seen, found: Assessment, now: datetime) -> Json | None:
    verdict, spec = found.verdict, seen.pool.spec
    if verdict.why is None or is_held(seen) or seen.taken or seen.refusal or seen.failure or spec is None:
        return None
    if spec.scaling is not None and spec.scaling.dry_run and not spec.suspend:
        thought = seen.pool.status.get("desiredReplicas")
        came_from = found.current if thought is None else int(thought)
    else:
        came_from = found.current
        if "Deployment" not in seen.done:
            return None  # nothing was changed
    return {
        "at": format_time(now),
        "from": came_from,
        "to": verdict.replicas,
        "reason": verdict.why,
        "message": shorten(verdict.message, _SHORT_MESSAGE),
    }


def _note(seen: Seen, decision: Json) -> Note:
    words = f"{decision['from']} → {decision['to']} pods: {decision['message']}"
    spec = seen.pool.spec
    if spec is not None and spec.scaling is not None and spec.scaling.dry_run and not spec.suspend:
        return Note("Normal", "WouldScale", f"{words} (dryRun: nothing is changed)")
    return Note("Normal", "ScaledUp" if decision["to"] > decision["from"] else "ScaledDown", words)


def _oldest_wait(seen: Seen, now: datetime) -> timedelta | None:
    times = [facts.oldest_ms for facts in seen.facts.values() if facts.oldest_ms]
    if not times:
        return None
    return max(timedelta(), now - now.fromtimestamp(min(times) / 1000, now.tzinfo))


def _poll_age(seen: Seen, now: datetime) -> timedelta | None:
    polls = [load.last_poll for load in seen.loads.values() if load.last_poll is not None]
    polls += list((seen.polled or {}).values())
    return max(timedelta(), now - max(polls)) if polls else None


def _age(age: timedelta) -> str:
    """To the second; to the minute when it is long: it shall not change for nothing."""
    seconds = int(age.total_seconds())
    if seconds < 60:
        return f"{seconds}s"
    return f"{seconds // 60}m" if seconds < 7200 else f"{seconds // 3600}h"


# --- the words --------------------------------------------------------------------------------------


def _ready_words(seen: Seen, found: Assessment, now: datetime) -> tuple[Word, ...]:
    pool = seen.pool
    if pool.spec is None:
        return stalled("InvalidSpec", pool.spec_error)
    if seen.rival:
        return stalled("TaskTypeTaken", seen.rival)
    if isinstance(seen.around, Unknown):
        words = stalled if seen.around.stalled else reconciling
        return words(seen.around.reason, seen.around.error)
    if seen.taken:
        return stalled(
            "NameTaken",
            f"there is a {seen.taken} {pool.key.name} here that is not this pool's: rename the pool, or "
            "delete that one",
        )
    if seen.refusal:
        return stalled("InvalidTemplate", seen.refusal)
    if seen.failure or seen.unmarked:
        return reconciling("PodsRefused", seen.failure or seen.unmarked)
    return _pod_words(seen, found) or _queue_words(seen, found, now) or _good_words(seen, found)


def _pod_words(seen: Seen, found: Assessment) -> tuple[Word, ...]:
    """What keeps pods from running."""
    deployment = seen.owned.get("Deployment")
    able = any(pod.ready and not pod.leaving for pod in seen.pods)
    if deployment is not None and deployment.failure and found.verdict.replicas:
        reason = _failure_reason(deployment.failure)
        if not able or reason == "PodsRefused":
            return reconciling(reason, deployment.failure)
    for trouble in _TROUBLES:
        pods = [pod for pod in seen.pods if pod.trouble == trouble and not pod.leaving]
        if pods and trouble and not (trouble == "Unschedulable" and able):
            return reconciling(trouble, _trouble_words(pods))
    return ()


def _trouble_words(pods: list[PodSeen]) -> str:
    more = f" (and {len(pods) - 1} more pods)" if len(pods) > 1 else ""
    return f"pod {pods[0].name}: {pods[0].message}{more}"


def _failure_reason(failure: str) -> Literal["QuotaExceeded", "PodsRefused"]:
    return "QuotaExceeded" if "exceeded quota" in failure else "PodsRefused"


def _queue_words(seen: Seen, found: Assessment, now: datetime) -> tuple[Word, ...]:
    assert seen.pool.spec is not None
    if seen.pool.spec.suspend:
        return ()
    if isinstance(seen.depths, Unknown):
        return reconciling(
            seen.depths.reason, f"the queues are not known, so the pool stays as it is: {seen.depths.error}"
        )
    starved = _starved(seen, found, now)
    if starved:
        return reconciling("Starved", starved)
    return ()


def _waits(seen: Seen, found: Assessment, now: datetime) -> dict[str, timedelta]:
    """Task type → how long tasks of it have waited: the oldest that is known, else how long any was seen."""
    if found.backlog is None or not isinstance(seen.depths, Depths):
        return {}
    waits = {}
    for name, queue in found.backlog.queues.items():
        oldest = seen.facts[name].oldest_ms if name in seen.facts else 0
        since = now.fromtimestamp(oldest / 1000, now.tzinfo) if oldest else seen.depths.since.get(name)
        if queue.waiting and since is not None:
            waits[name] = now - since
    return waits


def _starved(seen: Seen, found: Assessment, now: datetime) -> str:
    """Which types wait, and nobody asks for them."""
    if seen.polled is None or found.backlog is None:
        return ""
    for name, waits in _waits(seen, found, now).items():
        queue, last = found.backlog.queues[name], seen.polled.get(name)
        if waits >= STARVED_AFTER and (last is None or now - last >= STARVED_AFTER):
            asked = (
                f"nobody has asked for them for {_age(now - last)}" if last else "nobody ever asked for them"
            )
            one = queue.waiting == 1
            return (
                f"{queue.waiting} {'task' if one else 'tasks'} of {name} {'waits' if one else 'wait'}, "
                f"the oldest for {_age(waits)}, and {asked}"
            )
    return ""


def _good_words(seen: Seen, found: Assessment) -> tuple[Word, ...]:
    spec = seen.pool.spec
    assert spec is not None
    if spec.suspend:
        return ready("Suspended", "spec.suspend is true: no pods, tasks wait")
    able = sum(pod.ready and not pod.leaving for pod in seen.pods)
    wanted = found.current if spec.scaling is not None and spec.scaling.dry_run else found.verdict.replicas
    if wanted and not able:
        return reconciling("PodsStarting", f"none of {wanted} pods is ready yet")
    more = ""
    if spec.runtime == "Other" and spec.scaling is not None:
        more = "; runtime is Other: scaled by the depth of the queues alone"
    return ready("Serving", f"serves {', '.join(spec.task_types)}{more}")


def _more_words(seen: Seen, found: Assessment) -> list[Word]:
    words = [_active_word(found), _limited_word(seen, found)]
    if seen.strangers:
        words.append(Word("TaskTypesKnown", "False", "UnknownTaskType", "; ".join(seen.strangers)))
    return words


def _active_word(found: Assessment) -> Word:
    need = found.need
    if need.active:
        return Word("Active", "True", "Working", need.soon if not need.slots else "")
    if not need.known:
        return Word("Active", "Unknown", "NotKnown", "the queues or the pods do not answer")
    return Word("Active", "False", "Idle", "nothing waits and nothing runs")


def _limited_word(seen: Seen, found: Assessment) -> Word:
    spec, backlog = seen.pool.spec, found.backlog
    deployment = seen.owned.get("Deployment")
    if deployment is not None and deployment.failure and found.verdict.replicas:
        return Word("Limited", "True", "QuotaExceeded", deployment.failure)
    waiting = [pod for pod in seen.pods if pod.trouble == "Unschedulable" and not pod.leaving]
    if waiting:
        return Word("Limited", "True", "Unschedulable", _trouble_words(waiting))
    if found.verdict.capped and spec is not None and spec.scaling is not None:
        return Word(
            "Limited", "True", "MaxReplicas", f"more than maxReplicas ({spec.scaling.max_replicas}) is needed"
        )
    if backlog is not None and backlog.capped:
        types = ", ".join(backlog.capped_types)
        return Word("Limited", "True", "TaskLimit", f"{types}: tasks wait for the limit of their type")
    return Word("Limited", "False", "NotLimited")


def _is_news(seen: Seen, word: Word, *, by_message: bool = True) -> bool:
    return not any(
        item["type"] == word.type
        and item["status"] == word.status
        and item["reason"] == word.reason
        and (not by_message or item["message"] == shorten(word.message))
        for item in conditions_of(seen.pool)
    )


def _again(seen: Seen, found: Assessment, now: datetime) -> timedelta | None:
    if seen.failure or seen.unmarked or isinstance(seen.around, Unknown) or seen.taken:
        return _LOOK_AGAIN
    waits = _waits(seen, found, now).values()
    # That tasks wait too long is told by the time alone: nothing else may move meanwhile.
    starves = max(STARVED_AFTER - max(waits), _LOOK_AGAIN) if waits else None
    return min(filter(None, (found.verdict.look_again, starves)), default=None)
