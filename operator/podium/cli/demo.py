"""`podium demo`: the examples on a real API server and a real Conductor, from nothing."""

import sys
import time
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from podium.local.demo import RunLine, final_tables, find_examples, run_demo
from podium.local.demo_firmware import FirmwareDemo, why_no_firmware
from podium.local.demo_pool import has_pods, run_pool_demo
from podium.local.demo_stage import Stage


@click.command()
@click.option("--keep", is_flag=True, help="Leave everything running at the end.")
@click.option("--name", default="demo", show_default=True, help="The name of the dev stack it uses.")
@click.option("--context", help="Use this kubeconfig context instead of a cluster of its own.")
@click.option("--conductor-url", help="Use this Conductor (with /api) instead of one of its own.")
def demo(keep: bool, name: str, context: str | None, conductor_url: str | None) -> None:
    """Run the examples: four kinds of workflow, a pool of workers, and firmware for simulated devices.

    Starts a cluster, Conductor, the operator and a worker of its own, applies manifests/examples,
    shows the runs while they go on, builds a firmware and brings it to devices, and cleans up.
    Exit code 1 if anything does not end as it should.

    \b
    Example:
      podium demo --keep
    """
    from podium.local.cache import Cache
    from podium.local.errors import LocalError
    from podium.local.progress import open_progress
    from podium.local.stack import Stack
    from podium.local.state import Wishes, state_root

    console = Console()
    began = time.monotonic()
    wishes = Wishes(context=context, conductor_url=conductor_url)
    try:
        with open_progress() as progress:
            stack = Stack(name, state_root(), Cache.of(), progress)
            stack.up(wishes)
        try:
            examples = find_examples()
            stage = Stage(stack, wishes, click.echo)
            run_demo(stage, examples, show=lambda lines: _show(console, lines, began))
            click.echo(final_tables(stage, examples))
            _show_pool(stage, examples)
            _show_firmware(stage)
            click.secho(
                f"All examples ended as they should, in {time.monotonic() - began:.0f} s.", fg="green"
            )
        except LocalError:
            click.echo(f"the logs are kept: podium dev logs operator --name {name}", err=True)
            keep = True
            raise
        finally:
            if keep:
                click.echo(f'To look further: eval "$(podium dev env --name {name})"; kubectl get podium')
                click.echo(f"To end it: podium dev down --name {name}")
            else:
                with open_progress() as progress:
                    Stack(name, state_root(), Cache.of(), progress).down()
                click.echo("To look further, leave it running: podium demo --keep")
    except LocalError as error:
        click.secho(f"podium: {error}", fg="red", err=True)
        sys.exit(1)


def _show_pool(stage: Stage, examples: Path) -> None:
    if not has_pods(stage.state):
        click.echo(
            "WorkerPools are left out: their pods need an image in this cluster (make images, then load it): "
            "docs/testing.md#images"
        )
        return
    click.echo("\nA WorkerPool that follows its queue, from no pods to as many as are needed, and back:")
    decisions = run_pool_demo(stage, examples)
    story = " → ".join([str(decisions[0][0]), *(str(after) for _, after in decisions)])
    click.echo(f"pods: {story}; every task was begun once\n")


def _show_firmware(stage: Stage) -> None:
    if why := why_no_firmware():
        click.echo(f"Firmware is left out: {why}")
        return
    click.echo("Firmware: a commit is built, measured and stored, and simulated devices are updated with it:")
    FirmwareDemo(stage).run()


def _show(console: Console, lines: list[RunLine], began: float) -> None:
    if not console.is_terminal:
        parts = [f"{line.name} {line.phase or '-'} {line.progress} {line.current}".strip() for line in lines]
        click.echo(f"{time.monotonic() - began:6.1f} s  " + " | ".join(parts))
        return
    table = Table("RUN", "WORKFLOW", "PHASE", "PROGRESS", "CURRENT", box=None)
    for line in lines:
        fine = line.phase == line.wanted
        colour = ("green" if fine else "red") if line.has_ended else "yellow"
        phase = f"[{colour}]{line.phase}[/]"
        if line.has_ended and line.wanted != "Succeeded" and fine:
            phase += " (on purpose)"
        table.add_row(line.name, line.workflow, phase, line.progress, line.current)
    console.print(table)
