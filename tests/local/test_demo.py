"""`make demo` as a user sees it: everything ends as it should, even with an operator that is killed."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from podium.local.demo_firmware import why_no_firmware
from podium.local.processes import is_alive, wait_until
from podium.local.state import StackState, read_state

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(sys.platform != "linux", reason="pods and devices of the demo need Linux"),
]

DEMO = (sys.executable, "-c", "from podium.cli.demo import demo; demo(prog_name='podium demo')")


def test_the_demo_survives_a_kill_of_its_operator_and_leaves_nothing_behind(tmp_path: Path) -> None:
    root = tmp_path / "state"
    env = {k: v for k, v in os.environ.items() if k not in ("KUBECONFIG", "PODIUM_CONTEXT")}
    told = tmp_path / "told"
    with told.open("w") as sink:
        demo = subprocess.Popen(
            [*DEMO, "--name", "tried"],
            env={**env, "PODIUM_STATE": str(root)},
            stdin=subprocess.DEVNULL, stdout=sink, stderr=subprocess.STDOUT,
        )  # fmt: skip
    seen: dict[str, StackState] = {}

    def says(words: str) -> bool:
        state = read_state(root / "dev" / "tried")
        if state is not None and state.complete:
            seen["state"] = state
        return words in told.read_text() or demo.poll() is not None

    def kill(part: str) -> None:
        identity = seen["state"].parts[part].identity
        assert identity is not None
        assert is_alive(identity)
        os.kill(identity.pid, signal.SIGKILL)

    # While the runs of the examples go on, and again while a firmware is built.
    assert wait_until(lambda: says("Running"), 240)
    kill("operator")
    assert wait_until(lambda: says("Firmware: a commit"), 120)
    assert wait_until(lambda: says("platformio_compile"), 120)
    kill("operator")
    assert demo.wait(240) == 0, told.read_text()[-4000:]
    text = told.read_text()
    assert len(re.findall(r"^operator died: starting it again", text, re.MULTILINE)) == 2
    assert re.search(r"^user-signup-2 .* Failed ", text, re.MULTILINE)
    assert re.search(r"^pods: 0 → .* → 0; every task was begun once$", text, re.MULTILINE)
    assert re.search(r"passed: flash \d+\.\d+ %", text)
    commit = re.search(r"^commit (\w{7}) is built", text, re.MULTILINE)
    assert commit
    devices = re.findall(r"^sim-\d .* Online +True +(\w{7})", text, re.MULTILINE)
    assert devices == [commit[1]] * 3
    assert "All examples ended as they should" in text
    parts = seen["state"].parts.values()
    assert not any(is_alive(part.identity) for part in parts if part.identity)
    assert not root.exists()


def test_what_firmware_lacks_is_said_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    assert why_no_firmware() == ""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "platformio" else object())
    assert why_no_firmware() == "not installed: in a checkout of Podium, pip install '.[firmware]'"
    monkeypatch.setattr("shutil.which", lambda _: None)
    assert why_no_firmware() == "git is not installed"
