"""What a container's process is to be: command, environment and files, from the pod's manifest. Pure."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]
Named = tuple[str, str]
"""Kind and name of a Secret or a ConfigMap."""

_VARIABLE = re.compile(r"\$\$|\$\(([^()]*)\)")
_LABEL = re.compile(r"metadata\.(labels|annotations)\['(.+)'\]")


class ConfigError(Exception):
    """A container cannot be made; the message is that of a kubelet's CreateContainerConfigError."""


@dataclass(frozen=True)
class Place:
    """Where a pod runs."""

    node: str
    host_ip: str
    pod_ip: str


@dataclass(frozen=True)
class Command:
    """A process that is to be started: the program and its arguments, and its whole environment."""

    argv: tuple[str, ...]
    env: Mapping[str, str]


def first_container(pod: Json) -> Json:
    """The one that is run."""
    container: Json = pod["spec"]["containers"][0]
    return container


def find_references(pod: Json) -> frozenset[Named]:
    """The Secrets and ConfigMaps that the environment and the volumes of the first container name."""
    container = first_container(pod)
    found: set[Named] = set()
    for item in container.get("env") or []:
        for field, kind in (("secretKeyRef", "Secret"), ("configMapKeyRef", "ConfigMap")):
            if source := (item.get("valueFrom") or {}).get(field):
                found.add((kind, source["name"]))
    for item in container.get("envFrom") or []:
        for field, kind in (("secretRef", "Secret"), ("configMapRef", "ConfigMap")):
            if source := item.get(field):
                found.add((kind, source["name"]))
    for volume in _mounted(pod).values():
        if source := volume.get("secret"):
            found.add(("Secret", source["secretName"]))
        if source := volume.get("configMap"):
            found.add(("ConfigMap", source["name"]))
    return frozenset(found)


def wants_token(pod: Json) -> bool:
    """Whether the first container gets the token of its service account."""
    return any(
        "serviceAccountToken" in source
        for volume in _mounted(pod).values()
        for source in (volume.get("projected") or {}).get("sources") or []
    )


def find_volumes(pod: Json, values: Mapping[Named, Mapping[str, bytes]]) -> dict[str, dict[str, bytes]]:
    """Mount path → the files that are there at first, by their path. Raises ConfigError."""
    found: dict[str, dict[str, bytes]] = {}
    for path, volume in _mounted(pod).items():
        if "emptyDir" in volume:
            found[path] = {}
        for field, kind, name in (("secret", "Secret", "secretName"), ("configMap", "ConfigMap", "name")):
            if source := volume.get(field):
                data = _look_up(values, kind, source[name], source.get("optional", False))
                items = source.get("items")
                found[path] = (
                    dict(data)
                    if items is None
                    else {i["path"]: data[i["key"]] for i in items if i["key"] in data}
                )
    return found


def build_command(
    pod: Json,
    place: Place,
    values: Mapping[Named, Mapping[str, bytes]],
    folders: Mapping[str, str],
    entrypoint: Sequence[str],
) -> Command:
    """The first container's. `folders`: mount path → the folder that stands in for it. Raises ConfigError."""
    container = first_container(pod)
    env = _build_environment(pod, container, place, values)
    mend = _mender(place.pod_ip, folders)
    argv = [*(container.get("command") or entrypoint), *(container.get("args") or [])]
    return Command(
        tuple(mend(expand(part, env)) for part in argv),
        {name: mend(value) for name, value in env.items()},
    )


def expand(text: str, env: Mapping[str, str]) -> str:
    """`$(NAME)` is replaced, `$$` is a dollar, and a name that is not known is left as it stands."""

    def replace(match: re.Match[str]) -> str:
        name = match.group(1)
        return "$" if name is None else env.get(name, match.group(0))

    return _VARIABLE.sub(replace, text)


def read_data(kind: str, body: Json) -> dict[str, bytes]:
    """The values of a Secret or a ConfigMap."""
    if kind == "Secret":
        return {key: base64.b64decode(value) for key, value in (body.get("data") or {}).items()}
    plain = {key: str(value).encode() for key, value in (body.get("data") or {}).items()}
    return plain | {key: base64.b64decode(value) for key, value in (body.get("binaryData") or {}).items()}


def _build_environment(
    pod: Json, container: Json, place: Place, values: Mapping[Named, Mapping[str, bytes]]
) -> dict[str, str]:
    env: dict[str, str] = {}
    for item in container.get("envFrom") or []:
        for field, kind in (("secretRef", "Secret"), ("configMapRef", "ConfigMap")):
            if source := item.get(field):
                data = _look_up(values, kind, source["name"], source.get("optional", False))
                env |= {item.get("prefix", "") + key: value.decode() for key, value in data.items()}
    for item in container.get("env") or []:
        if source := item.get("valueFrom"):
            value = _resolve(item["name"], source, pod, place, values)
            if value is not None:
                env[item["name"]] = value
        else:
            env[item["name"]] = expand(item.get("value") or "", env)
    return env


def _resolve(
    name: str, source: Json, pod: Json, place: Place, values: Mapping[Named, Mapping[str, bytes]]
) -> str | None:
    if field := source.get("fieldRef"):
        return _read_field(pod, field["fieldPath"], place)
    for field, kind in (("secretKeyRef", "Secret"), ("configMapKeyRef", "ConfigMap")):
        if chosen := source.get(field):
            data = _look_up(values, kind, chosen["name"], chosen.get("optional", False))
            if chosen["key"] in data:
                return data[chosen["key"]].decode()
            if chosen.get("optional", False):
                return None
            where = f"{pod['metadata']['namespace']}/{chosen['name']}"
            raise ConfigError(f"couldn't find key {chosen['key']} in {kind} {where}")
    raise ConfigError(
        f"env {name}: the stand-in node does not know {', '.join(source)}; run it on a real node"
    )


def _read_field(pod: Json, path: str, place: Place) -> str:
    metadata = pod["metadata"]
    known = {
        "metadata.name": metadata["name"],
        "metadata.namespace": metadata["namespace"],
        "metadata.uid": metadata["uid"],
        "spec.nodeName": place.node,
        "spec.serviceAccountName": pod["spec"].get("serviceAccountName", "default"),
        "status.hostIP": place.host_ip,
        "status.hostIPs": place.host_ip,
        "status.podIP": place.pod_ip,
        "status.podIPs": place.pod_ip,
    }
    if label := _LABEL.fullmatch(path):
        return str((metadata.get(label.group(1)) or {}).get(label.group(2), ""))
    if path not in known:
        raise ConfigError(f"the stand-in node does not know the field {path}; run it on a real node")
    return str(known[path])


def _look_up(
    values: Mapping[Named, Mapping[str, bytes]], kind: str, name: str, optional: bool
) -> Mapping[str, bytes]:
    data = values.get((kind, name))
    if data is None and not optional:
        raise ConfigError(f'{kind.lower()} "{name}" not found')
    return data or {}


def _mounted(pod: Json) -> dict[str, Json]:
    """Mount path of the first container → volume."""
    volumes = {volume["name"]: volume for volume in pod["spec"].get("volumes") or []}
    return {
        mount["mountPath"].rstrip("/"): volumes[mount["name"]]
        for mount in first_container(pod).get("volumeMounts") or []
        if mount["name"] in volumes
    }


def _mender(pod_ip: str, folders: Mapping[str, str]) -> Callable[[str], str]:
    """Puts the pod's address for all addresses, and folders for mount paths: alone, or after a `=`."""
    paths = _alternatives(sorted(folders, key=len, reverse=True))
    mounted = re.compile(rf"(^|=)({paths})(?=/|$)") if folders else None
    everywhere = re.compile(r"(?<![\d.])0\.0\.0\.0(?![\d.])")

    def mend(text: str) -> str:
        text = everywhere.sub(pod_ip, text)
        return mounted.sub(lambda match: match[1] + folders[match[2]], text) if mounted else text

    return mend


def _alternatives(words: Iterable[str]) -> str:
    return "|".join(map(re.escape, words))
