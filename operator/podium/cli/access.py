"""How commands reach the cluster: the options of kubectl, errors in one line, the object that is meant."""

import asyncio
import contextlib
import functools
import json
import sys
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import Any, NoReturn

import click

from podium.adapters.console import PersonalCluster, open_personal_cluster
from podium.api.v1alpha1 import GROUP, KINDS
from podium.core.definitions.findings import did_you_mean
from podium.ports import Conflict, Gone, Json, Key, PortError

_RESOURCES = {kind.kind: kind.singular for kind in KINDS}
FAILED_TO = 2
"""The exit code of a command that could not do what it should."""


@dataclass(frozen=True)
class Where:
    """What was named on the command line; None follows the current context."""

    kubeconfig: str | None
    context: str | None
    namespace: str | None


class Told(Exception):
    """The command ends with this one line and `code`."""

    def __init__(self, message: str, code: int = FAILED_TO) -> None:
        self.code = code
        super().__init__(message)


class Place:
    """A namespace of the cluster, and the conductor behind it if one is named."""

    def __init__(self, cluster: PersonalCluster, namespace: str) -> None:
        self.cluster = cluster
        self.namespace = namespace

    def key(self, kind: str, name: str) -> Key:
        return Key(kind, self.namespace, name)

    async def get(self, kind: str, name: str) -> Json:
        """The object; Told with the names near it if there is none."""
        try:
            return await self.cluster.get(self.key(kind, name))
        except Gone:
            others = [item["metadata"]["name"] for item in await self.cluster.list(kind, self.namespace)]
            hint = did_you_mean(name, others)
            raise Told(
                f"no {_RESOURCES[kind]} {name!r} in namespace {self.namespace!r}"
                + (f"; {hint}" if hint else "")
            ) from None

    async def change(self, kind: str, name: str, decide: Callable[[Json], Json]) -> Json:
        """Merge what `decide` makes of the object as it is; again if someone was quicker. May raise Told."""
        for _ in range(8):
            body = await self.get(kind, name)
            with contextlib.suppress(Conflict):
                return await self.cluster.merge_as_user(
                    self.key(kind, name), decide(body), resource_version=body["metadata"]["resourceVersion"]
                )
        raise Told(f"{_RESOURCES[kind]} {name!r} changes all the time: try again")


def cluster_options(command: Callable[..., Coroutine[Any, Any, int | None]]) -> Callable[..., None]:
    """Adds --kubeconfig, --context and -n, runs the coroutine with a `Place` first, ends with its code."""

    @click.option("-n", "--namespace", metavar="NAME", help="Default: that of the context.")
    @click.option("--context", metavar="NAME", help="Default: the current context of the kubeconfig.")
    @click.option("--kubeconfig", metavar="FILE", help="Default: $KUBECONFIG, else ~/.kube/config.")
    @functools.wraps(command)
    def entrance(kubeconfig: str | None, context: str | None, namespace: str | None, **options: Any) -> None:
        where = Where(kubeconfig, context, namespace)
        with told_in_one_line():
            sys.exit(asyncio.run(_within(where, command, options)) or 0)

    return entrance


json_option = click.option(
    "-o", "--output", type=click.Choice(["text", "json"]), default="text", help="How to print."
)


@contextlib.contextmanager
def told_in_one_line() -> Iterator[None]:
    """What went wrong as one line on stderr, never a trace."""
    try:
        yield
    except Told as error:
        _end(str(error), error.code)
    except PortError as error:
        _end(str(error), FAILED_TO)
    except KeyboardInterrupt:
        _end("interrupted", 130)


def print_json(value: object) -> None:
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def title(body: Json) -> str:
    """As kubectl names an object: workflowrun.podium.dev/x."""
    return f"{_RESOURCES[body['kind']]}.{GROUP}/{body['metadata']['name']}"


async def _within(
    where: Where, command: Callable[..., Coroutine[Any, Any, int | None]], options: dict[str, Any]
) -> int | None:
    cluster = await open_personal_cluster(where.kubeconfig, where.context)
    async with cluster:
        return await command(Place(cluster, where.namespace or cluster.namespace), **options)


def _end(message: str, code: int) -> NoReturn:
    click.echo(f"podium: {' '.join(message.split())}", err=True)
    sys.exit(code)
