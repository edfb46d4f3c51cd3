"""What a pool makes: its Deployment, and what belongs to it. Pure: a spec in, manifests out."""

import hashlib
import json
import math
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from podium.api.v1alpha1 import API_VERSION
from podium.api.v1alpha1.conductor_connection import ConductorConnectionSpec
from podium.api.v1alpha1.worker_pool import POOL_LABEL, Container, WorkerPoolSpec
from podium.core.durations import parse_duration
from podium.core.objects import WorkerPool
from podium.core.pools.pods import WORKER_CONTAINER, OwnedKind
from podium.ports import Json

METRICS_PORT = 9464
METRICS_PORT_NAME = "podium-metrics"
SHORTEST_DRAIN = timedelta(minutes=10)
# After the drain: for the last results, and for the kubelet.
_BESIDE_THE_DRAIN = timedelta(seconds=15)
_DATA = "/var/lib/podium"
_CA = "/var/run/podium/conductor-ca"
_HEADERS = "/var/run/podium/conductor-headers"
_API_VERSIONS: dict[OwnedKind, str] = {
    "Deployment": "apps/v1",
    "PodDisruptionBudget": "policy/v1",
    "ServiceAccount": "v1",
}


@dataclass(frozen=True)
class Surroundings:
    """What of the pool's world goes into its pods."""

    conductor_url: str
    """As the pods reach it."""
    domain: str
    """The task domain that they poll; "": none."""
    connection: ConductorConnectionSpec | None = None
    """For its credentials and certificates; None: the operator's own Conductor."""
    longest_task: timedelta = timedelta()
    """The longest that a task of the pool's types may take, by the Workflows that use them."""
    grace: timedelta = timedelta()
    """What the pods that there are have to end: without need they are not replaced by others."""


def build_owned(pool: WorkerPool, replicas: int, around: Surroundings) -> list[Json]:
    """Everything that the pool makes, in the order in which it is applied."""
    spec = _spec(pool)
    made = [_build_budget(pool), _build_deployment(pool, spec, replicas, around)]
    if spec.template.spec.service_account_name is None:
        made.insert(0, _build_account(pool))
    return made


def hash_manifest(manifest: Json) -> str:
    """Of what is applied."""
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()[:16]


def drain_time(spec: WorkerPoolSpec, around: Surroundings) -> timedelta:
    """How long a pod that is told to stop may finish its tasks, to the second.

    Without a drainTimeout it only grows while there are pods: another time is another pod template.
    """
    if spec.drain_timeout is not None:
        return timedelta(seconds=math.ceil(parse_duration(spec.drain_timeout).total_seconds()))
    needed = max(SHORTEST_DRAIN, around.longest_task)
    return max(needed, around.grace - _BESIDE_THE_DRAIN)


def _spec(pool: WorkerPool) -> WorkerPoolSpec:
    assert pool.spec is not None
    return pool.spec


def _build_object(pool: WorkerPool, kind: OwnedKind) -> Json:
    return {
        "apiVersion": _API_VERSIONS[kind],
        "kind": kind,
        "metadata": {
            "name": pool.key.name,
            "namespace": pool.key.namespace,
            "labels": {
                POOL_LABEL: pool.key.name,
                "app.kubernetes.io/managed-by": "podium",
                "app.kubernetes.io/component": "worker",
            },
            "ownerReferences": [
                {
                    "apiVersion": API_VERSION,
                    "kind": pool.key.kind,
                    "name": pool.key.name,
                    "uid": pool.uid,
                    "controller": True,
                    "blockOwnerDeletion": True,
                }
            ],
        },
    }


def _build_account(pool: WorkerPool) -> Json:
    return _build_object(pool, "ServiceAccount") | {"automountServiceAccountToken": False}


def _build_budget(pool: WorkerPool) -> Json:
    # A quarter, one at least: a drained node never waits for ever, and never takes all workers at once.
    return _build_object(pool, "PodDisruptionBudget") | {
        "spec": {"maxUnavailable": "25%", "selector": {"matchLabels": {POOL_LABEL: pool.key.name}}}
    }


def _build_deployment(pool: WorkerPool, spec: WorkerPoolSpec, replicas: int, around: Surroundings) -> Json:
    return _build_object(pool, "Deployment") | {
        "spec": {
            "replicas": replicas,
            "revisionHistoryLimit": 3,
            "selector": {"matchLabels": {POOL_LABEL: pool.key.name}},
            # New pods come first; the old ones drain meanwhile.
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": 0}},
            "template": {
                "metadata": _build_pod_metadata(pool, spec),
                "spec": _build_pod(pool, spec, around),
            },
        }
    }


def _build_pod_metadata(pool: WorkerPool, spec: WorkerPoolSpec) -> Json:
    metadata: Json = {
        "labels": {
            **spec.template.metadata.labels,
            POOL_LABEL: pool.key.name,
            "app.kubernetes.io/managed-by": "podium",
            "app.kubernetes.io/component": "worker",
        }
    }
    annotations = dict(spec.template.metadata.annotations)
    annotations.setdefault("kubectl.kubernetes.io/default-container", _worker(spec).name)
    return metadata | {"annotations": annotations}


def _worker(spec: WorkerPoolSpec) -> Container:
    containers = spec.template.spec.containers
    return next((item for item in containers if item.name == WORKER_CONTAINER), containers[0])


def _build_pod(pool: WorkerPool, spec: WorkerPoolSpec, around: Surroundings) -> Json:
    given = _dump(spec.template.spec)
    worker = _worker(spec)
    pod: Json = {
        "serviceAccountName": pool.key.name,
        # What the restricted Pod Security Standard asks of a pod.
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        # So that the worker is not the first process of a namespace: the kernel drops signals that such a one
        # has no handler for yet. Told to stop while it starts, it would take tasks until it is killed.
        **({} if given.get("hostPID") else {"shareProcessNamespace": True}),
        **given,
        "terminationGracePeriodSeconds": int((drain_time(spec, around) + _BESIDE_THE_DRAIN).total_seconds()),
    }
    pod["containers"] = [
        _build_worker(spec, _dump(item), around) if item is worker else _secured(_dump(item))
        for item in spec.template.spec.containers
    ]
    if inits := given.get("initContainers"):
        pod["initContainers"] = [_secured(item) for item in inits]
    volumes = list(given.get("volumes", ()))
    if spec.runtime == "Podium":
        volumes += [{"name": "podium-data", "emptyDir": {}}, {"name": "podium-tmp", "emptyDir": {}}]
    volumes += [{"name": name, "secret": secret} for name, _, secret in _mounted(around)]
    if volumes:
        pod["volumes"] = volumes
    return pod


def _build_worker(spec: WorkerPoolSpec, container: Json, around: Surroundings) -> Json:
    given = container.get("env", [])
    named = {item["name"] for item in given}
    container = _secured(container)
    # Variables that refer to others come after them.
    container["env"] = [
        *(item for item in _environment(spec, around) if item["name"] not in named),
        *given,
    ]
    container.setdefault("terminationMessagePolicy", "FallbackToLogsOnError")
    mounts = list(container.get("volumeMounts", ()))
    mounts += [{"name": name, "mountPath": path, "readOnly": True} for name, path, _ in _mounted(around)]
    if spec.runtime == "Podium":
        mounts += [
            {"name": "podium-data", "mountPath": _DATA},
            {"name": "podium-tmp", "mountPath": "/tmp"},  # noqa: S108 - a volume of the pod's own
        ]
        container["securityContext"].setdefault("readOnlyRootFilesystem", True)
        container["ports"] = [
            *container.get("ports", ()),
            {"name": METRICS_PORT_NAME, "containerPort": METRICS_PORT, "protocol": "TCP"},
        ]
        container.setdefault("readinessProbe", _probe("/readyz", period=2, failures=3))
        container.setdefault("livenessProbe", _probe("/healthz", period=10, failures=6))
    if mounts:
        container["volumeMounts"] = mounts
    return container


def _probe(path: str, *, period: int, failures: int) -> Json:
    return {
        "httpGet": {"path": path, "port": METRICS_PORT_NAME},
        "periodSeconds": period,
        "failureThreshold": failures,
        "timeoutSeconds": 5,
    }


def _secured(container: Json) -> Json:
    context = {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        **container.get("securityContext", {}),
    }
    return {**container, "securityContext": context}


def _environment(spec: WorkerPoolSpec, around: Surroundings) -> list[Json]:
    env: list[Json] = [
        # A name of our own: one that the template has as well would come after those that refer to it.
        {"name": "PODIUM_POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        {"name": "WORKER_ID", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "CONDUCTOR_SERVER_URL", "value": around.conductor_url},
        *_credentials(around),
    ]
    if spec.runtime == "Podium":
        env += [
            # Whose Secrets are mounted; a domain does not tell, and there is no account's token to tell it.
            {"name": "POD_NAMESPACE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}},
            {"name": "WORKER_TASKS", "value": ",".join(spec.task_types)},
            # "-" is podium-worker's word for no domain.
            {"name": "WORKER_NAMESPACES", "value": around.domain or "-"},
            {"name": "WORKER_CONCURRENCY", "value": str(spec.concurrency)},
            {"name": "WORKER_LISTEN", "value": f"$(PODIUM_POD_IP):{METRICS_PORT}"},
            {"name": "WORKER_DRAIN_TIMEOUT", "value": f"{int(drain_time(spec, around).total_seconds())}s"},
            {"name": "WORKER_DATA_DIR", "value": _DATA},
        ]
    else:
        # As conductor-python reads them; workers of other languages find the same facts here.
        env += [
            {"name": "CONDUCTOR_WORKER_ALL_DOMAIN", "value": around.domain},
            {"name": "CONDUCTOR_WORKER_ALL_THREAD_COUNT", "value": str(spec.concurrency)},
            # The definitions are the Workflows'; a worker that starts shall not write over them.
            {"name": "CONDUCTOR_WORKER_ALL_OVERWRITE_TASK_DEF", "value": "false"},
        ]
    return env


def _credentials(around: Surroundings) -> list[Json]:
    env: list[Json] = []
    connection = around.connection
    if connection is None:
        return env
    if connection.auth is not None and (key := connection.auth.secret) is not None:
        for name, part in (("CONDUCTOR_AUTH_KEY", key.key_id), ("CONDUCTOR_AUTH_SECRET", key.key_secret)):
            env.append({"name": name, "valueFrom": {"secretKeyRef": {"name": key.name, "key": part}}})
    if connection.auth is not None and connection.auth.headers_secret is not None:
        env.append({"name": "WORKER_HEADERS_DIR", "value": _HEADERS})
    if connection.ca_secret is not None:
        env.append({"name": "SSL_CERT_FILE", "value": f"{_CA}/ca.crt"})
    return env


def _mounted(around: Surroundings) -> list[tuple[str, str, Json]]:
    """(volume, where, Secret) of what a worker needs to come to its Conductor."""
    connection, mounted = around.connection, []
    if connection is not None and (ca := connection.ca_secret) is not None:
        items = [{"key": ca.key, "path": "ca.crt"}]
        mounted.append(("podium-ca", _CA, {"secretName": ca.name, "items": items}))
    if connection is not None and connection.auth is not None and (headers := connection.auth.headers_secret):
        mounted.append(("podium-headers", _HEADERS, {"secretName": headers.name}))
    return mounted


def _dump(model: Any) -> Json:
    """As it was written: what was left out stays out."""
    dumped: Json = model.model_dump(by_alias=True, exclude_unset=True, exclude_none=True)
    if isinstance(model, Container):
        dumped.setdefault("name", model.name)
    return dumped
