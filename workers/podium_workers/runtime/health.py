"""HTTP for those who watch a worker: /healthz, /readyz, /metrics."""

from __future__ import annotations

from aiohttp import web

from podium_workers.runtime.metrics import WorkerMetrics
from podium_workers.runtime.worker import Worker


async def start_health(worker: Worker, metrics: WorkerMetrics, address: tuple[str, int]) -> web.AppRunner:
    """Serves until the returned runner's `cleanup()`. Raises OSError if the address cannot be had.

    /healthz is 200 unless the loop is stuck (then a restart helps); /readyz is 200 while tasks are taken:
    503 with the reason when Conductor does not answer, or during a drain.
    """

    async def healthz(_: web.Request) -> web.Response:
        return _verdict("the event loop is blocked" if worker.stuck else "")

    async def readyz(_: web.Request) -> web.Response:
        if worker.stopping:
            return _verdict(f"draining, {len(worker.unfinished)} tasks left")
        return _verdict("" if worker.connected else "Conductor does not answer")

    async def exposition(_: web.Request) -> web.Response:
        return web.Response(
            body=metrics.exposition(), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
        )

    app = web.Application()
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/metrics", exposition)
    runner = web.AppRunner(app, access_log=None, handle_signals=False)
    await runner.setup()
    await web.TCPSite(runner, *address).start()
    return runner


def _verdict(problem: str) -> web.Response:
    status, text = (503, problem) if problem else (200, "ok")
    return web.json_response({"status": text}, status=status)
