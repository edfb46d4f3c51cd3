"""The kopf handlers. They write nothing: no annotations, no finalizers, no Events."""

import copy
import random
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import kopf

from podium.api.v1alpha1 import GROUP, KINDS, VERSION
from podium.ports import Json, Key

_WATCH_SECONDS = 8


class _Patience:
    """Pauses between tries, in seconds: without end, as a watch must outlive every outage."""

    def __iter__(self) -> Iterator[float]:
        longest = 0.25
        while True:
            yield random.uniform(longest / 2, longest)
            longest = min(4.0, longest * 2)


_PATIENCE = _Patience()
OnObject = Callable[[Key, Json], None]
OnGone = Callable[[Key], None]


def build_registry(
    on_object: OnObject, on_gone: OnGone, *, connection: Callable[[], Awaitable[kopf.ConnectionInfo]]
) -> kopf.OperatorRegistry:
    """A registry of its own, so that importing this does nothing and tests can build many."""
    registry = kopf.OperatorRegistry()

    # Asked again after each 401: the credentials are read anew from where they are kept.
    @kopf.on.login(registry=registry, backoff=1.0)
    async def on_login(**_: Any) -> kopf.ConnectionInfo:
        return await connection()

    @kopf.on.startup(registry=registry)
    async def on_startup(settings: kopf.OperatorSettings, **_: Any) -> None:
        # Never used, as no handler here needs one; and never the name of our own finalizer.
        settings.persistence.finalizer = f"{GROUP}/kopf-unused"
        settings.posting.enabled = False
        settings.watching.chunk_size = 500
        settings.networking.request_timeout = 15.0
        settings.networking.connect_timeout = 5.0
        settings.networking.error_backoffs = _PATIENCE
        # The server ends each watch after so long, and it goes on where it ended; one that is
        # silent for longer is dead. Otherwise kopf would notice that after 70 s.
        settings.watching.server_timeout = _WATCH_SECONDS
        settings.watching.inactivity_timeout = _WATCH_SECONDS + 2.0
        settings.queueing.worker_limit = None
        settings.queueing.idle_timeout = 1.0

    for kind in KINDS:
        _watch(registry, kind.plural, kind.kind, on_object, on_gone)
    return registry


def _watch(
    registry: kopf.OperatorRegistry, plural: str, kind: str, on_object: OnObject, on_gone: OnGone
) -> None:
    @kopf.on.event(GROUP, VERSION, plural, registry=registry, id=f"see-{plural}")
    async def on_event(event: Any, **_: Any) -> None:
        body = event["object"]
        key = Key(kind, body["metadata"]["namespace"], body["metadata"]["name"])
        if event["type"] == "DELETED":
            on_gone(key)
        else:
            on_object(key, copy.deepcopy(dict(body)))


def connection_of(configuration: Any) -> kopf.ConnectionInfo:
    """The connection that the Kubernetes client uses, for kopf: one way to log in."""
    # The client keeps a bearer token under one name or the other, by how it was loaded.
    keys = configuration.api_key
    scheme, _, token = (keys.get("BearerToken") or keys.get("authorization") or "").partition(" ")
    verify = bool(configuration.verify_ssl)
    return kopf.ConnectionInfo(
        server=configuration.host,
        ca_path=str(Path(configuration.ssl_ca_cert)) if configuration.ssl_ca_cert else None,
        insecure=not verify,
        username=configuration.username or None,
        password=configuration.password or None,
        scheme=scheme if token else None,
        token=token or scheme or None,
        certificate_path=configuration.cert_file or None,
        private_key_path=configuration.key_file or None,
    )
