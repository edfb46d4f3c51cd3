"""`podium operator`: the operator in the foreground."""

import os
import sys

import click


@click.command()
def operator() -> None:
    """Run the operator until it is interrupted.

    Settings come from the environment: PODIUM_CONDUCTOR_URL (or CONDUCTOR_SERVER_URL), KUBECONFIG,
    PODIUM_LISTEN, PODIUM_NOTICE_TOKEN, PODIUM_NAMESPACES and more; docs/settings.md lists them all.

    \b
    Example:
      PODIUM_CONDUCTOR_URL=https://conductor.example/api podium operator
    """
    os.execv(sys.executable, [sys.executable, "-m", "podium"])  # noqa: S606 - itself, by its own path
