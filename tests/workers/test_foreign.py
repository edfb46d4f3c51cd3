"""Workers that are not Podium's serve its task types too: on a real Conductor, in a namespace's domain."""

import asyncio
import contextlib
import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SDK = (sys.executable, str(HERE / "foreign.py"))
PAGE = (HERE.parents[1] / "docs" / "functions.md").read_text()
SHELL = ("bash", "-c", PAGE.partition("```bash\n# worker.sh")[2].partition("```")[0].partition("\n")[2])

pytestmark = pytest.mark.slow


@contextlib.asynccontextmanager
async def foreign(desk, *command: str) -> AsyncIterator[None]:
    with (desk.folder / "foreign.log").open("wb") as sink:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdout=sink,
            stderr=sink,
            start_new_session=True,
            env={
                **os.environ,
                "CONDUCTOR_SERVER_URL": desk.url,
                "CONDUCTOR_WORKER_ALL_DOMAIN": desk.domain,
                "WORKER_ID": "foreign",
            },
        )
    try:
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


@pytest.mark.parametrize(
    "command",
    [
        pytest.param((*SDK, "handler"), id="TaskHandler"),
        pytest.param((*SDK, "runner"), id="AsyncTaskRunner"),
        pytest.param(
            SHELL,
            id="shell",
            marks=pytest.mark.skipif(
                not shutil.which("jq"), reason="the example in the documentation uses jq"
            ),
        ),
    ],
)
async def test_a_worker_of_another_make_serves_a_namespace(desk, command):
    run = await desk.start("foreign_add", {"a": 1, "b": 2})
    elsewhere = await desk.start("foreign_add", {"a": 1, "b": 2}, domain=f"{desk.domain}x")
    async with foreign(desk, *command):
        task = await desk.ended(run)
    assert (task["status"], task["outputData"]) == ("COMPLETED", {"sum": 3})
    assert (await desk.task(elsewhere))["status"] == "SCHEDULED"
