"""Audio tasks as the worker would call them."""

from pathlib import Path

import pytest

import podium_workers.audio  # noqa: F401 - registers the tasks
from support.firmware import Run


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Tasks of one run, with a data folder of their own."""
    monkeypatch.delenv("PODIUM_ARTIFACTS", raising=False)
    return Run(tmp_path / "data")
