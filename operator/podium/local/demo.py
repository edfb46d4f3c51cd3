"""The demo: the examples on real servers, watched to their ends; it fails if anything ends otherwise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import yaml

from podium.local.demo_stage import FINISHED, Stage
from podium.local.errors import LocalError

_ENDS = "podium.dev/example-ends"


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
        return self.phase in FINISHED


def find_examples() -> Path:
    """The folder of the examples: in the package, or in the checkout that it is installed from."""
    here = Path(__file__).resolve()
    for folder in (here.with_name("examples"), here.parents[3] / "manifests" / "examples"):
        if any(folder.glob("*.yaml")):
            return folder
    raise LocalError("this installation of podium has no examples: install it again.")


def run_demo(
    stage: Stage, examples: Path, *, show: Callable[[list[RunLine]], None], within: float = 300.0
) -> None:
    """Apply the examples to a stack that is up, and follow them.

    `show` is called with all runs whenever one moved. Raises LocalError if a run does not end as its
    annotation podium.dev/example-ends says (Succeeded, if it says nothing), or not in time.
    """
    wanted = _wanted_ends(examples)
    stage.say(stage.kubectl("apply", "-f", str(examples)))
    lines: list[RunLine] = []

    def all_ended() -> bool:
        nonlocal lines
        now = _look(stage, wanted)
        if now != lines:
            show(now)
            lines = now
        return len(now) == len(wanted) and all(line.has_ended for line in now)

    def left() -> str:
        names = ", ".join(line.name for line in lines if not line.has_ended)
        return f"{names}; the logs: podium dev logs operator"

    stage.until(all_ended, within=within, otherwise=left)
    wrong = [
        f"{line.name} ended {line.phase}, not {line.wanted}" for line in lines if line.phase != line.wanted
    ]
    if wrong:
        raise LocalError("; ".join(wrong))


def final_tables(stage: Stage, examples: Path) -> str:
    """What a person would look at when all is over."""
    failed = next(name for name, end in sorted(_wanted_ends(examples).items()) if end != "Succeeded")
    commands = (
        ("get", "workflows"),
        ("get", "workflowruns"),
        ("describe", "workflowrun", failed),
    )
    return "\n".join(f"$ kubectl {' '.join(words)}\n{stage.kubectl(*words)}" for words in commands)


def _wanted_ends(examples: Path) -> dict[str, str]:
    ends = {}
    for path in sorted(examples.glob("*.yaml")):
        for body in yaml.safe_load_all(path.read_text()):
            if body and body["kind"] == "WorkflowRun":
                metadata = body["metadata"]
                ends[metadata["name"]] = (metadata.get("annotations") or {}).get(_ENDS, "Succeeded")
    return ends


def _look(stage: Stage, wanted: dict[str, str]) -> list[RunLine]:
    lines = []
    for item in stage.read("workflowruns")["items"]:
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
