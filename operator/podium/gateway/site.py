"""The operator's HTTP site."""

import asyncio
import hmac
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import web

log = logging.getLogger(__name__)

# A notice carries the run's whole input and output; it is read, answered and only then looked at.
_LARGEST_NOTICE = 32 * 1024 * 1024
_ENDED = frozenset({"COMPLETED", "FAILED", "TIMED_OUT", "TERMINATED"})


@dataclass(frozen=True)
class Site:
    """What the site needs of the operator.

    `on_notice(workflow id, ended)`: a notice with the right secret came. `problems()`: why the operator
    is not ready, empty if it is. `alive()`: whether its loop still works.
    """

    notice_token: str
    on_notice: Callable[[str, bool], None]
    on_refused_notice: Callable[[], None]
    problems: Callable[[], list[str]]
    alive: Callable[[], bool]
    render_metrics: Callable[[], bytes]

    def build(self) -> web.Application:
        """The aiohttp application."""
        application = web.Application(client_max_size=_LARGEST_NOTICE)
        application.router.add_get("/healthz", self._healthz)
        application.router.add_get("/readyz", self._readyz)
        application.router.add_get("/metrics", self._metrics)
        application.router.add_post("/notices/workflow", self._workflow_notice)
        application.router.add_post("/notices/task", self._task_notice)
        return application

    async def _healthz(self, _request: web.Request) -> web.Response:
        return web.Response(text="ok\n") if self.alive() else web.Response(status=503, text="stuck\n")

    async def _readyz(self, _request: web.Request) -> web.Response:
        problems = self.problems()
        if problems:
            return web.Response(status=503, text="".join(f"{problem}\n" for problem in problems))
        return web.Response(text="ok\n")

    async def _metrics(self, _request: web.Request) -> web.Response:
        return web.Response(body=self.render_metrics(), headers={"Content-Type": "text/plain; version=0.0.4"})

    async def _workflow_notice(self, request: web.Request) -> web.Response:
        return await self._take(request, of_workflow=True)

    async def _task_notice(self, request: web.Request) -> web.Response:
        return await self._take(request, of_workflow=False)

    async def _take(self, request: web.Request, *, of_workflow: bool) -> web.Response:
        """Check the secret, read, answer; look at it after. Conductor waits 300 ms at most."""
        given = request.headers.get("Authorization", "")
        wanted = f"Bearer {self.notice_token}"
        if not self.notice_token or not hmac.compare_digest(given.encode(), wanted.encode()):
            self.on_refused_notice()
            return web.Response(status=401, text="a notice must carry the secret that both sides share\n")
        body = await request.read()
        asyncio.get_running_loop().call_soon(self._look_at, body, of_workflow)
        return web.Response(status=200)

    def _look_at(self, body: bytes, of_workflow: bool) -> None:
        try:
            notice = json.loads(body)
            workflow_id = notice.get("workflowId") or notice.get("workflowInstanceId")
            ended = of_workflow and notice.get("status") in _ENDED
        except (ValueError, AttributeError):
            log.debug("a notice that cannot be read")  # a hint only: the sweep finds what moved
            return
        if workflow_id:
            self.on_notice(str(workflow_id), ended)


async def serve(application: web.Application, listen: str) -> web.AppRunner:
    """Serve on host:port; `cleanup()` of what is returned ends it. Raises OSError if it is taken."""
    host, _, port = listen.rpartition(":")
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=2.0)
    await runner.setup()
    await web.TCPSite(runner, host, int(port)).start()
    return runner
