"""The part of the demo that has pods: a burst of runs, and a WorkerPool that follows it from zero to zero."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from podium.local.control_plane import run_kubectl
from podium.local.errors import LocalError
from podium.local.parts import NODE
from podium.local.state import StackState

RUNS = 12
_EXAMPLE = Path("pools") / "burst.yaml"
_LOOK_EVERY = 0.5


def has_pods(state: StackState) -> bool:
    """Whether pods run in this stack without an image that somebody has to bring."""
    return NODE in state.parts


def run_pool_demo(
    state: StackState, examples: Path, *, say: Callable[[str], None], within: float = 120.0
) -> list[tuple[int, int]]:
    """Start a burst of runs, and watch the pool; (pods wanted before, after) of each of its decisions.

    Raises LocalError if a run does not succeed at its first attempt, or the pool does not go back to zero.
    """
    path = examples / _EXAMPLE
    bodies = [body for body in yaml.safe_load_all(path.read_text()) if body]
    workflow, pool = (
        next(body for body in bodies if body["kind"] == kind) for kind in ("Workflow", "WorkerPool")
    )
    place = ("-n", pool["metadata"]["namespace"])

    def kubectl(*arguments: str, stdin: str | None = None) -> str:
        return run_kubectl(state.kubectl, state.kubeconfig, *arguments, stdin=stdin)

    def read(*what: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(kubectl("get", *what, *place, "-o", "json"))
        return found

    say(kubectl("apply", "-f", str(path)).rstrip())
    kubectl(
        "wait", f"workflow/{workflow['metadata']['name']}", *place, "--for=condition=Ready", "--timeout=60s"
    )
    runs = [_run(workflow, number) for number in range(RUNS)]
    kubectl("delete", "workflowruns", "--all", *place)
    kubectl("apply", "-f", "-", stdin="\n---\n".join(json.dumps(run) for run in runs))
    say(f"{RUNS} runs at once")
    deadline, shown, grew = time.monotonic() + within, "", False
    while True:
        status = read("workerpool", pool["metadata"]["name"]).get("status") or {}
        phases = [item.get("status", {}).get("phase", "") for item in read("workflowruns")["items"]]
        line = _line(status, phases)
        if line != shown:
            say(line)
            shown = line
        grew |= status.get("replicas", 0) > 0
        if (
            grew
            and not status.get("replicas")
            and not status.get("draining")
            and all(p == "Succeeded" for p in phases)
        ):
            break
        if bad := [phase for phase in phases if phase in ("Failed", "TimedOut", "Terminated")]:
            raise LocalError(
                f"{len(bad)} runs of the burst did not succeed: kubectl get workflowruns {' '.join(place)}"
            )
        if time.monotonic() > deadline:
            raise LocalError(
                f"the pool is not done within {within:.0f} s: podium pool explain renderers {' '.join(place)}"
            )
        time.sleep(_LOOK_EVERY)
    attempts = [
        task["attempts"] for item in read("workflowruns")["items"] for task in item["status"]["tasks"]
    ]
    if attempts != [1] * RUNS:
        raise LocalError(f"a task was begun more than once: attempts {attempts}")
    return [(item["from"], item["to"]) for item in reversed(status.get("decisions") or [])]


def _run(workflow: dict[str, Any], number: int) -> dict[str, Any]:
    name = workflow["metadata"]["name"]
    return {
        "apiVersion": workflow["apiVersion"],
        "kind": "WorkflowRun",
        "metadata": {"name": f"{name}-{number}", "namespace": workflow["metadata"]["namespace"]},
        # Of different lengths, so that some pods are idle while others still work.
        "spec": {"workflow": name, "input": {"seconds": 2 + number % 4 * 2}},
    }


def _line(status: dict[str, Any], phases: list[str]) -> str:
    done = sum(phase == "Succeeded" for phase in phases)
    ready, wanted = status.get("readyReplicas", 0), status.get("desiredReplicas", 0)
    leaving = f", {status['draining']} finishing" if status.get("draining") else ""
    return (
        f"  pool renderers: {status.get('replicas', 0)} pods ({ready} ready, {wanted} wanted{leaving}), "
        f"{done} of {len(phases)} runs done"
    )
