"""The first example of docs/functions.md, word by word."""

import re
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "functions.md").read_text()
(TEN_LINES,) = re.findall(r"```python\n(# media\.py\n.*?)```", PAGE, re.DOTALL)


def test_ten_lines_are_enough():
    code = [line for line in TEN_LINES.splitlines() if line.strip() and not line.startswith("#")]
    assert len(code) <= 10


@pytest.mark.slow
@pytest.mark.parametrize(
    "program", [("media.py",), ("-m", "podium_workers", "--functions", "media")], ids=["run", "podium-worker"]
)
async def test_ten_lines_make_a_worker(desk, tmp_path, program):
    (tmp_path / "media.py").write_text(TEN_LINES)
    worker = await desk.worker(program=program, folder=tmp_path)
    task = await desk.ended(await desk.start("resize", {"url": "http://pictures/1", "width": 5}))
    assert (task["status"], task["outputData"]) == ("COMPLETED", {"url": "http://pictures/1?width=5"})
    wrong = await desk.ended(await desk.start("resize", {"url": "http://pictures/1", "width": 0}))
    assert (wrong["status"], wrong["reasonForIncompletion"]) == (
        "FAILED_WITH_TERMINAL_ERROR",
        "width must be at least 1",
    )
    worker.signal()
    assert await worker.exits() == 0


@pytest.mark.slow
async def test_a_program_that_runs_itself_has_processes_too(desk, tmp_path):
    """The process imports the program's file anew, and its `if __name__ == "__main__"` stays untouched."""
    (tmp_path / "render.py").write_text(
        "import os\n"
        "from podium_workers import run, task\n"
        "@task('render', cpu_bound=True)\n"
        "def render(frames: int) -> dict:\n"
        "    return {'frames': frames, 'pid': os.getpid()}\n"
        "if __name__ == '__main__':\n"
        "    run()\n"
    )
    worker = await desk.worker(program=("render.py",), folder=tmp_path)
    task = await desk.ended(await desk.start("render", {"frames": 2}))
    assert (task["status"], task["outputData"]["frames"]) == ("COMPLETED", 2)
    assert task["outputData"]["pid"] != worker.process.pid
