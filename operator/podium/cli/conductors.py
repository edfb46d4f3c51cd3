"""The Conductor that has a run, as a command reaches it."""

import contextlib
import os
from collections.abc import AsyncIterator
from dataclasses import replace

import click

from podium.adapters.console import PersonalConductor
from podium.cli.access import Place, Told
from podium.cli.addresses import api_address
from podium.core.connection import SecretSeen, build_access, secrets_of
from podium.core.effects import Unknown
from podium.core.objects import project_connection
from podium.ports import Access, Gone, Json, LoginRefused, NotSent, PortError

_VARIABLES = ("CONDUCTOR_SERVER_URL", "PODIUM_CONDUCTOR_URL")

conductor_option = click.option(
    "--conductor-url",
    metavar="URL",
    help="Conductor, with /api. Default: that of the run's ConductorConnection, else $CONDUCTOR_SERVER_URL.",
)


@contextlib.asynccontextmanager
async def open_conductor(
    place: Place, run: Json, url: str | None, why: str
) -> AsyncIterator[PersonalConductor]:
    """The one that has the run. Told that it has to be named, and `why`, if nothing says where it is.

    `url`: as named on the command line; the login of the run's ConductorConnection is used all the same.
    """
    name = ((run.get("status") or {}).get("conductor") or {}).get("connection")
    access = await _read_access(place, name, named=url is not None) if name else _from_environment()
    if (address := api_address(url)) is not None:
        access = replace(access or Access(address), url=address)
    if access is None:
        raise Told(f"{why}: name Conductor with {_VARIABLES[0]} or --conductor-url")
    try:
        async with PersonalConductor(access) as conductor:
            yield conductor
    except NotSent as error:
        if url or not name or isinstance(error, LoginRefused):
            raise
        hint = f"it is the url of ConductorConnection {name}: --conductor-url names another"
        raise Told(f"{error} ({hint})") from error


def _from_environment() -> Access | None:
    address = api_address(next((os.environ[name] for name in _VARIABLES if os.environ.get(name)), None))
    return Access(address) if address else None


async def _read_access(place: Place, name: str, *, named: bool) -> Access | None:
    """`named`: the address is known without it; what cannot be read of it is gone without."""
    try:
        return await _read_connection(place, name)
    except Told:
        if named:
            return None
        raise


async def _read_connection(place: Place, name: str) -> Access:
    connection = project_connection(await place.get("ConductorConnection", name))
    if connection.spec is None:
        raise Told(f"ConductorConnection {name}: {connection.spec_error}")
    secrets: dict[str, SecretSeen] = {}
    for secret in secrets_of(connection.spec):
        try:
            secrets[secret] = await place.cluster.get_secret(place.namespace, secret)
        except Gone:
            raise Told(f"ConductorConnection {name}: there is no Secret {secret} here") from None
        except PortError as error:
            raise Told(f"ConductorConnection {name}: Secret {secret} cannot be read: {error}") from error
    access = build_access(connection.spec, secrets)
    if isinstance(access, Unknown):
        raise Told(f"ConductorConnection {name}: {access.error}")
    return access
