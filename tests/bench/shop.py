"""What both workers of the bench run, and conductor-python's: `python shop.py DOMAIN THREADS`."""

import os
import sys
from typing import Any

TYPES = tuple(f"shop_{number}" for number in range(10))


def work(n: int) -> dict[str, Any]:
    """Little to do, and a byte more in the file that counts."""
    handle = os.open(os.environ["SHOP_COUNT"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(handle, b".")
    finally:
        os.close(handle)
    return {"sum": sum(range(n))}


def main() -> None:
    """Conductor-python's own way: a process for each type, with so many threads."""
    from conductor.client.automator.task_handler import TaskHandler
    from conductor.client.configuration.configuration import Configuration
    from conductor.client.worker.worker import Worker

    domain, threads = sys.argv[1], int(sys.argv[2])
    workers = [Worker(name, work, domain=domain, thread_count=threads) for name in TYPES]
    with TaskHandler(workers, Configuration(), scan_for_annotated_workers=False) as handler:
        handler.start_processes()
        handler.join_processes()


if __name__ == "__main__":
    main()
