"""A PostgreSQL for Conductor, as the tests start it."""

import signal
import socket

import pytest

from podium.local import LocalError, MissingPrerequisites
from podium.local.postgres import Postgres, find_postgres
from podium.local.processes import wait_until


def test_without_its_programs_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("podium.local.postgres._PLACES", ())
    with pytest.raises(MissingPrerequisites, match="Debian's package postgresql"):
        Postgres.start({"PATH": "/nonexistent"})


@pytest.mark.slow
@pytest.mark.skipif(find_postgres() is None, reason="needs Debian's package postgresql")
def test_it_takes_connections_on_loopback_and_leaves_nothing() -> None:
    with Postgres.start() as postgres:
        assert postgres.settings["spring.datasource.url"].endswith(f"127.0.0.1:{postgres.port}/conductor")
        # The first byte of an answer to a request for TLS: S or N, so it speaks PostgreSQL.
        with socket.create_connection(("127.0.0.1", postgres.port), timeout=5) as connection:
            connection.sendall(bytes([0, 0, 0, 8, 4, 210, 22, 47]))
            assert connection.recv(1) in (b"S", b"N")
    assert not postgres.folder.exists()
    with pytest.raises(OSError, match=r"(?i)refused"):
        socket.create_connection(("127.0.0.1", postgres.port), timeout=1)
    postgres.stop()


@pytest.mark.slow
@pytest.mark.skipif(find_postgres() is None, reason="needs Debian's package postgresql")
def test_a_start_that_fails_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = socket.create_server(("127.0.0.1", 0))
    monkeypatch.setattr("podium.local.postgres.free_port", lambda: taken.getsockname()[1])
    monkeypatch.setattr(Postgres, "_listens", lambda self: False)
    with taken, pytest.raises(LocalError, match=r"(?s)did not start.*bind"):
        Postgres.start()


@pytest.mark.slow
@pytest.mark.skipif(find_postgres() is None, reason="needs Debian's package postgresql")
def test_after_a_kill_its_end_is_seen() -> None:
    with Postgres.start() as postgres:
        process = postgres._process
        assert process is not None
        process.signal(signal.SIGKILL)
        assert wait_until(lambda: not process.alive, 5)
