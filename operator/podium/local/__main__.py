"""`python -m podium.local`: what a cluster and a Conductor need, built beforehand; the project's images."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from podium.local.build import (
    needs_for_binaries,
    needs_for_node,
    provide_binaries,
    provide_node_binaries,
)
from podium.local.cache import Cache
from podium.local.conductor import prepare_conductor
from podium.local.conductor_server import needs_for_conductor
from podium.local.errors import LocalError
from podium.local.images import TARGETS, build_images, find_builder, image_name
from podium.local.node_host import find_node_host, why_no_node
from podium.local.prerequisites import Need, require
from podium.local.processes import Processes, at_once
from podium.local.progress import Progress, open_progress


@click.group()
def main() -> None:
    """A cluster and a Conductor on one machine."""


@main.command()
@click.option(
    "--node",
    type=click.Choice(["no", "auto", "yes"]),
    is_flag=False,
    flag_value="yes",
    default="no",
    help="Also what a node needs; with `auto`, where one can run.",
)
def prepare(node: str) -> None:
    """Build the Kubernetes components and download Conductor, unless they are in the cache already."""
    with _told_in_lines(), open_progress() as progress:
        if node == "auto":
            obstacle = why_no_node(find_node_host())
            if obstacle:
                progress.say(f"nothing is prepared for a node: {obstacle}")
            node = "no" if obstacle else "yes"
        provide_all(Cache.of(os.environ), progress, node=node == "yes")


@main.command()
@click.option("--base", envvar="BASE_IMAGE", metavar="IMAGE", help="Build on this one ($BASE_IMAGE).")
@click.option("--archives", is_flag=True, help="Also write each into a file that a node can load.")
def images(base: str | None, archives: bool) -> None:
    """Build the images of the operator and the worker from the checkout that this is called in."""
    with _told_in_lines(), open_progress() as progress, Processes() as processes:
        builder = find_builder(base or None)
        written = build_images(
            Path.cwd(), builder, Cache.of(os.environ), processes, progress, archives=archives
        )
    for target in TARGETS:
        click.echo(f"{image_name(target)} {written.get(target, '')}".rstrip())


def provide_all(cache: Cache, progress: Progress, *, node: bool = False) -> None:
    """Both at once: one waits for the network while the other compiles. Raises LocalError."""
    needs = needs_for_binaries(cache) | needs_for_conductor(cache) | {Need.ROOM_TO_RUN}
    require(needs | needs_for_node(cache) if node else needs, cache.root)
    with Processes() as processes:
        at_once(
            processes,
            lambda: (provide_node_binaries if node else provide_binaries)(cache, processes, progress),
            lambda: prepare_conductor(cache, processes, progress),
        )


@contextlib.contextmanager
def _told_in_lines() -> Iterator[None]:
    try:
        yield
    except LocalError as error:
        for line in str(error).splitlines():
            click.echo(f"podium: {line}", err=True)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
