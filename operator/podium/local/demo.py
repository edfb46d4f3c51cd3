"""The demo: the examples on real servers, watched to their ends; it fails if anything ends otherwise."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from podium.local.control_plane import run_kubectl
from podium.local.errors import LocalError
from podium.local.stack import Stack
from podium.local.state import StackState, Wishes

_ENDS = "podium.dev/example-ends"
_LOOK_EVERY = 0.4
_FINISHED = frozenset({"Succeeded", "Failed", "TimedOut", "Terminated"})


@dataclass(frozen=True)
class RunLine:
    """One run as it is now, for the screen."""

    name: str
    workflow: str
    phase: str
    progress: str
    current: str
    wanted: str

    @property
    def has_ended(self) -> bool:
        """Whether it is over."""
        return self.phase in _FINISHED


def find_examples() -> Path:
    """The folder of the examples: in the package, or in the checkout that it is installed from."""
    here = Path(__file__).resolve()
    for folder in (here.with_name("examples"), here.parents[3] / "manifests" / "examples"):
        if any(folder.glob("*.yaml")):
            return folder
    raise LocalError("this installation of podium has no examples: install it again.")


def run_demo(
    stack: Stack,
    wishes: Wishes,
    examples: Path,
    *,
    say: Callable[[str], None],
    show: Callable[[list[RunLine]], None],
    within: float = 300.0,
) -> None:
    """Apply the examples to a stack that is up, and follow them.

    `show` is called with all runs whenever one moved. Raises LocalError if a run does not end as its
    annotation podium.dev/example-ends says (Succeeded, if it says nothing), or not in time. Parts that
    die meanwhile are started again, as a Deployment would.
    """
    state = stack.state()
    wanted = _wanted_ends(examples)
    say(_kubectl(state, "apply", "-f", str(examples)))
    deadline = time.monotonic() + within
    shown: list[RunLine] = []
    while True:
        lines = _look(state, wanted)
        if lines != shown:
            show(lines)
            shown = lines
        if all(line.has_ended for line in lines) and len(lines) == len(wanted):
            break
        if time.monotonic() > deadline:
            left = ", ".join(line.name for line in lines if not line.has_ended)
            raise LocalError(f"not ended within {within:.0f} s: {left}; the logs: podium dev logs operator")
        dead = [part.name for part in stack.status() if part.pid is None and part.log is not None]
        if dead:
            say(f"{', '.join(dead)} died: starting it again, as a Deployment would")
            stack.up(wishes)
            state = stack.state()
        time.sleep(_LOOK_EVERY)
    wrong = [
        f"{line.name} ended {line.phase}, not {line.wanted}" for line in lines if line.phase != line.wanted
    ]
    if wrong:
        raise LocalError("; ".join(wrong))


def final_tables(state: StackState, examples: Path) -> str:
    """What a person would look at when all is over."""
    failed = next(name for name, end in sorted(_wanted_ends(examples).items()) if end != "Succeeded")
    commands = (
        ("get", "workflows"),
        ("get", "workflowruns"),
        ("describe", "workflowrun", failed),
    )
    return "\n".join(f"$ kubectl {' '.join(words)}\n{_kubectl(state, *words)}" for words in commands)


def _wanted_ends(examples: Path) -> dict[str, str]:
    ends = {}
    for path in sorted(examples.glob("*.yaml")):
        for body in yaml.safe_load_all(path.read_text()):
            if body and body["kind"] == "WorkflowRun":
                metadata = body["metadata"]
                ends[metadata["name"]] = (metadata.get("annotations") or {}).get(_ENDS, "Succeeded")
    return ends


def _look(state: StackState, wanted: dict[str, str]) -> list[RunLine]:
    items: list[dict[str, Any]] = json.loads(_kubectl(state, "get", "workflowruns", "-o", "json"))["items"]
    lines = []
    for item in items:
        name, status = item["metadata"]["name"], item.get("status") or {}
        if name in wanted:
            lines.append(
                RunLine(
                    name,
                    item["spec"]["workflow"],
                    status.get("phase", ""),
                    status.get("progress", ""),
                    status.get("currentTask", ""),
                    wanted[name],
                )
            )
    return lines


def _kubectl(state: StackState, *arguments: str) -> str:
    return run_kubectl(state.kubectl, state.kubeconfig, *arguments)
