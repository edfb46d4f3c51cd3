"""`podium dev up --reload` and `--apply` with real parts: an edit is running a moment later."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from podium.local import Conductor
from podium.local.processes import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

CHECKOUT = Path(__file__).parents[2]
COMMAND = (sys.executable, "-c", "from podium.cli.dev import dev; dev(prog_name='podium dev')")
WORKFLOW = """
apiVersion: podium.dev/v1alpha1
kind: Workflow
metadata: {{name: {name}}}
spec:
  flow:
    nodes:
      - {{id: a, type: {type}, config: {{text: hello}}}}
  output: {{said: {{_type: reference, nodeId: a, outputKey: said}}}}
"""
RUN = """
apiVersion: podium.dev/v1alpha1
kind: WorkflowRun
metadata: {{name: {name}}}
spec: {{workflow: greeting}}
"""
FUNCTION = """
import time

from podium_workers import task

@task("greet")
def greet(text: str) -> dict[str, str]:
    \"\"\"Greets.\"\"\"
    return {"said": text + "WORD"}
"""


class Mode:
    """A copy of the code and a user's folder, with `podium dev up --reload` running on them."""

    def __init__(self, folder: Path) -> None:
        self.code = folder / "code"
        for part in ("operator", "workers", "crds"):
            shutil.copytree(CHECKOUT / part, self.code / part, ignore=shutil.ignore_patterns("__pycache__"))
        self.home = folder / "home"
        self.manifests = self.home / "manifests"
        self.manifests.mkdir(parents=True)
        self.env = {k: v for k, v in os.environ.items() if k not in ("KUBECONFIG", "PODIUM_CONTEXT")}
        self.env |= {
            "PODIUM_STATE": str(folder / "state"),
            "PYTHONPATH": f"{self.code / 'operator'}:{self.code / 'workers'}",
            "PYTHONUNBUFFERED": "1",
        }
        self.lines: list[str] = []
        self._process: subprocess.Popen[str] | None = None

    def up(self, *arguments: str) -> None:
        self._process = subprocess.Popen(
            [*COMMAND, "up", *arguments],
            cwd=self.home,
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.lines.append(line.rstrip())

    def until_said(self, words: str, within: float = 120) -> str:
        """All that was said and not asked for yet, up to the first line with these words."""
        found: list[int] = []

        def said() -> bool:
            found[:] = [number for number, line in enumerate(self.lines) if re.search(words, line)]
            return bool(found)

        assert wait_until(said, within), f"{words!r} was not said in:\n" + "\n".join(self.lines)
        heard, self.lines[: found[0] + 1] = self.lines[: found[0] + 1], []
        return "\n".join(heard)

    def end(self, number: int = signal.SIGINT) -> tuple[int, str]:
        assert self._process is not None
        self._process.send_signal(number)
        code = self._process.wait(timeout=180)
        wait_until(lambda: False, 0.3)
        return code, "\n".join(self.lines)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*COMMAND, *arguments], env=self.env, capture_output=True, text=True, check=False, cwd=self.home
        )

    def parts(self) -> dict[str, dict[str, object]]:
        report = json.loads(self.run("status", "-o", "json").stdout)
        return {part["name"]: part for part in report["parts"]}

    def kubectl(self, *arguments: str) -> str:
        folder = Path(self.env["PODIUM_STATE"]) / "dev" / "default"
        argv = [str(folder / "bin" / "kubectl"), f"--kubeconfig={folder / 'kubeconfig'}", *arguments]
        return subprocess.run(argv, capture_output=True, text=True, check=False).stdout

    def close(self) -> None:
        with contextlib.suppress(AssertionError, subprocess.TimeoutExpired):
            self.end(signal.SIGKILL)
        self.run("down")


@pytest.fixture
def mode(tmp_path: Path) -> Iterator[Mode]:
    mode = Mode(tmp_path)
    yield mode
    mode.close()


def said_by(mode: Mode, run: str) -> str:
    """What a run of the workflow came to."""
    (mode.manifests / f"{run}.yaml").write_text(RUN.format(name=run))
    mode.until_said(f"workflowrun.podium.dev/{run} created")
    mode.kubectl("wait", "--for=condition=Finished", f"workflowrun/{run}", "--timeout=60s")
    return mode.kubectl("get", "workflowrun", run, "-o", "jsonpath={.status.output.said}")


def test_an_edit_of_code_or_manifests_is_running_a_moment_later(mode: Mode) -> None:
    functions = mode.home / "mine.py"
    functions.write_text(FUNCTION.replace("WORD", "!"))
    (mode.manifests / "greeting.yaml").write_text(WORKFLOW.format(name="greeting", type="greet"))
    mode.up("--reload", "--functions", "mine", "--apply", "manifests")
    started = mode.until_said("greeting.yaml: workflow.podium.dev/greeting created", within=240)
    assert "watching " in started
    before = mode.parts()
    assert said_by(mode, "one") == "hello!"

    # The worker follows the user's module; the rest is left alone.
    functions.write_text(FUNCTION.replace("WORD", "?"))
    mode.until_said("worker restarts: mine.py changed")
    mode.until_said("worker is ready")
    assert said_by(mode, "two") == "hello?"
    after = mode.parts()
    assert {name for name in before if before[name]["pid"] != after[name]["pid"]} == {"worker"}
    assert {name: part["log"] for name, part in before.items()} == {n: p["log"] for n, p in after.items()}

    # What a worker has begun it finishes, with the code that it was begun with.
    functions.write_text(FUNCTION.replace("WORD", " slow").replace("return", "time.sleep(4); return"))
    mode.until_said("worker is ready")
    (mode.manifests / "slow.yaml").write_text(RUN.format(name="slow"))
    mode.until_said("workflowrun.podium.dev/slow created")
    mode.kubectl("wait", "--for=jsonpath={.status.tasks[0].status}=Running", "pwr/slow", "--timeout=30s")
    functions.write_text(FUNCTION.replace("WORD", "!!"))
    mode.until_said("worker is ready")
    mode.kubectl("wait", "--for=condition=Finished", "pwr/slow", "--timeout=60s")
    ended = mode.kubectl(
        "get", "pwr", "slow", "-o", "jsonpath={.status.output.said} {.status.tasks[0].attempts}"
    )
    assert ended == "hello slow 1"
    after = mode.parts()

    # A broken edit ends nothing: neither one that Python cannot read …
    functions.write_text("def greet(:\n")
    heard = mode.until_said("worker goes on as it was")
    assert re.search(r"mine\.py:1: invalid syntax", heard)
    assert mode.parts()["worker"]["pid"] == after["worker"]["pid"]
    # … nor one that it cannot import; the next change mends it.
    functions.write_text("import nothing_of_this_name\n")
    heard = mode.until_said("worker is down until the next change")
    mode.until_said("nothing_of_this_name")
    assert not mode.parts()["worker"]["healthy"]
    functions.write_text(FUNCTION.replace("WORD", "."))
    mode.until_said("worker is ready")
    assert said_by(mode, "three") == "hello."

    # The operator's own code.
    source = mode.code / "operator" / "podium" / "core" / "durations.py"
    source.write_text(source.read_text() + "\n")
    mode.until_said("operator restarts: durations.py changed")
    mode.until_said("operator is ready")
    last = mode.parts()
    assert {name for name in last if last[name]["pid"] != after[name]["pid"]} == {"operator", "worker"}

    # Manifests: only what changed, nothing with an error, nothing is deleted.
    other = mode.manifests / "other.yaml"
    other.write_text(WORKFLOW.format(name="other", type="greet"))
    heard = mode.until_said("other.yaml: workflow.podium.dev/other created")
    assert "greeting" not in heard
    wrong = WORKFLOW.format(name="other", type="greet").replace("nodeId: a", "nodeId: b")
    other.write_text(wrong)
    heard = mode.until_said("other.yaml is not applied: it has errors")
    assert re.search(r"other\.yaml:9: error: spec.output.said.nodeId: there is no node 'b'", heard)
    kept = mode.kubectl("get", "workflow", "other", "-o", "jsonpath={.metadata.generation}")
    assert kept == "1"
    other.write_text(RUN.format(name="one").replace("greeting", "elsewhere"))
    heard = mode.until_said("workflow cannot be changed: make a new WorkflowRun")
    assert "other.yaml is not applied" in heard
    other.unlink()
    mode.until_said("workflow/other is gone from other.yaml and stays in the cluster: kubectl delete")
    assert "other" in mode.kubectl("get", "workflows")

    code, ending = mode.end()
    assert code == 0
    assert 'podium dev "default" stays up, no longer reloaded' in ending
    assert all(part["healthy"] for part in mode.parts().values())

    # It can be taken up again, and ends by itself when the stack does.
    mode.up("--reload")
    mode.until_said("already up")
    mode.until_said("watching ")
    assert mode.run("down").returncode == 0
    mode.until_said('the dev stack "default" was taken down')


def test_the_stack_can_end_with_the_mode(mode: Mode, conductor: Conductor) -> None:
    bare = ("--no-operator", "--no-worker", "--conductor-url", conductor.url)
    mode.up("--apply", "manifests", "--down-on-exit", *bare)
    mode.until_said("watching ", within=240)
    code, ending = mode.end(signal.SIGTERM)
    assert code == 0
    assert 'podium dev "default" is down' in ending
    assert not (Path(mode.env["PODIUM_STATE"]) / "dev").exists()


def test_what_cannot_be_watched_is_told_first(mode: Mode) -> None:
    wrong = mode.run("up", "--watch", ".")
    assert wrong.returncode == 2
    assert "--watch goes with --reload" in wrong.stderr
