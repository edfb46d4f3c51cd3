"""Scale-downs at random moments, of several pools at once, while tasks of every length run on real pods."""

import asyncio
import json
import random
import signal
import time
from collections import Counter
from collections.abc import Callable

from podium.ports import Json
from support.bed import Bed
from support.eventually import eventually
from support.pools import (
    Naps,
    PoolWatch,
    at_work_when_told,
    between,
    naps_of,
    pool,
    sleeping,
    watch_pools,
)

# Three task types for three pools: a type belongs to one pool.
_MODULE = '''
import asyncio
from podium_workers import task

@task("nap_calm", "nap_wide", "nap_hand")
async def nap(seconds: float) -> dict:
    """Sleeps."""
    await asyncio.sleep(seconds)
    return {}
'''
_SHORTEST = 0.1
# By the law, as quick as it gets: what is decided hastily must be right all the same.
_QUICK = {"pollingInterval": "500ms", "cooldownPeriod": "1s", "scaleDown": {"stabilizationWindow": "1s"}}
_HAND_MOST = 3
_TOLD_EVERY = 20
STOPPED_EARLY = 128 + signal.SIGTERM
"""The exit code of a worker that had not begun to listen to signals, nor to take tasks."""


async def restrict(bed: Bed) -> None:
    """Only pods of the restricted Pod Security Standard are let into the namespace."""
    label = "pod-security.kubernetes.io/enforce=restricted"
    await bed.kubectl("label", "namespace", bed.namespace, label)


async def shrink_at_random(bed: Bed, image: str, wanted: int, longest: float, within: float) -> Json:
    """At least `wanted` scale-downs; fails if a task was lost or begun twice. Figures.

    Two pools follow their queues; a third is set by hand to any size at any time, whatever its pods do.
    """
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    dice = random.Random(seed)
    began = time.monotonic()
    await restrict(bed)
    await bed.start_operator()
    module = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "naps"}, "data": {}}
    module["data"] = {"naps.py": _MODULE}
    # Shorter than the tasks: a task whose pod is gone would be found soon, and the leases are in use.
    defaults = {"responseTimeout": "8s", "timeout": "10m"}
    flows = [
        sleeping(name, "${workflow.input.seconds}", f"nap_{name}", taskDefaults=defaults)
        for name in ("calm", "wide", "hand")
    ]
    common = {"image": image, "functions": "naps"}
    await bed.apply(
        module,
        *flows,
        pool(bed, "calm", "nap_calm", concurrency=1, scaling={**_QUICK, "maxReplicas": 5}, **common),
        pool(bed, "wide", "nap_wide", concurrency=3, scaling={**_QUICK, "maxReplicas": 3}, **common),
        pool(bed, "hand", "nap_hand", concurrency=2, replicas=1, **common),
    )
    for flow in flows:
        await bed.until_ready(flow["metadata"]["name"])
    await eventually(lambda: bed.kubectl("get", "deployments", "-n", bed.namespace), _has_all)
    async with watch_pools(bed) as watch, naps_of(bed) as naps:
        told = 0

        def enough() -> bool:
            nonlocal told
            count = len(watch.scale_downs)
            if count >= told + _TOLD_EVERY:
                told = count
                print(f"{count} of {wanted} scale-downs, {time.monotonic() - began:.0f} s", flush=True)
            late = time.monotonic() - began > within
            return late or count >= wanted

        async with asyncio.TaskGroup() as tasks:
            for name, most in (("calm", 6), ("wide", 12), ("hand", 10)):
                tasks.create_task(_feed(name, most, longest, naps, watch, dice, enough))
            tasks.create_task(_set_by_hand(bed, dice, enough))
        await _set(bed, 2)
        done = await naps.all_done_once(within=longest * 2 + 120)
        # All have ended: those that follow their queues go to zero, the other one as it is told.
        await _set(bed, 0)
        try:
            await eventually(lambda: _pods(bed), lambda names: not names, within=60)
        except AssertionError:
            print(await _what_is_left(bed), watch)
            raise
        figures = _figures(watch, done, time.monotonic() - began)
    print(json.dumps(figures, indent=2))
    assert len(watch.scale_downs) >= wanted, figures
    assert max(watch.drains.values()) < longest + 20, "a pod that was told to stop goes on for ever"
    assert set(watch.exits.values()) <= {0, STOPPED_EARLY}, watch.exits
    assert figures["while they had tasks"]["hand"] > 0, "nothing was tried"
    return figures


def _has_all(told: str) -> bool:
    return all(name in told for name in ("calm", "wide", "hand"))


async def _feed(
    name: str,
    most: int,
    longest: float,
    naps: Naps,
    watch: PoolWatch,
    dice: random.Random,
    enough: Callable[[], bool],
) -> None:
    """Bursts of tasks; the next one comes at some moment after its pool has begun to shrink."""
    while not enough():
        seen = len(watch.scale_downs)
        await naps.start(name, [between(dice, _SHORTEST, longest) for _ in range(dice.randint(1, most))])
        patience = time.monotonic() + 12
        while time.monotonic() < patience and not enough():
            if any(change.pool == name for change in watch.scale_downs[seen:]):
                break
            await asyncio.sleep(0.1)
        await asyncio.sleep(dice.uniform(0, 4))


async def _set_by_hand(bed: Bed, dice: random.Random, enough: Callable[[], bool]) -> None:
    size = 1
    while not enough():
        size = dice.choice([number for number in range(_HAND_MOST + 1) if number != size])
        await _set(bed, size)
        await asyncio.sleep(dice.uniform(0.5, 6))


async def _set(bed: Bed, size: int) -> None:
    await bed.kubectl("scale", "workerpool", "hand", f"--replicas={size}", "-n", bed.namespace)


async def _pods(bed: Bed) -> str:
    return await bed.kubectl("get", "pods", "-n", bed.namespace, "-o", "name")


async def _what_is_left(bed: Bed) -> str:
    """For whoever has to find out why."""
    looks = (
        ("get", "pods", "-o", "yaml"),
        ("logs", "-l", "podium.dev/pool", "--prefix", "--tail=40"),
        ("get", "events"),
    )
    return "\n".join([await bed.kubectl(*look, "-n", bed.namespace) for look in looks])


def _figures(watch: PoolWatch, tasks: list[Json], seconds: float) -> Json:
    drains = sorted(watch.drains.values())
    return {
        "scale-downs": len(watch.scale_downs),
        "of each pool": dict(Counter(change.pool for change in watch.scale_downs)),
        "tasks": len(tasks),
        "lost, timed out or given out twice": 0,
        "pods told to stop": len(watch.told),
        "while they had tasks": at_work_when_told(watch, tasks),
        "before they had begun": len(watch.never_begun),
        "longest drain s": round(drains[-1], 1) if drains else 0,
        "exit codes": {str(code): count for code, count in Counter(watch.exits.values()).items()},
        "seconds": round(seconds),
    }
