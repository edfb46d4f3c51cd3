"""Registering functions, and the command line."""

import subprocess
import sys
from pathlib import Path

import pytest

from podium_workers.runtime.registry import DuplicateTask, Registry
from podium_workers.runtime.settings import parse_address, parse_domains, parse_duration


def one(): ...


def other(): ...


def test_a_function_has_its_own_name_or_those_it_is_given():
    registry = Registry()
    assert registry.task()(one) is one
    registry.task("shrink", "resize")(other)
    assert [function.name for function in registry] == ["one", "resize", "shrink"]
    registry.task()(one)  # imported again
    assert len(registry) == 3


def test_two_functions_of_one_name_are_refused_and_both_are_named():
    registry = Registry()
    registry.task("x")(one)
    with pytest.raises(DuplicateTask) as caught:
        registry.task("x")(other)
    for words in ("'x'", ".one (", ".other (", "test_registry.py:"):
        assert words in str(caught.value)


@pytest.mark.parametrize("name", ["", "a/b", "a\\b", "..", "."])
def test_names_that_conductor_cannot_serve_are_refused(name):
    with pytest.raises(ValueError, match="cannot serve"):
        Registry().task(name)


def test_a_decorator_without_brackets_is_explained():
    with pytest.raises(TypeError, match="brackets"):
        Registry().task(one)  # type: ignore[arg-type]


def podium_worker(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "podium_workers", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


OWN = '''
from podium_workers import task

@task("resize")
def resize(url: str, width: int = 100) -> dict:
    """Makes it smaller."""
    return {"url": url, "width": width}
'''


def test_ten_lines_of_ones_own_are_listed_and_win_over_a_built_in(tmp_path):
    (tmp_path / "own.py").write_text(OWN)
    listed = podium_worker(tmp_path, "list", "--functions", "own")
    assert listed.returncode == 0, listed.stderr
    assert "resize(url: str, width: int = 100)\n    Makes it smaller.\n" in listed.stdout
    assert "validateUserData(" in listed.stdout
    alone = podium_worker(tmp_path, "--list", "--functions", "own", "--no-builtin")
    assert alone.stdout == "resize(url: str, width: int = 100)\n    Makes it smaller.\n"
    some = podium_worker(tmp_path, "list", "--tasks", "echo,wait")
    assert [line.partition("(")[0] for line in some.stdout.splitlines()[::2]] == ["echo", "wait"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--functions", "nowhere"], "nowhere"),
        (["--functions", "own,double"], "two functions for task type 'resize': own.resize ("),
        (["--functions", "stars"], "*urls"),
        (["--no-builtin"], "no functions"),
        (["--tasks", "ekho"], "no function for ekho"),
        (["--poll-interval", "fast"], "not a duration"),
        (["--listen", "here"], "not an address"),
        (["--concurrency", "0"], "0 is not in the range"),
    ],
)
def test_mistakes_are_told_before_anything_starts(tmp_path, arguments, words):
    (tmp_path / "own.py").write_text(OWN)
    (tmp_path / "double.py").write_text(OWN)
    (tmp_path / "stars.py").write_text("from podium_workers import task\n@task()\ndef f(*urls): ...\n")
    told = podium_worker(tmp_path, *arguments)
    assert told.returncode != 0
    assert words in told.stderr
    assert "Traceback" not in told.stderr


@pytest.mark.parametrize(
    ("text", "seconds"), [("1s", 1), ("500ms", 0.5), ("10m", 600), ("1h30m", 5400), ("1.5s", 1.5)]
)
def test_durations(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "1", "s", "1d", "-1s", "1s!"])
def test_what_is_no_duration(text):
    with pytest.raises(ValueError, match="not a duration"):
        parse_duration(text)


def test_addresses():
    assert parse_address("127.0.0.1:80") == ("127.0.0.1", 80)
    assert parse_address("[::1]:80") == ("::1", 80)
    assert parse_address(":80") == ("0.0.0.0", 80)


@pytest.mark.parametrize(
    ("text", "shared", "domains"),
    [
        ("", False, (None,)),
        ("a,b", False, ("a", "b")),
        ("a, b,a", True, ("a", "b", None)),
        ("a,-", False, ("a", None)),
        ("-", True, (None,)),
    ],
)
def test_namespaces(text, shared, domains):
    assert parse_domains(text, shared) == domains
