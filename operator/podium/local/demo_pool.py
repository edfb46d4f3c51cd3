"""The part of the demo that has pods: a burst of runs, and a WorkerPool that follows it from zero to zero."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from podium.local.demo_stage import FINISHED, Stage
from podium.local.errors import LocalError
from podium.local.parts import NODE
from podium.local.state import StackState

RUNS = 12
_EXAMPLE = Path("pools") / "burst.yaml"


def has_pods(state: StackState) -> bool:
    """Whether pods run in this stack without an image that somebody has to bring."""
    return NODE in state.parts


def run_pool_demo(stage: Stage, examples: Path, *, within: float = 120.0) -> list[tuple[int, int]]:
    """Start a burst of runs, and watch the pool; (pods wanted before, after) of each of its decisions.

    Raises LocalError if a run does not succeed at its first attempt, or the pool does not go back to zero.
    """
    path = examples / _EXAMPLE
    bodies = [body for body in yaml.safe_load_all(path.read_text()) if body]
    workflow, pool = (
        next(body for body in bodies if body["kind"] == kind) for kind in ("Workflow", "WorkerPool")
    )
    place = ("-n", pool["metadata"]["namespace"])
    stage.say(stage.kubectl("apply", "-f", str(path)).rstrip())
    stage.kubectl(
        "wait", f"workflow/{workflow['metadata']['name']}", *place, "--for=condition=Ready", "--timeout=60s"
    )
    stage.kubectl("delete", "workflowruns", "--all", *place)
    stage.apply(_run(workflow, number) for number in range(RUNS))
    stage.say(f"{RUNS} runs at once")
    grew = False

    def status() -> dict[str, Any]:
        return stage.read("workerpool", pool["metadata"]["name"], *place).get("status") or {}

    def follows() -> bool:
        nonlocal grew
        now = status()
        phases = [
            item.get("status", {}).get("phase", "") for item in stage.read("workflowruns", *place)["items"]
        ]
        stage.say_once(_line(now, phases))
        if bad := FINISHED.intersection(phases) - {"Succeeded"}:
            raise LocalError(
                f"runs of the burst ended {', '.join(bad)}: kubectl get workflowruns {' '.join(place)}"
            )
        grew |= now.get("replicas", 0) > 0
        gone = not now.get("replicas") and not now.get("draining")
        return grew and gone and all(phase == "Succeeded" for phase in phases)

    stage.until(
        follows, within=within, otherwise=lambda: f"podium pool explain renderers {' '.join(place)} says why"
    )
    attempts = [
        task["attempts"]
        for item in stage.read("workflowruns", *place)["items"]
        for task in item["status"]["tasks"]
    ]
    if attempts != [1] * RUNS:
        raise LocalError(f"a task was begun more than once: attempts {attempts}")
    return [(item["from"], item["to"]) for item in reversed(status().get("decisions") or [])]


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
