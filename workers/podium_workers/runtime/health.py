"""HTTP for those who watch a worker: /healthz, /readyz, /metrics."""

from __future__ import annotations

from aiohttp import web

from podium_workers.runtime.metrics import WorkerMetrics
from podium_workers.runtime.worker import Worker


async def start_health(worker: Worker, metrics: WorkerMetrics, address: tuple[str, int]) -> web.AppRunner:
    """Serves until the returned runner's `cleanup()`. Raises OSError if the address cannot be had.

    /healthz is 200 unless the loop is stuck (then a restart helps). /readyz is 503 with the reason until
    Conductor has answered for the first time, and during a drain.
    """

    async def healthz(_: web.Request) -> web.Response:
        return _verdict("the event loop is blocked" if worker.stuck else "")

    async def readyz(_: web.Request) -> web.Response:
        if worker.stopping:
            return _verdict(f"draining, {len(worker.unfinished)} tasks left")
        # Conductor must have answered once: a rolling update with a wrong address must not get through.
        # A later outage does not count. No traffic depends on a worker's readiness; all pods of all pools
        # would become unready at once, disruption budgets would block node drains, and roll-outs would
        # stall, for something that no pod can mend. podium_worker_connected tells of it.
        return _verdict("" if worker.met else "Conductor has not answered yet")

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
