"""`podium simulate`: hands over to the simulator, which belongs to the workers and not to the operator."""

import os
import subprocess
import sys

import click

_SIMULATOR = (sys.executable, "-m", "podium_workers.simulator")
_AS_GIVEN = {"ignore_unknown_options": True, "help_option_names": []}


@click.group()
def simulate() -> None:
    """Simulated devices, images for them, and what can go wrong."""


def _hand_over(name: str, line: str) -> click.Command:
    @click.command(name, context_settings=_AS_GIVEN, short_help=line, add_help_option=False)
    @click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
    def command(arguments: tuple[str, ...]) -> None:
        if {"-h", "--help"} & set(arguments):
            told = subprocess.run([*_SIMULATOR, name, "--help"], check=True, capture_output=True, text=True)
            click.echo(told.stdout, nl=False)
            return
        # Its signals and its exit code are this command's.
        os.execv(sys.executable, [*_SIMULATOR, name, *arguments])  # noqa: S606 - nothing is left to do here

    return command


simulate.add_command(_hand_over("devices", "run simulated devices"))
simulate.add_command(_hand_over("faults", "list what can be wrong with a device or a firmware"))
simulate.add_command(_hand_over("image", "make a firmware image for simulated devices"))
