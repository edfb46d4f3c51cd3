"""`python -m podium.local prepare`: builds and downloads beforehand what a cluster and a Conductor need."""

from __future__ import annotations

import os
import sys

import click

from podium.local.build import needs_for_binaries, provide_binaries
from podium.local.cache import Cache
from podium.local.conductor import prepare_conductor
from podium.local.conductor_server import needs_for_conductor
from podium.local.errors import LocalError
from podium.local.prerequisites import Need, require
from podium.local.processes import Processes, at_once
from podium.local.progress import Progress, open_progress


@click.group()
def main() -> None:
    """A cluster and a Conductor on one machine."""


@main.command()
def prepare() -> None:
    """Build the Kubernetes components and download Conductor, unless they are in the cache already."""
    try:
        with open_progress() as progress:
            provide_all(Cache.of(os.environ), progress)
    except LocalError as error:
        for line in str(error).splitlines():
            click.echo(f"podium: {line}", err=True)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


def provide_all(cache: Cache, progress: Progress) -> None:
    """Both at once: one waits for the network while the other compiles. Raises LocalError."""
    needs = needs_for_binaries(cache) | needs_for_conductor(cache) | {Need.ROOM_TO_RUN}
    require(needs, cache.root)
    with Processes() as processes:
        at_once(
            processes,
            lambda: provide_binaries(cache, processes, progress),
            lambda: prepare_conductor(cache, processes, progress),
        )


if __name__ == "__main__":
    main()
