"""A git repository with the sample firmware in it, and tasks as the worker would call them."""

import os
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from moto.server import ThreadedMotoServer

from support.firmware import SAMPLE, Repository, Run
from support.webhook import Webhook


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """Empty."""
    return Repository(tmp_path / "repository")


@pytest.fixture
def sample(repository: Repository) -> Repository:
    """With the sample firmware, committed."""
    shutil.copytree(SAMPLE, repository.folder, dirs_exist_ok=True)
    repository.commit("First light")
    return repository


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Tasks of one run, with a data folder of their own."""
    monkeypatch.delenv("PODIUM_ARTIFACTS", raising=False)
    return Run(tmp_path / "data")


@pytest.fixture
def another_run(run: Run) -> Callable[[str], Run]:
    """Another run on the same worker."""
    return lambda name: Run(run.context.data_dir, name)


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """Its URL: an S3 without a bucket."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(autouse=True)
def no_git_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not those of whoever runs the tests."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)


@pytest.fixture
async def webhook() -> AsyncIterator[Webhook]:
    """Answers 200, unless told otherwise."""
    async with Webhook() as hook:
        yield hook


@pytest.fixture
def ota_on_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    """Devices fetch images from this machine's loopback, at a port that is free."""
    monkeypatch.setenv("PODIUM_OTA_HOST", "127.0.0.1")
    monkeypatch.setenv("PODIUM_OTA_PORT", "0")
