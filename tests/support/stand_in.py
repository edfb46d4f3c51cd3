"""A stand-in for Conductor in volume: definitions and runs in memory, behind the endpoints Podium uses.

For measurements of the operator only. It runs no workflow: a run succeeds at once, or stays RUNNING for
ever if its input says `{"active": true}`. What the real server does is tested on the real server.
"""

import time
import uuid
from collections import Counter
from typing import Any

from aiohttp import web

Json = dict[str, Any]


class StandIn:
    """`url` as Conductor's, with /api. `requests` counts what was asked, by path."""

    def __init__(self) -> None:
        self.url = ""
        self.requests: Counter[str] = Counter()
        self._definitions: dict[str, dict[int, Json]] = {}
        self._tasks: dict[str, Json] = {}
        self._runs: dict[str, Json] = {}
        self._moved: list[tuple[int, str]] = []

    @property
    def started(self) -> int:
        """Runs that it was asked to start."""
        return len(self._runs)

    async def __aenter__(self) -> "StandIn":
        application = web.Application(client_max_size=64 * 1024 * 1024, middlewares=[self._count])
        router = application.router
        router.add_get("/api/metadata/workflow/names-and-versions", self._stamps)
        router.add_get("/api/metadata/workflow/{name}/versions", self._versions)
        router.add_get("/api/metadata/workflow/{name}", self._definition)
        router.add_get("/api/metadata/workflow", self._all_definitions)
        router.add_put("/api/metadata/workflow", self._put_definitions)
        router.add_get("/api/metadata/taskdefs", self._task_definitions)
        router.add_get("/api/metadata/taskdefs/{name}", self._task_definition)
        router.add_post("/api/metadata/taskdefs", self._put_task_definitions)
        router.add_get("/api/tasks/queue/polldata", _nothing)
        router.add_get("/api/tasks/queue/polldata/all", _nothing)
        router.add_post("/api/workflow", self._start)
        router.add_post("/api/workflow/bulk/search", self._bulk)
        router.add_post("/api/workflow/{name}/correlated", self._correlated)
        router.add_get("/api/workflow/search", self._search)
        router.add_get("/api/tasks/search", _no_results)
        router.add_get("/api/version", _version)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}/api"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    @web.middleware
    async def _count(self, request: web.Request, handler: Any) -> web.StreamResponse:
        route = request.match_info.route.resource
        self.requests[route.canonical if route else "?"] += 1
        answer: web.StreamResponse = await handler(request)
        return answer

    # --- definitions ---------------------------------------------------------------------------------

    async def _stamps(self, _: web.Request) -> web.Response:
        return web.json_response(
            {
                name: [{"version": version, "createTime": 1, "updateTime": 1} for version in versions]
                for name, versions in self._definitions.items()
            }
        )

    async def _versions(self, request: web.Request) -> web.Response:
        known = self._definitions.get(request.match_info["name"], {})
        return web.json_response([{"version": version} for version in known])

    async def _definition(self, request: web.Request) -> web.Response:
        known = self._definitions.get(request.match_info["name"], {})
        version = int(request.query.get("version") or max(known, default=0))
        if version not in known:
            return web.json_response({"status": 404, "message": "none"}, status=404)
        return web.json_response(known[version])

    async def _all_definitions(self, _: web.Request) -> web.Response:
        return web.json_response([one for known in self._definitions.values() for one in known.values()])

    async def _put_definitions(self, request: web.Request) -> web.Response:
        for one in await request.json():
            stored = {**one, "createTime": 1, "updateTime": 1}
            self._definitions.setdefault(one["name"], {})[int(one["version"])] = stored
        return web.json_response({"bulkErrorResults": {}, "bulkSuccessfulResults": []})

    async def _task_definitions(self, _: web.Request) -> web.Response:
        return web.json_response(list(self._tasks.values()))

    async def _task_definition(self, request: web.Request) -> web.Response:
        known = self._tasks.get(request.match_info["name"])
        return web.json_response(known or {"status": 404, "message": "none"}, status=200 if known else 404)

    async def _put_task_definitions(self, request: web.Request) -> web.Response:
        self._tasks |= {one["name"]: one for one in await request.json()}
        return web.Response()

    # --- runs ----------------------------------------------------------------------------------------

    async def _start(self, request: web.Request) -> web.Response:
        body = await request.json()
        workflow_id, now = str(uuid.uuid4()), int(time.time() * 1000)
        active = bool(body["input"].get("active"))
        definition = self._definitions[body["name"]][int(body["version"])]
        task: Json = {
            "referenceTaskName": "n1",
            "taskDefName": "idle",
            "taskType": "idle",
            "status": "SCHEDULED" if active else "COMPLETED",
            "taskId": str(uuid.uuid4()),
            "seq": 1,
            "scheduledTime": now,
            "startTime": 0 if active else now,
            "endTime": 0 if active else now,
        }
        self._runs[workflow_id] = {
            "workflowId": workflow_id,
            "workflowName": body["name"],
            "workflowVersion": body["version"],
            "status": "RUNNING" if active else "COMPLETED",
            "correlationId": body["correlationId"],
            "createTime": now,
            "updatedTime": now,
            "endTime": 0 if active else now,
            "tasks": [task],
            "workflowDefinition": definition,
        }
        self._moved.append((now, workflow_id))
        return web.Response(text=workflow_id)

    async def _bulk(self, request: web.Request) -> web.Response:
        ids = await request.json()
        found = [self._runs[workflow_id] for workflow_id in ids if workflow_id in self._runs]
        missing = {one: "No such workflow" for one in ids if one not in self._runs}
        return web.json_response({"bulkSuccessfulResults": found, "bulkErrorResults": missing})

    async def _correlated(self, request: web.Request) -> web.Response:
        wanted = set(await request.json())
        found: dict[str, list[Json]] = {one: [] for one in wanted}
        for run in self._runs.values():
            if run["correlationId"] in wanted:
                found[run["correlationId"]].append(run)
        return web.json_response(found)

    async def _search(self, request: web.Request) -> web.Response:
        since = int(request.query["query"].partition(">")[2] or 0)
        start, size = int(request.query.get("start", 0)), int(request.query.get("size", 500))
        moved = [(at, workflow_id) for at, workflow_id in self._moved if at > since]
        rows = [
            {
                "workflowId": workflow_id,
                "correlationId": self._runs[workflow_id]["correlationId"],
                "updateTime": time.strftime("%Y-%m-%dT%H:%M:%S.", time.gmtime(at / 1000))
                + f"{at % 1000:03d}Z",
            }
            for at, workflow_id in moved[start : start + size]
        ]
        return web.json_response({"totalHits": len(moved), "results": rows})


async def _nothing(_: web.Request) -> web.Response:
    return web.json_response([])


async def _no_results(_: web.Request) -> web.Response:
    return web.json_response({"totalHits": 0, "results": []})


async def _version(_: web.Request) -> web.Response:
    return web.Response(text="3.32.3")
