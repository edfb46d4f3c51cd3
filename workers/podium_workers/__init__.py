"""The tasks that run in worker processes, and the runtime that runs them.

A task function of one's own needs four names from here::

    from podium_workers import Reject, Retry, TaskContext, task

    @task("resize")
    def resize(url: str, width: int = 100) -> dict: ...
"""

from podium_workers.runtime.context import InProgress, Reject, Retry, TaskContext
from podium_workers.runtime.registry import Registry, registry, task

__all__ = ["InProgress", "Registry", "Reject", "Retry", "TaskContext", "registry", "task"]
