"""The commands `podium simulate …`."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path
from typing import Any

import click

from podium_workers.runtime.settings import parse_address
from podium_workers.services.esp_image import CHIPS
from podium_workers.simulator.faults import COMMON, KINDS, FaultError
from podium_workers.simulator.firmware import build_image
from podium_workers.simulator.fleet import Fleet
from podium_workers.simulator.manifests import build_manifests, dump_manifests
from podium_workers.simulator.spec import (
    SLOT_BYTES,
    DeviceGroup,
    DeviceSpec,
    SpecError,
    build_specs,
    check_group,
    read_file,
)

_PORT = click.IntRange(1, 65535)
_CHIP = click.Choice(sorted(CHIPS.values()))


class _Refused(click.ClickException):
    """The command could not do its work."""

    exit_code = 2


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def simulate() -> None:
    """Simulated devices, images for them, and what can go wrong."""


@simulate.command()
@click.option("--count", type=int, default=1, show_default=True, metavar="N", help="How many devices.")
@click.option(
    "--name", default="sim", show_default=True, metavar="NAME", help="Their names begin with it: sim-01 …"
)
@click.option(
    "--file",
    "path",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Groups of devices from a YAML file, instead of --count and all that describes a device.",
)
@click.option("--fault", "faults", multiple=True, metavar="FAULT", help="NAME[:key=value,…], again for more.")
@click.option(
    "--auth",
    type=click.Choice(["none", "md5", "pbkdf2", "pbkdf2-md5"]),
    help="How they check a password.  [default: pbkdf2 with a password, else none]",
)
@click.option(
    "--password", envvar="PODIUM_SIMULATE_PASSWORD", default="", help="Also $PODIUM_SIMULATE_PASSWORD."
)
@click.option("--chip", type=_CHIP, default="ESP32S3", show_default=True)
@click.option("--board", default="esp32-s3-devkitc-1", show_default=True, metavar="BOARD")
@click.option(
    "--build", default="0000001", show_default=True, metavar="BUILD", help="What they run at first."
)
@click.option("--slot-size", type=int, default=SLOT_BYTES, show_default=True, metavar="BYTES")
@click.option("--label", "labels", multiple=True, metavar="KEY=VALUE", help="A label, again for more.")
@click.option(
    "--confirm",
    type=click.Choice(["boot", "self", "api"]),
    default="self",
    show_default=True,
    help="Who confirms a new firmware: its start, itself after a while, or POST /api/confirm.",
)
@click.option("--no-rollback", is_flag=True, help="Their bootloader does not go back.")
@click.option("--boot-seconds", type=float, default=4.0, show_default=True, metavar="S")
@click.option("--rate", type=float, default=0.0, metavar="B/S", help="How quickly one takes an image.")
@click.option("--rtt", type=float, default=0.0, metavar="S", help="A round trip to one.")
@click.option("--access-points", type=int, default=0, metavar="N", help="Spread them over so many.")
@click.option(
    "--access-point-rate", type=float, default=0.0, metavar="B/S", help="What those at one of them share."
)
@click.option(
    "--speed", type=float, default=1.0, show_default=True, metavar="X", help="Their time runs faster."
)
@click.option("--seed", type=int, default=1, show_default=True, help="The same seed, the same devices.")
@click.option("--first-address", default="127.77.0.1", show_default=True, metavar="IP")
@click.option("--ota-port", type=_PORT, default=3232, show_default=True, metavar="PORT")
@click.option("--health-port", type=_PORT, default=8080, show_default=True, metavar="PORT")
@click.option(
    "--listen",
    default="127.0.0.1:8070",
    show_default=True,
    metavar="HOST:PORT",
    help="Where faults are given and taken while it runs.",
)
@click.option("--manifests", is_flag=True, help="Print their Kubernetes objects, and end.")
@click.option("-n", "--namespace", metavar="NAME", help="Of those objects.")
def devices(**options: Any) -> None:
    """Run simulated devices until Ctrl-C, each at an address of its own in 127.0.0.0/8.

    They speak the protocol of ArduinoOTA over UDP and TCP, keep two firmwares, start and go back as an ESP32
    does, and answer at /api/health and /metrics.

    \b
    Example:
      podium simulate devices --count 50 --fault low-heap:percent=10 --label site=lyon
      podium simulate devices --count 50 --manifests | kubectl apply -f -
    """
    if not options["speed"] > 0:
        raise _Refused("--speed must be more than 0")
    try:
        control = parse_address(options["listen"])
        specs = build_specs(_groups(options), options["first_address"], options["seed"])
    except (SpecError, ValueError) as error:
        raise _Refused(str(error)) from error
    if options["manifests"]:
        made = build_manifests(
            specs,
            ota_port=options["ota_port"],
            health_port=options["health_port"],
            namespace=options["namespace"],
        )
        click.echo(dump_manifests(made), nl=False)
        return
    fleet = Fleet(
        specs,
        ota_port=options["ota_port"],
        health_port=options["health_port"],
        control=control,
        speed=options["speed"],
        access_point_rate=options["access_point_rate"],
        seed=options["seed"],
    )
    try:
        asyncio.run(_run(fleet, specs))
    except OSError as error:
        words = (
            f"{error.strerror or error}: is another simulator running? --ota-port, --health-port, --listen"
        )
        raise _Refused(words) from error


@simulate.command()
@click.argument("output", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--build", required=True, metavar="BUILD", help="What it says that it is, as a commit.")
@click.option("--chip", type=_CHIP, default="ESP32S3", show_default=True)
@click.option(
    "--size", type=click.IntRange(1024, 16 * 2**20), default=65536, show_default=True, metavar="BYTES"
)
@click.option(
    "--fault", "faults", multiple=True, metavar="FAULT", help="What it does to devices that run it."
)
def image(output: Path, build: str, chip: str, size: int, faults: tuple[str, ...]) -> None:
    """Make a firmware image for simulated devices, without a compiler.

    \b
    Example:
      podium simulate image bad.bin --build 9f1c2ab --fault boot-loop:percent=20
    """
    try:
        output.write_bytes(build_image(build, chip=chip, size=size, faults=faults))
    except UnicodeEncodeError:
        raise _Refused(f"--build {build}: only ASCII") from None
    except FaultError as error:
        raise _Refused(f"--fault: {error}") from None
    except OSError as error:
        raise _Refused(f"{output}: {error.strerror or error}") from error
    click.echo(f"{output}: {output.stat().st_size} bytes, {chip}, build {build}")


@simulate.command("faults")
def list_faults() -> None:
    """List what can be wrong with a device or a firmware.

    \b
    Example:
      podium simulate faults
    """
    for kind in KINDS.values():
        given = ",".join(
            f"{key}={value:g}" if isinstance(value, float) else f"{key}={value}"
            for key, value in kind.parameters.items()
        )
        click.echo(f"{kind.name + (':' + given if given else ''):44} {kind.words}")
    click.echo(
        f"\nEach takes {', '.join(COMMON)} too: how often it happens (0: always), to what share of the "
        "devices, and only to those with a label (where=site/lyon)."
    )


def _groups(options: dict[str, Any]) -> list[DeviceGroup]:
    if options["path"]:
        return read_file(options["path"])
    pairs = [label.partition("=") for label in options["labels"]]
    for key, equals, value in pairs:
        if not key or not equals:
            raise SpecError(f"--label {key}{equals}{value}: write KEY=VALUE")
    return [
        check_group(
            {
                "name": options["name"],
                "count": options["count"],
                "auth": options["auth"],
                "password": options["password"],
                "chip": options["chip"],
                "board": options["board"],
                "build": options["build"],
                "slot_size": options["slot_size"],
                "labels": {key: value for key, _, value in pairs},
                "confirm": options["confirm"],
                "rollback": not options["no_rollback"],
                "boot_seconds": options["boot_seconds"],
                "rate": options["rate"],
                "rtt": options["rtt"],
                "access_points": options["access_points"],
                "faults": list(options["faults"]),
            }
        )
    ]


async def _run(fleet: Fleet, specs: list[DeviceSpec]) -> None:
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    async with fleet:
        assert fleet.control is not None
        first, last = specs[0].address, specs[-1].address
        host, port = fleet.control
        click.echo(
            f"{len(specs)} devices from {first} to {last}: OTA at UDP {fleet.world.ota_port}, "
            f"http://{first}:{fleet.health_port}/api/health, faults at http://{host}:{port}/devices"
        )
        sys.stdout.flush()
        await ended.wait()
