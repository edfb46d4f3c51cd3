"""Which task types the pools of a namespace serve: what Workflows say of their workers."""

from collections.abc import Iterable

from podium.core.objects import WorkerPool, conditions_of

# A pool of which this is said has nothing to mend: its pods come, or come when they are needed.
_FINE = frozenset({"PodsStarting", "Serving", "Suspended"})


def served_types(pools: Iterable[WorkerPool], connection: str | None) -> dict[str, str]:
    """Task type → what is the matter with the pool that serves it; "": nothing, even if it has no pod now.

    `pools`: of one namespace, the oldest first. `connection`: the Conductor that is meant.
    """
    served: dict[str, str] = {}
    for pool in pools:
        if pool.spec is None or pool.deleting_since is not None or pool.spec.connection != connection:
            continue
        for name in pool.spec.task_types:
            served.setdefault(name, _problem(pool))
    return served


def _problem(pool: WorkerPool) -> str:
    assert pool.spec is not None
    if pool.spec.suspend:
        return f"WorkerPool {pool.key.name} is suspended"
    told = next((item for item in conditions_of(pool) if item.get("type") == "Ready"), None)
    if told is None or told.get("status") == "True" or told.get("reason") in _FINE:
        return ""
    return f"WorkerPool {pool.key.name} is not ready ({told.get('reason')})"
