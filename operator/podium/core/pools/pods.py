"""What is seen of a pool's Deployment and pods: frozen projections of Kubernetes' own objects."""

from dataclasses import dataclass
from typing import Any, Literal

from podium.api.v1alpha1.worker_pool import POOL_LABEL
from podium.ports import Json

DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"
WORKER_CONTAINER = "worker"
OwnedKind = Literal["Deployment", "PodDisruptionBudget", "ServiceAccount"]

# Reasons of a waiting container that time alone rarely mends.
_BAD_IMAGE = frozenset({"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"})
_BAD_CONFIG = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError"})
Trouble = Literal["ImagePullFailed", "CrashLooping", "ContainerConfigError", "Unschedulable", ""]


@dataclass(frozen=True)
class PodSeen:
    """One pod of a pool."""

    namespace: str
    name: str
    uid: str
    pool: str
    resource_version: str
    ip: str = ""
    running: bool = False
    """Its worker runs: it may have tasks, and says how many."""
    ready: bool = False
    leaving: bool = False
    """It was told to stop, finishes what it has, and goes."""
    cost: int = 0
    """Pods with the lowest are removed first."""
    trouble: Trouble = ""
    message: str = ""
    """What is the matter, in the kubelet's words."""


@dataclass(frozen=True)
class OwnedSeen:
    """An object that a pool made: what has to be known to keep it as it shall be."""

    kind: OwnedKind
    namespace: str
    name: str
    uid: str
    owner: str
    """The uid of the object that controls it; "": none."""
    resource_version: str
    generation: int
    replicas: int = 0
    """Of a Deployment: how many it shall have."""
    pods: int = 0
    ready: int = 0
    grace: int = 0
    """Seconds that its pods have to end."""
    failure: str = ""
    """Why it can make no pods, in Kubernetes' words."""
    rolling: bool = False
    """It replaces its pods by new ones."""


def project_pod(body: Json) -> PodSeen:
    """A core/v1 Pod → what matters of it."""
    metadata, status = body["metadata"], body.get("status") or {}
    trouble, message = _trouble(body)
    return PodSeen(
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=metadata["uid"],
        pool=(metadata.get("labels") or {}).get(POOL_LABEL, ""),
        resource_version=metadata.get("resourceVersion", ""),
        ip=status.get("podIP") or "",
        running="running" in (_worker_status(status).get("state") or {}),
        ready=any(
            item.get("type") == "Ready" and item.get("status") == "True"
            for item in status.get("conditions") or ()
        ),
        leaving=bool(metadata.get("deletionTimestamp")),
        cost=_cost((metadata.get("annotations") or {}).get(DELETION_COST)),
        trouble=trouble,
        message=message,
    )


def is_over(body: Json) -> bool:
    """Whether a pod has ended and only its object is left."""
    return (body.get("status") or {}).get("phase") in ("Succeeded", "Failed")


def project_owned(body: Json) -> OwnedSeen:
    """A Deployment, PodDisruptionBudget or ServiceAccount → what matters of it."""
    metadata, spec, status = body["metadata"], body.get("spec") or {}, body.get("status") or {}
    owner: Json = next((item for item in metadata.get("ownerReferences") or () if item.get("controller")), {})
    replicas = int(spec.get("replicas") or 0) if body["kind"] == "Deployment" else 0
    failure = next(
        (
            str(item.get("message", ""))
            for item in status.get("conditions") or ()
            if item.get("type") == "ReplicaFailure" and item.get("status") == "True"
        ),
        "",
    )
    return OwnedSeen(
        kind=body["kind"],
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=metadata["uid"],
        owner=str(owner.get("uid", "")),
        resource_version=metadata.get("resourceVersion", ""),
        generation=int(metadata.get("generation") or 0),
        replicas=replicas,
        pods=int(status.get("replicas") or 0),
        ready=int(status.get("readyReplicas") or 0),
        grace=int((spec.get("template") or {}).get("spec", {}).get("terminationGracePeriodSeconds") or 0),
        failure=failure,
        rolling=int(status.get("updatedReplicas") or 0) < int(status.get("replicas") or 0),
    )


def _trouble(body: Json) -> tuple[Trouble, str]:
    status = body.get("status") or {}
    statuses = [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]
    for item in statuses:
        waiting = (item.get("state") or {}).get("waiting") or {}
        reason, said = waiting.get("reason", ""), str(waiting.get("message") or "")
        if reason in _BAD_IMAGE:
            return "ImagePullFailed", f"{item.get('image', 'its image')}: {said or reason}"
        if reason in _BAD_CONFIG:
            return "ContainerConfigError", said or reason
        if reason == "CrashLoopBackOff":
            return "CrashLooping", _last_words(item)
    for item in status.get("conditions") or ():
        if item.get("type") == "PodScheduled" and item.get("status") == "False":
            return "Unschedulable", str(item.get("message") or "")
    return "", ""


def _last_words(container: Json) -> str:
    ended: Json = (container.get("lastState") or {}).get("terminated") or {}
    code = ended.get("exitCode")
    said = [line.strip() for line in str(ended.get("message") or "").splitlines() if line.strip()]
    words = f"exit code {code}" if code is not None else "it ended"
    if ended.get("reason") == "OOMKilled":
        words = "killed: more memory than its limit"
    return f"{words}: {said[-1]}" if said else words


def _worker_status(status: Json) -> dict[str, Any]:
    containers: list[Json] = status.get("containerStatuses") or []
    return next((item for item in containers if item.get("name") == WORKER_CONTAINER), {}) or (
        containers[0] if containers else {}
    )


def _cost(text: object) -> int:
    try:
        return int(str(text)) if text is not None else 0
    except ValueError:
        return 0
