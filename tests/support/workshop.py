"""Shipped workflows on the real servers, with a real worker process that has their tasks."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

from support.bed import Bed, workflow_run


@contextlib.asynccontextmanager
async def open_workshop(
    bed: Bed, data_dir: Path, manifests: Iterable[Path], *modules: str
) -> AsyncIterator[Bed]:
    """The workflows of `manifests` are registered, and a worker with the functions of `modules` runs."""
    with (bed.folder / "worker.log").open("wb") as sink:
        worker = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "podium_workers",
            "--no-builtin", "--functions", ",".join(modules),
            "--namespaces", bed.namespace, "--data-dir", str(data_dir),
            env={
                **os.environ, "CONDUCTOR_SERVER_URL": bed.server.url,
                "PODIUM_OTA_HOST": "127.0.0.1", "PODIUM_OTA_PORT": "0",
            },
            stdout=sink, stderr=sink,
        )  # fmt: skip
    try:
        await bed.start_operator()
        paths = list(manifests)
        await bed.apply(*(path.read_text() for path in paths))
        for path in paths:
            await bed.until_ready(path.stem)
        yield bed
    finally:
        worker.send_signal(signal.SIGKILL)
        await worker.wait()


async def ended(bed: Bed, name: str, workflow: str, **given: Any) -> dict[str, Any]:
    """The status of a run when it is over."""
    await bed.apply(workflow_run(name, workflow, input=given))
    body = await bed.until_phase(name, "Succeeded", "Failed", "TimedOut", within=120)
    return dict(body["status"])


def tasks(status: dict[str, Any]) -> dict[str, str]:
    """Reference name → status, in the order of the run."""
    return {task["id"]: task["status"] for task in status["tasks"]}
