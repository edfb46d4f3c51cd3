"""`python -m podium.local.process_node KUBECONFIG FOLDER`: the stand-in node until SIGTERM or Ctrl-C."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from pathlib import Path

import click

from podium.local.errors import LocalError
from podium.local.process_node.node import ProcessNode


@click.command()
@click.argument("kubeconfig", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option("--address", help="Its address in 127.0.0.0/8; it answers on port 10248, path /healthz.")
@click.option("--namespace", help="Only the pods of this namespace.")
@click.option("--name", default="stand-in", show_default=True, help="The name of the Node.")
@click.option("--selector", default="podium.dev/pool", show_default=True, help="The labels of the pods.")
def main(
    kubeconfig: Path, folder: Path, address: str | None, namespace: str | None, name: str, selector: str
) -> None:
    """Run the pods of WorkerPools as processes of this machine, without images."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    node = ProcessNode(
        kubeconfig, folder.resolve(), name=name, namespace=namespace, selector=selector, address=address
    )
    try:
        asyncio.run(_run(node))
    except LocalError as error:
        click.echo(f"podium: {error}", err=True)
        sys.exit(1)


async def _run(node: ProcessNode) -> None:
    ending = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ending.set)
    async with node:
        logging.getLogger(__name__).info("the node %s is at %s", node.name, node.address)
        await ending.wait()


if __name__ == "__main__":
    main()
