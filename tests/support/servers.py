"""The Conductors that tests run on: releases and stores."""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from podium.local import Conductor, MissingPrerequisites
from podium.local.conductor_server import CURRENT, OLDEST
from podium.local.postgres import Postgres

OLD = f"{OLDEST.version}-postgres"
SERVERS = ("sqlite", "postgres", OLD)
"""Where no release is named it is the current one. The old one loses its way on SQLite: SQLITE_BUSY."""


@contextlib.contextmanager
def running(
    server: str,
    folder: Path,
    *,
    notice_url: str | None = None,
    notice_token: str = "",
    properties: Mapping[str, str] | None = None,
) -> Iterator[Conductor]:
    """One of `SERVERS`. Skips the test, with the reason, where PostgreSQL is missing."""
    assert server in SERVERS, f"no such server: {server}; there are {', '.join(SERVERS)}"
    release = OLDEST if server == OLD else CURRENT
    with contextlib.ExitStack() as stack:
        settings = dict(properties or {})
        if server.endswith("postgres"):
            try:
                settings |= stack.enter_context(Postgres.start()).settings
            except MissingPrerequisites as missing:
                pytest.skip(str(missing))
        yield stack.enter_context(
            Conductor.start(
                folder,
                notice_url=notice_url,
                notice_token=notice_token,
                properties=settings,
                release=release,
            )
        )
