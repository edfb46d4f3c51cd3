"""The state of a dev stack survives crashes of who writes it."""

from dataclasses import replace
from pathlib import Path

import pytest

from podium.local.cluster import Source
from podium.local.errors import LocalError
from podium.local.parts import worker_service
from podium.local.processes import Identity, Program
from podium.local.services import Probe, Service
from podium.local.state import (
    Part,
    StackState,
    Wishes,
    list_stacks,
    read_state,
    state_root,
    write_state,
)


def _state(port: int = 20_001) -> StackState:
    program = Program("etcd", ("etcd", "--x"), Path("/f"), Path("/f/log"), {"A": "b"}, ("C",))
    service = Service(program, "https://127.0.0.1:1", Probe("https://127.0.0.1:1/health", Path("/f/ca.crt")))
    return StackState(
        name="default",
        wishes=Wishes(namespaces=("default", "studio")),
        source=Source.BUILD,
        engine="",
        kubeconfig=Path("/f/kubeconfig"),
        kubectl=Path("/f/kubectl"),
        operator_port=port,
        notice_token="secret",
        parts={"etcd": Part(service, Identity(7, "then"))},
    )


def test_it_comes_back_as_it_was(tmp_path: Path) -> None:
    write_state(tmp_path, _state())
    assert read_state(tmp_path) == _state()


def test_it_holds_a_secret_and_is_not_readable_by_others(tmp_path: Path) -> None:
    write_state(tmp_path, _state())
    assert (tmp_path / "state.json").stat().st_mode & 0o777 == 0o600


def test_no_state_is_none(tmp_path: Path) -> None:
    assert read_state(tmp_path) is None
    assert read_state(tmp_path / "nowhere") is None


def test_a_crash_before_the_replacement_changes_nothing(tmp_path: Path) -> None:
    write_state(tmp_path, _state(1))
    (tmp_path / "state.json.new").write_text('{"name": "defa')
    assert read_state(tmp_path) == _state(1)
    write_state(tmp_path, _state(2))
    assert read_state(tmp_path) == _state(2)


def test_a_spoilt_file_leaves_the_one_before_it(tmp_path: Path) -> None:
    write_state(tmp_path, _state(1))
    write_state(tmp_path, _state(2))
    whole = (tmp_path / "state.json").read_bytes()
    (tmp_path / "state.json").write_bytes(whole[: len(whole) // 2])
    assert read_state(tmp_path) == _state(1)


def test_nothing_readable_is_said_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text("")
    with pytest.raises(LocalError, match="remove that folder"):
        read_state(tmp_path)


def test_stacks_are_listed_by_name(tmp_path: Path) -> None:
    assert list_stacks(tmp_path) == ()
    for name in ("b", "a"):
        (tmp_path / "dev" / name).mkdir(parents=True)
    assert list_stacks(tmp_path) == ("a", "b")


@pytest.mark.parametrize(
    ("environment", "root"),
    [
        ({"PODIUM_STATE": "/a", "XDG_STATE_HOME": "/b", "HOME": "/c"}, "/a"),
        ({"XDG_STATE_HOME": "/b", "HOME": "/c"}, "/b/podium"),
        ({"HOME": "/c"}, "/c/.local/state/podium"),
    ],
)
def test_where_the_state_is(environment: dict[str, str], root: str) -> None:
    assert state_root(environment) == Path(root)


def test_the_worker_may_read_the_secrets_that_runs_refer_to(tmp_path: Path) -> None:
    env = worker_service(_state(), tmp_path, 20_002).program.env
    assert env["WORKER_KUBECONFIG"] == "/f/kubeconfig"
    assert "WORKER_CONTEXT" not in env
    theirs = replace(_state(), wishes=Wishes(namespaces=("default",), context="theirs"))
    assert worker_service(theirs, tmp_path, 20_002).program.env["WORKER_CONTEXT"] == "theirs"
