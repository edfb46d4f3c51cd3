"""Kubernetes through the official client's asyncio side, as plain dicts.

`CustomObjectsApi` serves every group that is not core, Events and Leases too; typed models would cost
25 MB and break on what they do not know.
"""

import base64
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Sequence
from types import TracebackType
from typing import Any, Self

import aiohttp
from kubernetes.aio import client
from kubernetes.aio.client.exceptions import ApiException

from podium.adapters import apply_patch
from podium.adapters.kubernetes_api import GatedApi, Reload, retry_after
from podium.api.v1alpha1 import API_VERSION, FIELD_MANAGER, GROUP, KINDS, VERSION
from podium.ports import Conflict, Gone, Json, Key, Outage, Refused, RetryLater

_PAGE = 500
_MERGE_PATCH = "application/merge-patch+json"
# Every write may be repeated; one whose connection died in a short outage is not waited for long.
_REQUEST_TIMEOUT = 10
_PLURALS = {kind.kind: kind.plural for kind in KINDS}


class KubernetesCluster:
    """`podium.ports.Cluster` on a real API server. Open it with `async with`."""

    manager = FIELD_MANAGER
    """Who owns the fields that are written, unless a call says otherwise."""

    def __init__(self, configuration: Any, reload: Reload | None = None) -> None:
        """`configuration`: a loaded kubernetes.aio Configuration. `reload()`: the same anew, after a 401."""
        self._configuration = configuration
        self._reload = reload
        self._open = contextlib.AsyncExitStack()
        self.on_write: Callable[[Key, str], None] = lambda _key, _version: None
        """Called with the resourceVersion of every object of ours that was written."""
        self._api: Any = None
        self._objects: Any = None
        self.writes = 0
        """Writes made so far, Events not counted."""

    async def __aenter__(self) -> Self:
        self._api = await self._open.enter_async_context(GatedApi(self._configuration, self._reload))
        await self._open.enter_async_context(self._api.gate.minded())
        self._objects = client.CustomObjectsApi(self._api)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._open.aclose()

    @property
    def api(self) -> Any:
        """The open client, for what is not one of our kinds."""
        return self._api

    @property
    def outage(self) -> Outage | None:
        """Since when the API server is away, if it is. While it is, calls fail at once with NotSent."""
        outage: Outage | None = self._api.gate.outage
        return outage

    def _told(self, key: Key, stored: Json) -> Json:
        metadata = stored["metadata"]
        if metadata.get("finalizers") or not metadata.get("deletionTimestamp"):  # else it is gone now
            self.on_write(key, metadata["resourceVersion"])
        return stored

    async def get(self, key: Key) -> Json:
        """The object as it is now. Raises Gone."""
        async with translate_errors():
            found: Json = await self._objects.get_namespaced_custom_object(
                GROUP, VERSION, key.namespace, _PLURALS[key.kind], key.name, _request_timeout=_REQUEST_TIMEOUT
            )
            return found

    async def pages(self, kind: str, namespace: str | None = None) -> AsyncIterator[list[Json]]:
        """All objects of a kind, page by page: ten thousand objects at once would be half a gigabyte."""
        token = ""
        while True:
            more = {"_continue": token} if token else {}
            async with translate_errors():
                if namespace is None:
                    page = await self._objects.list_cluster_custom_object(
                        GROUP, VERSION, _PLURALS[kind], limit=_PAGE, **more
                    )
                else:
                    page = await self._objects.list_namespaced_custom_object(
                        GROUP, VERSION, namespace, _PLURALS[kind], limit=_PAGE, **more
                    )
            yield page["items"]
            token = page["metadata"].get("continue") or ""
            if not token:
                return

    async def list(self, kind: str, namespace: str | None = None) -> list[Json]:
        """All objects of a kind, read in pages of 500."""
        return [item async for page in self.pages(kind, namespace) for item in page]

    async def create(self, body: Json) -> Json:
        """Create an object of one of our kinds. Raises Conflict only if there is one of its name."""
        self.writes += 1
        async with translate_errors(), _creating():
            stored: Json = await self._objects.create_namespaced_custom_object(
                GROUP,
                VERSION,
                body["metadata"]["namespace"],
                _PLURALS[body["kind"]],
                body,
                field_manager=self.manager,
                _request_timeout=_REQUEST_TIMEOUT,
            )
            return stored

    async def patch(self, key: Key, patch: Json, *, uid: str) -> Json:
        """Merge into the object with this uid (spec, labels, annotations). Raises Gone, Conflict."""
        # Another uid is answered with 409: metadata.uid cannot be changed.
        body = {**patch, "metadata": {**patch.get("metadata", {}), "uid": uid}}
        return await self._merge(key, body)

    async def apply_status(
        self,
        key: Key,
        status: Json,
        *,
        uid: str,
        resource_version: str | None = None,
        field_manager: str = FIELD_MANAGER,
    ) -> Json:
        """Server-side apply of the status; with a resourceVersion only if unchanged since (Conflict).

        The resourceVersion also keeps it from an object that was deleted and made again: the uid alone
        does not, the server lets such an apply through.
        """
        metadata: Json = {"name": key.name, "namespace": key.namespace, "uid": uid}
        if resource_version:
            metadata["resourceVersion"] = resource_version
        body = {"apiVersion": API_VERSION, "kind": key.kind, "metadata": metadata, "status": status}
        self.writes += 1
        async with translate_errors():
            stored: Json = await self._objects.patch_namespaced_custom_object_status(
                GROUP,
                VERSION,
                key.namespace,
                _PLURALS[key.kind],
                key.name,
                apply_patch.encode(body),
                field_manager=field_manager,
                force=True,
                _content_type=apply_patch.CONTENT_TYPE,
                _request_timeout=_REQUEST_TIMEOUT,
            )
            return self._told(key, stored)

    async def patch_finalizers(self, key: Key, finalizers: Sequence[str], *, resource_version: str) -> Json:
        """Replace the finalizers, if nothing changed since (Conflict). Raises Gone."""
        # A merge patch that carries the resourceVersion: a stale one is answered 409, where the failed
        # test of a JSON patch is a 422 that cannot be told from a refusal.
        patch = {"metadata": {"resourceVersion": resource_version, "finalizers": list(finalizers)}}
        return await self._merge(key, patch)

    async def _merge(self, key: Key, patch: Json) -> Json:
        self.writes += 1
        async with translate_errors():
            stored: Json = await self._objects.patch_namespaced_custom_object(
                GROUP,
                VERSION,
                key.namespace,
                _PLURALS[key.kind],
                key.name,
                patch,
                _content_type=_MERGE_PATCH,
                _request_timeout=_REQUEST_TIMEOUT,
            )
            return self._told(key, stored)

    async def delete(self, key: Key, *, uid: str, resource_version: str | None = None) -> None:
        """Delete the object with this uid; one that is gone already is fine.

        With a resourceVersion only if unchanged since; Conflict if it was changed, or made again.
        """
        preconditions = {"uid": uid}
        if resource_version:
            preconditions["resourceVersion"] = resource_version
        # Another uid is a conflict too, and then the object with this one is gone.
        fine = (Gone,) if resource_version else (Gone, Conflict)
        self.writes += 1
        with contextlib.suppress(*fine):
            async with translate_errors():
                await self._objects.delete_namespaced_custom_object(
                    GROUP,
                    VERSION,
                    key.namespace,
                    _PLURALS[key.kind],
                    key.name,
                    body={"preconditions": preconditions},
                    _request_timeout=_REQUEST_TIMEOUT,
                )

    # --- what is not one of our kinds ----------------------------------------------------------------

    async def get_secret(self, namespace: str, name: str) -> dict[str, bytes]:
        """The data of a core/v1 Secret. Raises Gone; Refused without the right to read it."""
        async with translate_errors():
            found = await client.CoreV1Api(self._api).read_namespaced_secret(
                name, namespace, _request_timeout=_REQUEST_TIMEOUT
            )
            return {key: base64.b64decode(value) for key, value in (found.data or {}).items()}

    async def read_cluster_id(self) -> str:
        """The uid of the namespace kube-system: what tells this cluster from every other."""
        async with translate_errors():
            answer = await client.CoreV1Api(self._api).read_namespace("kube-system")
            return str(answer.metadata.uid)

    async def create_event(self, namespace: str, body: Json) -> Json:
        """Create an events.k8s.io/v1 Event."""
        async with translate_errors():
            stored: Json = await self._objects.create_namespaced_custom_object(
                "events.k8s.io", "v1", namespace, "events", body, _request_timeout=_REQUEST_TIMEOUT
            )
            return stored

    async def patch_event(self, namespace: str, name: str, body: Json) -> Json:
        """Merge into an Event: its series."""
        async with translate_errors():
            stored: Json = await self._objects.patch_namespaced_custom_object(
                "events.k8s.io",
                "v1",
                namespace,
                "events",
                name,
                body,
                _content_type=_MERGE_PATCH,
                _request_timeout=_REQUEST_TIMEOUT,
            )
            return stored

    async def get_lease(self, namespace: str, name: str) -> Json:
        """A coordination.k8s.io/v1 Lease. Raises Gone."""
        async with translate_errors():
            found: Json = await self._objects.get_namespaced_custom_object(
                "coordination.k8s.io", "v1", namespace, "leases", name, _request_timeout=5
            )
            return found

    async def put_lease(self, namespace: str, name: str, body: Json, *, create: bool) -> Json:
        """Create a Lease, or replace it if its resourceVersion still holds (Conflict)."""
        async with translate_errors():
            group = ("coordination.k8s.io", "v1", namespace, "leases")
            stored: Json = await (
                self._objects.create_namespaced_custom_object(*group, body, _request_timeout=5)
                if create
                else self._objects.replace_namespaced_custom_object(*group, name, body, _request_timeout=5)
            )
            return stored


async def load_configuration(kubeconfig: str | None = None, context: str | None = None) -> Any:
    """The client's Configuration: what is named, else the pod's account, else the ordinary kubeconfig."""
    from kubernetes.aio import config

    configuration = client.Configuration()
    if kubeconfig is None and context is None:
        with contextlib.suppress(config.ConfigException):
            config.load_incluster_config(client_configuration=configuration)
            return configuration
    await config.load_kube_config(config_file=kubeconfig, context=context, client_configuration=configuration)
    return configuration


@contextlib.asynccontextmanager
async def translate_errors() -> AsyncIterator[None]:
    try:
        yield
    except ApiException as error:
        words = f"the API server answered {error.status} {error.reason or ''}".strip()
        match error.status:
            case 404:
                raise Gone(words) from error
            case 409:
                raise Conflict(words) from error
            case 400 | 403 | 413 | 422:
                raise Refused(f"{words}: {_said(error.body)[:400]}") from error
            case _:
                raise RetryLater(words, after=retry_after(error)) from error
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise RetryLater(f"the API server does not answer: {type(error).__name__}") from error


@contextlib.asynccontextmanager
async def _creating() -> AsyncIterator[None]:
    """A 409 does not always mean that the name is taken: writers who meet at a quota get one, too."""
    try:
        yield
    except ApiException as error:
        if error.status == 409 and _status_of(error.body).get("reason") != "AlreadyExists":
            said = _said(error.body)[:400]
            raise RetryLater(f"the API server did not create it: {said}", after=retry_after(error)) from error
        raise


def _said(body: object) -> str:
    """What the API server says in its own words, out of the Status object that it answers with."""
    return str(_status_of(body).get("message", body))


def _status_of(body: object) -> Json:
    try:
        status = json.loads(str(body))
    except (ValueError, RecursionError):
        return {}
    return status if isinstance(status, dict) else {}
