"""The stores that Conductor is tried on: what Podium says about it has to hold on each."""

import signal
from collections.abc import Iterator

import pytest

from podium.local import Conductor, MissingPrerequisites
from podium.local.postgres import Postgres


@pytest.fixture(scope="session")
def conductor_on_postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Conductor]:
    """A real Conductor on a real PostgreSQL."""
    try:
        postgres = Postgres.start()
    except MissingPrerequisites as missing:
        pytest.skip(str(missing))
    with (
        postgres,
        Conductor.start(tmp_path_factory.mktemp("on-postgres"), properties=postgres.settings) as server,
    ):
        yield server


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def server(request: pytest.FixtureRequest) -> Iterator[Conductor]:
    """A real Conductor, on each store in turn."""
    name = {"sqlite": "conductor", "postgres": "conductor_on_postgres"}[request.param]
    found: Conductor = request.getfixturevalue(name)
    if name == "conductor":
        yield found
        return
    # Only these tests use it: idle, it would cost all the others a quarter of a core.
    found.signal(signal.SIGCONT)
    yield found
    found.signal(signal.SIGSTOP)
