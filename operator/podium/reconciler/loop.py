"""The loop: takes keys off the queue, has them reconciled, and tries again what failed."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping

from podium.ports import Conflict, Gone, Key, NotSent, PortError
from podium.reconciler.queue import KeyedQueue

log = logging.getLogger(__name__)

Reconcile = Callable[[Key], Awaitable[float | None]]
_AFTER_CONFLICT = 0.05


async def work(queue: KeyedQueue, reconcilers: Mapping[str, Reconcile], *, at_once: int) -> None:
    """Reconcile what is due, `at_once` objects at a time, until cancelled.

    A conflict means that someone was quicker: the watch brings the newer object, it is looked at again
    shortly. Anything that is not a port's error is a bug: it is logged with its trace, and that object
    is tried again later, so that one bad object never stops the others.
    """
    async with asyncio.TaskGroup() as tasks:
        for number in range(at_once):
            tasks.create_task(_work_for_ever(queue, reconcilers), name=f"reconcile-{number}")


async def _work_for_ever(queue: KeyedQueue, reconcilers: Mapping[str, Reconcile]) -> None:
    while True:
        key = await queue.take()
        try:
            again = await reconcilers[key.kind](key)
        except Conflict:
            queue.done(key, again_after=_AFTER_CONFLICT)
        except Gone:
            queue.done(key)
        except PortError as error:
            # While a server is away its gate has said so, once.
            level = logging.DEBUG if isinstance(error, NotSent) else logging.WARNING
            log.log(level, "%s: %s; trying again", key, error)
            queue.done(key, failed=True, rest=getattr(error, "after", 0.0))
        except asyncio.CancelledError:
            queue.done(key)
            raise
        except Exception:
            log.exception("%s: a bug; trying again later", key)
            queue.done(key, failed=True)
        else:
            queue.done(key, again_after=again)
