"""The servers that Podium is tried on: what it says about Conductor has to hold on each."""

import contextlib
import os
import signal
from collections.abc import Callable, Iterator

import pytest

from podium.local import Conductor
from support.servers import OLD, SERVERS, running


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Conductor]]:
    """Each of them, started when it is first asked for."""
    started: dict[str, Conductor] = {}
    with contextlib.ExitStack() as stack:

        def start(name: str) -> Conductor:
            if name not in started:
                folder = tmp_path_factory.mktemp(f"on-{name}")
                started[name] = stack.enter_context(running(name, folder, properties=_PLAIN))
            return started[name]

        yield start


# The old release is another download of 400 MB: only in `make e2e`.
_EACH = [name for name in SERVERS if os.environ.get("PODIUM_LONG") or name != OLD]
# By default the old release demands an address, which the adapter gives: not what is tried here.
_PLAIN = {"conductor.app.ownerEmailMandatory": "false"}


@pytest.fixture(scope="module", params=_EACH)
def server(request: pytest.FixtureRequest, servers: Callable[[str], Conductor]) -> Iterator[Conductor]:
    """A real Conductor: each release and store in turn."""
    if request.param == "sqlite":
        shared: Conductor = request.getfixturevalue("conductor")
        yield shared
        return
    found = servers(request.param)
    # Only these tests use it: idle, it would cost all the others a quarter of a core.
    found.signal(signal.SIGCONT)
    yield found
    found.signal(signal.SIGSTOP)
