"""What is built once is built once, whole or not at all."""

import multiprocessing
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from podium.local.cache import Cache, fingerprint
from podium.local.errors import Interrupted
from podium.local.processes import wait_until

KEY = "things/v1-abc"
fork = multiprocessing.get_context("spawn")


class Notes:
    """Progress that is remembered."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    def step(self, title: str) -> Any:
        raise AssertionError("not used here")


def _write(half: Path) -> None:
    half.write_text("whole")


def _build_slowly(root: str, trace: str, going_on: str) -> None:
    """Builds when `going_on` appears; each build leaves a file of its own in `trace`."""

    def build(half: Path) -> None:
        half.mkdir()
        (half / "first").write_text("1")
        (Path(trace) / str(os.getpid())).touch()
        assert wait_until(Path(going_on).exists, 30)
        (half / "second").write_text("2")

    Cache(Path(root)).once(KEY, "a thing", build)


def test_two_at_once_share_one_build(tmp_path: Path) -> None:
    trace, going_on = tmp_path / "trace", tmp_path / "go"
    trace.mkdir()
    builder = fork.Process(target=_build_slowly, args=(str(tmp_path), str(trace), str(going_on)))
    builder.start()
    assert wait_until(lambda: any(trace.iterdir()), 30)
    notes = Notes()

    def is_told(half: Path) -> None:
        raise AssertionError("built twice")

    def let_it_finish() -> bool:
        going_on.touch()
        return False

    there = Cache(tmp_path).once(KEY, "a thing", is_told, notes, let_it_finish)
    builder.join()
    assert notes.said == [f"waiting for another podium (pid {builder.pid}) that is at work on a thing"]
    assert [path.name for path in trace.iterdir()] == [str(builder.pid)]
    assert {path.name for path in there.iterdir()} == {"first", "second"}


def test_a_killed_build_is_no_result_and_no_obstacle(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    trace.mkdir()
    builder = fork.Process(target=_build_slowly, args=(str(tmp_path), str(trace), str(tmp_path / "never")))
    builder.start()
    assert wait_until(lambda: any(trace.iterdir()), 30)
    assert builder.pid is not None
    os.kill(builder.pid, signal.SIGKILL)
    builder.join()
    cache = Cache(tmp_path)
    assert not cache.path(KEY).exists()
    there = cache.once(KEY, "a thing", _write)
    assert there.read_text() == "whole"
    assert [path.name for path in there.parent.iterdir()] == [there.name]


def test_a_failed_build_leaves_nothing(tmp_path: Path) -> None:
    def build(half: Path) -> None:
        half.mkdir()
        raise RuntimeError("no")

    cache = Cache(tmp_path)
    with pytest.raises(RuntimeError):
        cache.once(KEY, "a thing", build)
    assert not list(cache.path(KEY).parent.iterdir())


def test_who_waits_can_give_up(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    trace.mkdir()
    builder = fork.Process(target=_build_slowly, args=(str(tmp_path), str(trace), str(tmp_path / "never")))
    builder.start()
    try:
        assert wait_until(lambda: any(trace.iterdir()), 30)
        with pytest.raises(Interrupted):
            Cache(tmp_path).once(KEY, "a thing", lambda half: None, given_up=lambda: True)
    finally:
        builder.kill()
        builder.join()


def test_once_built_it_is_only_looked_up(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    first = cache.once(KEY, "a thing", _write)
    second = cache.once(KEY, "a thing", lambda half: sys.exit("built twice"))
    assert first == second


@pytest.mark.parametrize(
    ("environment", "root"),
    [
        ({"PODIUM_CACHE": "/a", "XDG_CACHE_HOME": "/b", "HOME": "/c"}, "/a"),
        ({"XDG_CACHE_HOME": "/b", "HOME": "/c"}, "/b/podium"),
        ({"HOME": "/c"}, "/c/.cache/podium"),
    ],
)
def test_where_the_cache_is(environment: dict[str, str], root: str) -> None:
    assert Cache.of(environment).root == Path(root)


def test_a_fingerprint_tells_parts_apart() -> None:
    assert fingerprint(["ab", "c"]) != fingerprint(["a", "bc"])
    assert fingerprint(["a", "b"]) != fingerprint(["b", "a"])
    assert fingerprint([b"a"]) == fingerprint(["a"])
