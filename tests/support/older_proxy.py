"""A proxy that makes a Conductor seem older: it has no more than the one it stands for."""

import json
import re
from collections import Counter

from aiohttp import web

from support.cutting_proxy import CuttingProxy

Lack = tuple[str, str, int]
"""Method, path (a pattern) and the status of the answer."""

NO_METHOD = 500
"""As 3.21.14 answers a path that it has for other methods only."""

NO_VERSIONS: Lack = ("GET", r"/api/metadata/workflow/[^/]+/versions", NO_METHOD)
NO_NAMES: Lack = ("GET", r"/api/metadata/workflow/names-and-versions", 404)
NO_BULK: Lack = ("POST", r"/api/workflow/bulk/search", 405)
NO_SEARCH: Lack = ("GET", r"/api/tasks/search", 404)
NO_POLLERS: Lack = ("GET", r"/api/tasks/queue/polldata/all", 404)
NO_VERSION: Lack = ("GET", r"/api/version", 404)
NO_ACTUATOR: Lack = ("GET", r"/actuator/.*", 404)


class OlderProxy(CuttingProxy):
    """`url` stands in for a Conductor's that lacks these."""

    def __init__(
        self,
        target: str,
        *lacks: Lack,
        stamps: bool = True,
        index: bool = True,
        address: bool = False,
    ) -> None:
        """`stamps`: its list of definitions has times. `index`: its searches find something.

        `address`: it demands one of the owner of a definition.
        """
        super().__init__(target)
        self.lacks = lacks
        self._stamps = stamps
        self._index = index
        self._address = address
        self._dropped = ""
        self.asked: Counter[str] = Counter()
        """Method and path of what came through, without ids."""

    def drop(self, setting: str) -> None:
        """This key is not in the definitions that come back."""
        self._dropped = setting

    async def _pass(self, request: web.Request) -> web.StreamResponse:
        for method, path, status in self.lacks:
            if request.method == method and re.fullmatch(path, request.path):
                words = {
                    404: f"No static resource {request.path[1:]}.",
                    405: f"Request method '{method}' is not supported",
                    NO_METHOD: f"Request method '{method}' is not supported",
                }.get(status, "something is wrong")
                return web.json_response({"status": status, "message": words}, status=status)
        self.asked[f"{request.method} {re.sub(r'[0-9a-f-]{36}', 'ID', request.path)}"] += 1
        if not self._index and request.path.endswith("/search") and request.method == "GET":
            return web.json_response({"totalHits": 0, "results": []})
        if self._address and request.method in ("PUT", "POST") and "/metadata/" in request.path:
            lacking = [item for item in await request.json() if not item.get("ownerEmail")]
            if lacking:
                wrong = {"path": "arg0[0].ownerEmail", "message": "ownerEmail cannot be empty"}
                return web.json_response({"status": 400, "validationErrors": [wrong]}, status=400)
        answer = await super()._pass(request)
        if self._dropped and re.fullmatch(r"/api/metadata/workflow/[^/]+", request.path):
            assert isinstance(answer, web.Response)
            assert isinstance(answer.body, bytes)
            pattern = rf'"{self._dropped}":[^,}}]+,?'.encode()
            return web.Response(body=re.sub(pattern, b"", answer.body), content_type="application/json")
        if not self._stamps and request.path.endswith("/names-and-versions"):
            assert isinstance(answer, web.Response)
            assert isinstance(answer.body, bytes)
            found = json.loads(answer.body)
            for item in (item for versions in found.values() for item in versions):
                item.pop("updateTime", None)
            return web.json_response(found)
        return answer
