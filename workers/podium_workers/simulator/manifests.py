"""The Kubernetes objects that stand for simulated devices."""

from __future__ import annotations

import re
from collections.abc import Iterable

import yaml

from podium_workers.simulator.spec import DeviceSpec

_API = "podium.dev/v1alpha1"
_Object = dict[str, object]


def build_manifests(
    specs: Iterable[DeviceSpec], *, ota_port: int, health_port: int, namespace: str | None = None
) -> list[_Object]:
    """Secrets, DeviceModels and Devices, in the order in which they are needed."""
    specs = list(specs)
    secrets: dict[str, str] = {}
    models: dict[str, _Object] = {}
    devices: list[_Object] = []
    for spec in specs:
        model = _model_name(spec)
        models[model] = _build_model(spec, model)
        device: _Object = {
            "model": model,
            "address": {"host": spec.address, "otaPort": ota_port, "healthPort": health_port},
            "mac": spec.mac,
        }
        if spec.auth != "none":
            name = secrets.setdefault(spec.password, f"sim-ota-{len(secrets) + 1}")
            device["credentialsSecret"] = {"name": name, "key": "password"}
        devices.append(_object("Device", spec.name, device, dict(spec.labels)))
    credentials: list[_Object] = [
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name},
            "stringData": {"password": password},
        }
        for password, name in secrets.items()
    ]
    made: list[_Object] = [*credentials, *models.values(), *devices]
    if namespace:
        for item in made:
            metadata = item["metadata"]
            assert isinstance(metadata, dict)
            metadata["namespace"] = namespace
    return made


def dump_manifests(manifests: Iterable[_Object]) -> str:
    """As `kubectl apply -f -` takes them."""
    return yaml.safe_dump_all(manifests, sort_keys=False, explicit_start=True)


def _build_model(spec: DeviceSpec, name: str) -> _Object:
    size = f"{spec.slot_size // 1024}Ki" if spec.slot_size % 1024 == 0 else str(spec.slot_size)
    return _object(
        "DeviceModel",
        name,
        {
            "chip": spec.chip,
            "board": spec.board,
            "slotSize": size,
            "protocol": "ArduinoOTA",
            "health": {"path": "/api/health"},
        },
        {},
    )


def _model_name(spec: DeviceSpec) -> str:
    board = re.sub(r"[^a-z0-9]+", "-", spec.board.lower()).strip("-")
    return f"sim-{board}-{spec.slot_size // 1024}k"


def _object(kind: str, name: str, spec: _Object, labels: dict[str, str]) -> _Object:
    metadata: _Object = {"name": name}
    if labels:
        metadata["labels"] = labels
    return {"apiVersion": _API, "kind": kind, "metadata": metadata, "spec": spec}
