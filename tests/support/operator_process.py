"""The operator in a process of its own, weighed from outside."""

import asyncio
import os
import subprocess
from pathlib import Path

import aiohttp

from podium.ports import Json
from support.bed import Bed

_AT_ONCE = 24


async def metric(bed: Bed, name: str) -> float:
    """One unlabelled metric of the operator process."""
    address, _ = bed._notices
    async with aiohttp.ClientSession() as session, session.get(f"http://{address}/metrics") as answer:
        text = await answer.text()
    return next(float(line.split()[1]) for line in text.splitlines() if line.startswith(f"{name} "))


async def works(bed: Bed) -> bool:
    """Whether it says that it is ready."""
    address, _ = bed._notices
    try:
        async with aiohttp.ClientSession() as session, session.get(f"http://{address}/readyz") as answer:
            return answer.status == 200
    except aiohttp.ClientError:
        return False


def resident(process: "subprocess.Popen[bytes]") -> dict[str, float]:
    """Resident memory now and at its highest, in MiB."""
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    found = {line.split(":")[0]: int(line.split()[1]) / 1024 for line in lines if line.startswith("Vm")}
    return {"now": round(found["VmRSS"], 1), "peak": round(found["VmHWM"], 1)}


async def create(bed: Bed, bodies: list[Json]) -> None:
    """Many objects in the namespace of the bed, some at once."""
    turns = asyncio.Semaphore(_AT_ONCE)

    async def one(body: Json) -> None:
        async with turns:
            metadata = {**body["metadata"], "namespace": bed.namespace}
            await bed.cluster.create({**body, "metadata": metadata})

    await asyncio.gather(*(one(body) for body in bodies))


def cpu_seconds(process: "subprocess.Popen[bytes]") -> float:
    """Of the processor, since it was started."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
