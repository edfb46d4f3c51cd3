"""Deployments and pods through the official client's connection, as plain dicts; and their watch."""

import asyncio
import contextlib
import json
import logging
import random
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp

from podium.adapters import apply_patch
from podium.adapters.kubernetes import translate_errors
from podium.api.v1alpha1 import FIELD_MANAGER
from podium.api.v1alpha1.worker_pool import POOL_LABEL
from podium.ports import Gone, Json, PortError, Refused, RetryLater

log = logging.getLogger(__name__)

_MERGE_PATCH = "application/merge-patch+json"
_JSON_PATCH = "application/json-patch+json"
_ATTEMPTS = 3
_REQUEST_TIMEOUT = 10
_PAGE = 500
# The server ends each watch after so long, and it goes on where it ended; one that is silent for
# longer is dead.
_WATCH_SECONDS = 30
_WATCH_SILENCE = 40
_LONGEST_PAUSE = 5.0
_PATHS = {
    "Deployment": "/apis/apps/v1/{namespace}deployments",
    "PodDisruptionBudget": "/apis/policy/v1/{namespace}poddisruptionbudgets",
    "ServiceAccount": "/api/v1/{namespace}serviceaccounts",
    "Pod": "/api/v1/{namespace}pods",
}


class KubernetesWorkloads:
    """`podium.ports.Workloads` on a real API server."""

    def __init__(self, api: Any, namespaces: tuple[str, ...] = ()) -> None:
        """`api`: the open client of a KubernetesCluster. `namespaces`: the ones served; empty: all."""
        self._api = api
        self.namespaces = namespaces or ("",)
        self.writes = 0
        """Writes made so far."""
        self.trouble: dict[str, str] = {}
        """Kind → why its objects cannot be followed now."""

    async def make(self, body: Json) -> Json:
        """Create an object. Raises Conflict if there is one of its name; Refused if it makes no sense."""
        self.writes += 1
        path = _path(body["kind"], body["metadata"]["namespace"])
        made = await self._call("POST", path, {"fieldManager": FIELD_MANAGER}, body, "application/json")
        with contextlib.suppress(PortError):  # it is there; and what applies to it looks again
            await self._take_over(made)
        return made

    async def read(self, body: Json) -> Json:
        """The object of this apiVersion, kind, namespace and name, as it is now. Raises Gone."""
        return await self._call("GET", _path_of(body), {}, None, "")

    async def apply(self, body: Json, *, uid: str) -> Json:
        """Server-side apply to the object with this uid. Raises Gone, Conflict, Refused."""
        body = {**body, "metadata": {**body["metadata"], "uid": uid}}
        try:
            applied = await self._apply(body)
        except Refused:
            # What was taken out of it may stay and not go with what was put in: a value and a valueFrom.
            if not await self._take_over(await self.read(body)):
                raise
            return await self._apply(body)
        return await self._apply(body) if await self._take_over(applied) else applied

    async def _apply(self, body: Json) -> Json:
        self.writes += 1
        options = {"fieldManager": FIELD_MANAGER, "force": "true"}
        encoded = apply_patch.encode(body)
        return await self._call("PATCH", _path_of(body), options, encoded, apply_patch.CONTENT_TYPE)

    async def _take_over(self, body: Json) -> bool:
        """Have what it was made with owned by apply, so that what is left out later goes; whether it was not.

        It was not made by an apply because that cannot tell somebody else's object of its name from none.
        """
        for _ in range(_ATTEMPTS):
            patch = apply_patch.own_by_apply(body["metadata"].get("managedFields") or [], FIELD_MANAGER)
            if not patch:
                return False
            self.writes += 1
            try:
                await self._call("PATCH", _path_of(body), {"fieldManager": FIELD_MANAGER}, patch, _JSON_PATCH)
            except Refused:
                body = await self.read(body)  # the entries stand elsewhere: somebody else wrote
            else:
                return True
        return False

    async def mark_pod(self, namespace: str, name: str, *, uid: str, annotations: dict[str, str]) -> Json:
        """Set annotations of a pod. Raises Gone, Conflict."""
        self.writes += 1
        body = {"metadata": {"uid": uid, "annotations": annotations}}
        path = f"{_path('Pod', namespace)}/{name}"
        return await self._call("PATCH", path, {"fieldManager": FIELD_MANAGER}, body, _MERGE_PATCH)

    async def follow(
        self,
        kind: str,
        on_list: Callable[[list[Json], str], None],
        on_object: Callable[[Json], None],
        on_gone: Callable[[Json], None],
    ) -> None:
        """Tell of all objects of a kind with a pool's label, until cancelled: first all, then what moves."""
        async with asyncio.TaskGroup() as tasks:
            for namespace in self.namespaces:
                tasks.create_task(self._follow(kind, namespace, on_list, on_object, on_gone))

    async def _follow(
        self,
        kind: str,
        namespace: str,
        on_list: Callable[[list[Json], str], None],
        on_object: Callable[[Json], None],
        on_gone: Callable[[Json], None],
    ) -> None:
        version, pause = "", 0.25
        while True:
            try:
                if not version:
                    items, version = await self._list(kind, namespace)
                    on_list(items, namespace)
                    self.trouble.pop(kind, None)
                    pause = 0.25
                async for event, body in self._watch(kind, namespace, version):
                    if event == "ERROR":
                        version = ""  # too old: list again
                        break
                    version = body["metadata"]["resourceVersion"]
                    if event in ("ADDED", "MODIFIED"):
                        on_object(body)
                    elif event == "DELETED":
                        on_gone(body)
            except PortError as error:
                # Without the right to look, only an administrator can help: it is said, once.
                level = logging.WARNING if isinstance(error, Refused) else logging.DEBUG
                if self.trouble.get(kind) != str(error):
                    log.log(level, "cannot follow %ss: %s", kind, error)
                self.trouble[kind] = str(error)
                if isinstance(error, Gone):
                    version = ""
                await asyncio.sleep(random.uniform(pause / 2, pause))
                pause = min(_LONGEST_PAUSE, pause * 2)

    async def _list(self, kind: str, namespace: str) -> tuple[list[Json], str]:
        items: list[Json] = []
        token = ""
        while True:
            options = {"labelSelector": POOL_LABEL, "limit": str(_PAGE)}
            page = await self._call(
                "GET", _path(kind, namespace), options | ({"continue": token} if token else {}), None, ""
            )
            # Items of a list do not say what they are.
            items += [{"kind": kind, **item} for item in page["items"]]
            token = page["metadata"].get("continue") or ""
            if not token:
                return items, page["metadata"]["resourceVersion"]

    async def _watch(self, kind: str, namespace: str, version: str) -> AsyncIterator[tuple[str, Json]]:
        options = {
            "labelSelector": POOL_LABEL,
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": str(_WATCH_SECONDS),
        }
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=_WATCH_SILENCE)
        async with translate_errors():
            response = await self._api.call_api(
                _path(kind, namespace),
                "GET",
                query_params=list(options.items()),
                header_params={"Accept": "application/json"},
                auth_settings=["BearerToken"],
                _preload_content=False,
                _request_timeout=timeout,
            )
            async with response:
                if response.status == 410:
                    yield "ERROR", {}
                    return
                if response.status != 200:
                    raise RetryLater(f"the API server answered {response.status} to a watch")
                # Not line by line: a pod may be longer than what the reader takes for a line.
                rest = b""
                async for chunk in response.content.iter_any():
                    *lines, rest = (rest + chunk).split(b"\n")
                    for line in lines:
                        event = json.loads(line)
                        yield event["type"], event["object"]

    async def _call(self, verb: str, path: str, query: dict[str, str], body: Any, content_type: str) -> Json:
        headers = {"Accept": "application/json"} | ({"Content-Type": content_type} if content_type else {})
        async with translate_errors():
            answer: Json = await self._api.call_api(
                path,
                verb,
                query_params=list(query.items()),
                header_params=headers,
                body=body,
                response_types_map={200: "object", 201: "object"},
                auth_settings=["BearerToken"],
                _return_http_data_only=True,
                _request_timeout=_REQUEST_TIMEOUT,
            )
            return answer


def _path(kind: str, namespace: str) -> str:
    return _PATHS[kind].format(namespace=f"namespaces/{namespace}/" if namespace else "")


def _path_of(body: Json) -> str:
    return f"{_path(body['kind'], body['metadata']['namespace'])}/{body['metadata']['name']}"
