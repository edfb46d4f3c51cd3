"""The status of a pod with one container, in the words of a kubelet. Pure."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from podium.local.process_node.container import Place, first_container

Json = dict[str, Any]

_MOST_MESSAGE_BYTES, _MOST_MESSAGE_LINES = 2048, 80
_FIRST_DELAY, _LONGEST_DELAY, _LONG_ENOUGH = 1.0, 30.0, 60.0


@dataclass(frozen=True)
class Waiting:
    """Not started, or not started again."""

    reason: str
    message: str = ""


@dataclass(frozen=True)
class Running:
    """It runs since then."""

    since: dt.datetime


@dataclass(frozen=True)
class Terminated:
    """It has ended. `exit_code` is 128 + n if signal n ended it."""

    exit_code: int
    reason: str
    finished: dt.datetime
    started: dt.datetime | None = None
    message: str = ""


State = Waiting | Running | Terminated


@dataclass(frozen=True)
class Seen:
    """A pod as the node sees it. `ready`: its readiness probe passes; `over`: it is not restarted."""

    since: dt.datetime
    state: State = Waiting("ContainerCreating")
    last: Terminated | None = None
    restarts: int = 0
    started: bool = False
    ready: bool = False
    over: bool = False

    def ended(self, now: Terminated) -> Seen:
        """As it is when its process has just ended."""
        return replace(self, state=now, last=now, ready=False, started=False)


def describe_end(exit_code: int, started: dt.datetime, now: dt.datetime, log_tail: str) -> Terminated:
    """How a container ended: a message only of one that failed."""
    if exit_code == 0:
        return Terminated(0, "Completed", now, started)
    return Terminated(exit_code, "Error", now, started, log_tail)


def cut_message(log: bytes) -> str:
    """The end of a log as a kubelet keeps it: at most 2048 bytes and 80 lines."""
    text = log[-_MOST_MESSAGE_BYTES:].decode(errors="replace")
    return "".join(text.splitlines(keepends=True)[-_MOST_MESSAGE_LINES:])


def is_restarted(pod: Json, exit_code: int) -> bool:
    """What the pod's restart policy says."""
    policy = pod["spec"].get("restartPolicy", "Always")
    return policy == "Always" or (policy == "OnFailure" and exit_code != 0)


def next_delay(before: float | None, ran: float) -> float:
    """Seconds until the next restart: none, 1, 2, 4 … 30; from the beginning after a minute that was well."""
    if before is None or ran >= _LONG_ENOUGH:
        return 0.0
    return min(max(before * 2, _FIRST_DELAY), _LONGEST_DELAY)


def build_pod_status(pod: Json, seen: Seen, place: Place, written: Json, now: dt.datetime) -> Json:
    """The whole status that the node owns; `written` is the one before, for the times of its conditions."""
    container = first_container(pod)
    status: Json = {
        "phase": _phase(seen),
        "hostIP": place.host_ip,
        "hostIPs": [{"ip": place.host_ip}],
        "podIP": place.pod_ip,
        "podIPs": [{"ip": place.pod_ip}],
        "startTime": _time(seen.since),
        "conditions": list(_conditions(container["name"], seen, written, now)),
        "containerStatuses": [
            {
                "name": container["name"],
                "image": container["image"],
                "imageID": "",
                "state": _state(seen.state),
                "lastState": _state(seen.last) if seen.last and seen.last is not seen.state else {},
                "restartCount": seen.restarts,
                "started": seen.started,
                "ready": seen.ready,
            }
        ],
    }
    if generation := pod["metadata"].get("generation"):
        status["observedGeneration"] = generation
    return status


def _phase(seen: Seen) -> str:
    match seen.state:
        case Terminated(exit_code=code) if seen.over:
            return "Failed" if code else "Succeeded"
        case Waiting() if seen.last is None:
            return "Pending"
        case _:
            return "Running"


def _conditions(name: str, seen: Seen, written: Json, now: dt.datetime) -> Iterable[Json]:
    before = {item["type"]: item for item in written.get("conditions") or []}
    reason = message = ""
    if not seen.ready:
        reason = "PodCompleted" if _phase(seen) == "Succeeded" else "ContainersNotReady"
        message = "" if reason == "PodCompleted" else f"containers with unready status: [{name}]"
    for kind in ("PodScheduled", "Initialized", "ContainersReady", "Ready"):
        about_ready = kind in ("ContainersReady", "Ready")
        status = "True" if seen.ready or not about_ready else "False"
        old = before.get(kind) or {}
        since = old["lastTransitionTime"] if old.get("status") == status else _time(now)
        # An explicit null removes a reason that was there: a patch leaves alone what it does not name.
        yield {
            "type": kind,
            "status": status,
            "lastTransitionTime": since,
            "reason": (reason or None) if about_ready else None,
            "message": (message or None) if about_ready else None,
        }


def _state(state: State) -> Json:
    match state:
        case Waiting(reason, message):
            return {"waiting": {"reason": reason, **({"message": message} if message else {})}}
        case Running(since):
            return {"running": {"startedAt": _time(since)}}
        case Terminated():
            body: Json = {
                "exitCode": state.exit_code,
                "reason": state.reason,
                "finishedAt": _time(state.finished),
            }
            if state.started:
                body["startedAt"] = _time(state.started)
            if state.message:
                body["message"] = state.message
            return {"terminated": body}


def _time(moment: dt.datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
