"""The tasks that run in worker processes, and the runtime that runs them.

A task function of one's own needs a few names from here::

    from podium_workers import Reject, Retry, TaskContext, run, task

    @task("resize")
    def resize(url: str, width: int = 100) -> dict: ...

    if __name__ == "__main__":
        run()
"""

from collections.abc import Sequence

import podium_workers.runtime.early  # noqa: F401 - first: the other imports take their time
from podium_workers.runtime.context import InProgress, Reject, Retry, TaskContext
from podium_workers.runtime.registry import Registry, registry, task

__all__ = ["InProgress", "Registry", "Reject", "Retry", "TaskContext", "registry", "run", "task"]


def run(arguments: Sequence[str] | None = None) -> None:
    """Serves the functions that are registered so far, and Podium's own not, until SIGTERM; ends the process.

    The program becomes `podium-worker`: it has its options (`arguments`; the command line's if left out)
    and its environment variables.
    """
    import sys

    from podium_workers.runtime.main import main

    given = sys.argv[1:] if arguments is None else list(arguments)
    main.main(["--no-builtin", *given], prog_name=sys.argv[0])
