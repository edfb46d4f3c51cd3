"""A worker on conductor-python alone, without Podium: `python foreign.py handler|runner`.

The domain is in its environment, as a pool sets it for workers that are not Podium's.
"""

import asyncio
import sys

from conductor.client.automator.async_task_runner import AsyncTaskRunner
from conductor.client.automator.task_handler import TaskHandler
from conductor.client.configuration.configuration import Configuration
from conductor.client.worker.worker import Worker


def add(a: int, b: int) -> dict[str, int]:
    """Adds."""
    return {"sum": a + b}


async def add_later(a: int, b: int) -> dict[str, int]:
    """Adds in the event loop."""
    return {"sum": a + b}


def main() -> None:
    """Serves until it is killed."""
    if sys.argv[1] == "handler":
        with TaskHandler(
            [Worker("foreign_add", add)], Configuration(), scan_for_annotated_workers=False
        ) as all_:
            all_.start_processes()
            all_.join_processes()
    else:
        asyncio.run(AsyncTaskRunner(Worker("foreign_add", add_later), Configuration()).run())


if __name__ == "__main__":
    main()
