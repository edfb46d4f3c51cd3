"""Puts the values of Secrets and ConfigMaps in the place of references, just before a function is called.

Conductor keeps a task's input in clear, so it gets `{"_type": "secretKeyRef", "name": …, "key": …}` and
never the value. A message from here names the object and the key, never a value.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import os
import re
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from podium_workers.runtime.context import Reject, Retry

KINDS = {"secretKeyRef": "Secret", "configMapKeyRef": "ConfigMap"}
CACHE_SECONDS = 30.0
API_SECONDS = 10.0
_MOST_CACHED = 256
_NAME = re.compile(r"[a-z0-9]([-.a-z0-9]{0,251}[a-z0-9])?")
_KEY = re.compile(r"(?!\.\.?$)[-._a-zA-Z0-9]{1,253}")
_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


@dataclass(frozen=True)
class Sources:
    """Where values may be read."""

    secrets_dir: Path = Path("/var/run/podium/secrets")
    """`<name>/<key>` below it: the Secrets of the worker's own namespace that are mounted."""
    configmaps_dir: Path = Path("/var/run/podium/configmaps")
    kubeconfig: Path | None = None
    """None: the pod's service account, if there is one."""
    context: str | None = None
    namespace: str | None = None
    """The worker's own; None if it is not known."""


@dataclass
class Resolved:
    """An input with its values, and those that came out of Secrets."""

    input: Mapping[str, Any]
    secrets: list[str] = field(default_factory=list)


@dataclass(frozen=True, order=True)
class _Object:
    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name} in namespace {self.namespace}"


def is_reference(value: object) -> bool:
    """Whether it stands for a value that is kept in a Secret or ConfigMap."""
    return isinstance(value, Mapping) and value.get("_type") in KINDS


def own_namespace(domains: tuple[str | None, ...]) -> str | None:
    """The pod's namespace; outside of a cluster the only one that is served."""
    if named := os.environ.get("POD_NAMESPACE"):
        return named
    with contextlib.suppress(OSError):
        return (_ACCOUNT / "namespace").read_text().strip() or None
    return domains[0] if len(domains) == 1 else None


class References:
    """Resolves references from mounted folders, else from the Kubernetes API as far as RBAC lets it."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._cache: OrderedDict[_Object, tuple[float, Mapping[str, bytes]]] = OrderedDict()
        self._locks: dict[_Object, asyncio.Lock] = {}
        self._api: Any = None
        self.known: dict[str, None] = {}
        """Values of Secrets that this process has read: its own log leaves them out."""

    async def resolve(self, data: Mapping[str, Any], domain: str | None) -> Resolved:
        """The input with values for references, at any depth. `domain`: the run's namespace.

        Raises Reject for what is not there or not allowed, Retry where another time may do.
        """
        resolved = Resolved(data)
        if _has_reference(data):
            resolved.input = await self._fill(data, "", domain, resolved.secrets)
        return resolved

    async def close(self) -> None:
        """Ends the connections to the API server, if there are any."""
        if self._api is not None:
            await self._api.close()

    async def _fill(self, value: Any, path: str, domain: str | None, secrets: list[str]) -> Any:
        if is_reference(value):
            return await self._value(value, path, domain, secrets)
        if isinstance(value, Mapping):
            inside = f"{path}." if path else ""
            return {
                key: await self._fill(item, f"{inside}{key}", domain, secrets) for key, item in value.items()
            }
        if isinstance(value, list):
            return [
                await self._fill(item, f"{path}[{number}]", domain, secrets)
                for number, item in enumerate(value)
            ]
        return value

    async def _value(
        self, reference: Mapping[str, Any], path: str, domain: str | None, secrets: list[str]
    ) -> str:
        kind, name, key = KINDS[reference["_type"]], reference.get("name"), reference.get("key")
        where = f"input field {path}"
        if not (isinstance(name, str) and _NAME.fullmatch(name)):
            raise Reject(f"{where}: a {reference['_type']} needs `name`, the name of a {kind}")
        if not (isinstance(key, str) and _KEY.fullmatch(key)):
            raise Reject(f"{where}: the {reference['_type']} {name} needs `key`, a key of that {kind}")
        namespace = domain or self._sources.namespace
        if namespace is None:
            raise Reject(f"{where}: {kind} {name}: this worker cannot tell in which namespace it is")
        found = await self._read(_Object(kind, namespace, name), key, where)
        try:
            text = found.decode()
        except UnicodeDecodeError:
            raise Reject(f"{where}: key {key} of {kind} {name} is not text (UTF-8)") from None
        if kind == "Secret" and text:
            secrets.append(text)
            self._remember(text)
        return text

    def _remember(self, text: str) -> None:
        if text not in self.known:
            self.known[text] = None
            if len(self.known) > 4 * _MOST_CACHED:
                del self.known[next(iter(self.known))]

    async def _read(self, wanted: _Object, key: str, where: str) -> bytes:
        # What is mounted belongs to the pod's namespace: it is not for the runs of another one.
        if wanted.namespace == self._sources.namespace:
            folder = self._sources.secrets_dir if wanted.kind == "Secret" else self._sources.configmaps_dir
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                try:
                    return await asyncio.to_thread((folder / wanted.name / key).read_bytes)
                except (PermissionError, IsADirectoryError) as error:
                    raise Reject(
                        f"{where}: key {key} of {wanted} is mounted and cannot be read: {error.strerror}"
                    ) from None
        async with self._locks.setdefault(wanted, asyncio.Lock()):
            at, data = self._cache.get(wanted, (0.0, {}))
            if key not in data or time.monotonic() - at > CACHE_SECONDS:
                data = await self._fetch(wanted, where)
                self._keep(wanted, data)
        if key not in data:
            raise Reject(f"{where}: {wanted} has no key {key}")
        return data[key]

    def _keep(self, wanted: _Object, data: Mapping[str, bytes]) -> None:
        self._cache[wanted] = (time.monotonic(), data)
        self._cache.move_to_end(wanted)
        while len(self._cache) > _MOST_CACHED:
            old, _ = self._cache.popitem(last=False)
            self._locks.pop(old, None)

    async def _fetch(self, wanted: _Object, where: str) -> Mapping[str, bytes]:
        from kubernetes.aio import client
        from kubernetes.aio.client.exceptions import ApiException

        core = client.CoreV1Api(await self._client(wanted, where))
        read = core.read_namespaced_secret if wanted.kind == "Secret" else core.read_namespaced_config_map
        try:
            async with asyncio.timeout(API_SECONDS + 5):
                found = await read(wanted.name, wanted.namespace, _request_timeout=API_SECONDS)
        except ApiException as error:
            raise _translated(error.status, wanted, where) from None
        except Exception as error:  # noqa: BLE001 - whatever it is, its text could quote an answer
            raise Retry(
                f"{where}: {wanted} cannot be read, the API server does not answer: {type(error).__name__}"
            ) from None
        return _bytes_of(wanted.kind, found)

    async def _client(self, wanted: _Object, where: str) -> Any:
        if self._api is None:
            from kubernetes.aio import client, config

            configuration = client.Configuration()
            sources = self._sources
            try:
                if sources.kubeconfig is not None:
                    await config.load_kube_config(
                        config_file=str(sources.kubeconfig),
                        context=sources.context,
                        client_configuration=configuration,
                    )
                else:
                    config.load_incluster_config(client_configuration=configuration)
            except (config.ConfigException, OSError) as error:
                if sources.kubeconfig is not None:
                    raise Retry(
                        f"{where}: {wanted}: the worker's kubeconfig cannot be used: {error}"
                    ) from None
                raise Reject(
                    f"{where}: {wanted} is not mounted here, and this worker has no access to the Kubernetes "
                    "API: mount it, or give its pod a service account that may read it"
                ) from None
            self._api = client.ApiClient(configuration)
        return self._api


def _translated(status: int | None, wanted: _Object, where: str) -> Exception:
    match status:
        case 404:
            return Reject(f"{where}: there is no {wanted}")
        case 403:
            return Reject(
                f"{where}: the worker may not read {wanted}: give its service account `get` on "
                f"{wanted.kind.lower()}s, for this name"
            )
        case _:
            return Retry(f"{where}: {wanted} cannot be read, the API server answered {status}")


def _bytes_of(kind: str, found: Any) -> Mapping[str, bytes]:
    encoded = (found.data if kind == "Secret" else found.binary_data) or {}
    plain = (found.data or {}) if kind == "ConfigMap" else {}
    data = {key: text.encode() for key, text in plain.items()}
    for key, text in encoded.items():
        with contextlib.suppress(binascii.Error):
            data[key] = base64.b64decode(text)
    return data


def _has_reference(data: object) -> bool:
    pending = [data]
    while pending:
        value = pending.pop()
        if is_reference(value):
            return True
        if isinstance(value, Mapping):
            pending.extend(value.values())
        elif isinstance(value, list):
            pending.extend(value)
    return False
