"""The kind WorkerPool: workers of some task types, as many as their queues need."""

from typing import Annotated, Any, Literal

from pydantic import Field, WithJsonSchema

from podium.api.v1alpha1.meta import (
    Atomic,
    Column,
    Conditions,
    Duration,
    Kind,
    ListMap,
    Model,
    Name,
    Opaque,
    OpenModel,
    Rule,
    Scale,
    Timestamp,
)

POOL_LABEL = "podium.dev/pool"
"""On everything that belongs to a pool: Deployment, pods, PodDisruptionBudget, ServiceAccount."""
MOST_DECISIONS = 10
MOST_REPLICAS = 10_000

TaskType = Annotated[str, Field(min_length=1, max_length=253)]
OpaqueItem = Annotated[
    dict[str, Any],
    WithJsonSchema(
        {
            "type": "object",
            "x-kubernetes-preserve-unknown-fields": True,
            "description": "As in a pod.",
        }
    ),
]


class PodMetadata(Model):
    """Labels and annotations of the pods."""

    labels: dict[str, str] = Field(
        default_factory=dict, max_length=64, description="Labels, besides Podium's own."
    )
    annotations: dict[str, str] = Field(
        default_factory=dict, max_length=64, description="Annotations, besides Podium's own."
    )


class EnvVar(OpenModel):
    """A variable of the environment, as in a pod."""

    name: str = Field(min_length=1, max_length=253, description="Its name.")
    value: str | None = Field(default=None, description="Its value.")
    value_from: Opaque | None = Field(
        default=None, description="Where the value comes from: secretKeyRef, configMapKeyRef, fieldRef."
    )


class Container(OpenModel):
    """A container, as in a pod; other fields of a container are taken over as they are."""

    name: str = Field(
        default="worker", min_length=1, max_length=63, description="`worker` is the one that takes the tasks."
    )
    image: str = Field(min_length=1, max_length=1024, description="Its image.")
    command: Annotated[list[str], Atomic()] = Field(
        default_factory=list, max_length=256, description="What is run instead of the image's entrypoint."
    )
    args: Annotated[list[str], Atomic()] = Field(
        default_factory=list, max_length=256, description="Arguments of it."
    )
    env: Annotated[list[EnvVar], ListMap(("name",))] = Field(
        default_factory=list,
        max_length=256,
        description="Variables. One that Podium would set too (CONDUCTOR_SERVER_URL, WORKER_…) wins.",
    )
    resources: Opaque | None = Field(default=None, description="Requests and limits, as in a pod.")


class PodSpec(OpenModel):
    """What of a pod matters most to a worker; other fields of a pod are taken over as they are."""

    service_account_name: Name | None = Field(
        default=None,
        description="Default: one of the pool's own, which may do nothing and has no token in the pod.",
    )
    containers: Annotated[list[Container], ListMap(("name",))] = Field(
        min_length=1, max_length=16, description="The worker, and what runs beside it."
    )
    volumes: Annotated[list[OpaqueItem], Atomic()] = Field(
        default_factory=list, max_length=64, description="Volumes, as in a pod."
    )
    image_pull_secrets: Annotated[list[OpaqueItem], Atomic()] = Field(
        default_factory=list, max_length=16, description="Secrets with which images are pulled, as in a pod."
    )
    node_selector: dict[str, str] = Field(
        default_factory=dict, max_length=64, description="Labels that a node must have."
    )
    tolerations: Annotated[list[OpaqueItem], Atomic()] = Field(
        default_factory=list, max_length=64, description="Taints that do not matter, as in a pod."
    )
    affinity: Opaque | None = Field(default=None, description="Affinities, as in a pod.")
    security_context: Opaque | None = Field(
        default=None,
        description="Default: what the restricted Pod Security Standard asks for.",
    )


class PodTemplate(Model):
    """The shape of a pod template, a curated part of it. The API server checks the rest."""

    metadata: PodMetadata = Field(default_factory=PodMetadata, description="Of the pods.")
    spec: PodSpec = Field(description="Of the pods.")


class ScaleDown(Model):
    """How calmly the pool shrinks."""

    stabilization_window: Duration = Field(
        default="60s", description="It shrinks to what was needed at most within this time."
    )


class Fallback(Model):
    """What happens when the need is unknown for long. Until then nothing changes."""

    after: Duration = Field(default="10m", description="Unknown for so long.")
    replicas: int = Field(
        ge=0, le=MOST_REPLICAS, description="The pool grows to so many; it never shrinks on no news."
    )


class Scaling(Model):
    """Replicas from the depth of the queues. The names are KEDA's where they mean the same."""

    rules = (
        Rule(
            "self.minReplicas <= self.maxReplicas",
            "minReplicas is more than maxReplicas: raise maxReplicas or lower minReplicas",
            field_path=".minReplicas",
        ),
        Rule(
            "!has(self.idleReplicas) || self.idleReplicas <= self.minReplicas",
            "idleReplicas is more than minReplicas: it is what is left when there is nothing to do",
            field_path=".idleReplicas",
        ),
        Rule(
            "!has(self.fallback) || self.fallback.replicas <= self.maxReplicas",
            "fallback.replicas is more than maxReplicas: raise maxReplicas or lower fallback.replicas",
            field_path=".fallback",
        ),
    )

    min_replicas: int = Field(
        default=0, ge=0, le=MOST_REPLICAS, description="So many at least, while there is something to do."
    )
    max_replicas: int = Field(default=10, ge=1, le=MOST_REPLICAS, description="So many at most.")
    idle_replicas: int | None = Field(
        default=None,
        ge=0,
        le=MOST_REPLICAS,
        description="So many when there has been nothing to do for the cooldownPeriod; default: minReplicas.",
    )
    polling_interval: Duration = Field(
        default="2s", description="How often the depth of the queues is read; 500ms at least."
    )
    target_utilization: int = Field(
        default=80, ge=1, le=100, description="Percent of the pods' slots that shall be at work."
    )
    scale_down: ScaleDown = Field(default_factory=ScaleDown, description="How calmly it shrinks.")
    cooldown_period: Duration = Field(
        default="5m", description="Nothing to do for so long, before it goes to idleReplicas."
    )
    fallback: Fallback | None = Field(
        default=None, description="When the need is unknown for long; default: it stays as it is."
    )
    dry_run: bool = Field(
        default=False, description="True: what it would do is only said, in the status and in Events."
    )


class WorkerPoolSpec(Model):
    """Which tasks, how many at once, in what pods, and how many of them."""

    rules = (
        Rule(
            "!has(self.scaling) || !has(self.replicas) || "
            "(has(oldSelf.replicas) && self.replicas == oldSelf.replicas)",
            "replicas cannot be set while scaling is: the queues decide. Remove scaling, or change "
            "scaling.minReplicas and scaling.maxReplicas",
            field_path=".replicas",
        ),
    )

    task_types: Annotated[list[TaskType], Atomic()] = Field(
        min_length=1,
        max_length=64,
        description="The task types that its workers serve. A type belongs to one pool of a namespace.",
    )
    concurrency: int = Field(default=5, ge=1, le=1000, description="Tasks at once in one pod.")
    template: PodTemplate = Field(description="The pods.")
    runtime: Literal["Podium", "Other"] = Field(
        default="Podium",
        description=(
            "Podium: the worker is podium-worker, which says how busy it is and drains by itself. Other: it "
            "is made with another SDK; then the depth of the queues decides alone, and no probes are set."
        ),
    )
    replicas: int | None = Field(
        default=None,
        ge=0,
        le=MOST_REPLICAS,
        description="Pods, where scaling is absent: what `kubectl scale` and an HPA set; default 1.",
    )
    scaling: Scaling | None = Field(default=None, description="Pods by the depth of the queues.")
    drain_timeout: Duration | None = Field(
        default=None,
        description=(
            "How long a pod that is told to stop may finish its tasks; default: the longest that a task of "
            "its types may take by the Workflows of this namespace, ten minutes at least."
        ),
    )
    connection: Name | None = Field(
        default=None, description="A ConductorConnection of this namespace; default: the operator's."
    )
    suspend: bool = Field(default=False, description="True: no pods; what runs is finished, tasks wait.")


class Decision(Model):
    """A change of the number of pods, and why."""

    at: Timestamp = Field(description="When.")
    from_: int = Field(alias="from", description="Pods before.")
    to: int = Field(description="Pods from then on.")
    reason: str = Field(max_length=64, description="The reason as one word.")
    message: str = Field(default="", max_length=256, description="What it was decided from.")


class WorkerPoolStatus(Model):
    """What Podium sees. At most 8 KiB."""

    observed_generation: int = Field(default=-1, description="The generation this status speaks of.")
    # The scale subresource holds an int32: the server refuses more, whatever the schema says.
    replicas: int | None = Field(default=None, ge=0, le=2**31 - 1, description="Pods that there are.")
    selector: str | None = Field(default=None, description="Finds them; for an HPA.")
    ready_replicas: int | None = Field(default=None, description="Pods that are ready.")
    desired_replicas: int | None = Field(default=None, description="Pods that there shall be.")
    draining: int | None = Field(default=None, description="Pods that finish their tasks and go.")
    busy: int | None = Field(default=None, description="Tasks that its pods work on; absent: not known.")
    queued: int | None = Field(default=None, description="Tasks that could be taken now; absent: not known.")
    delayed: int | None = Field(
        default=None, description="Tasks that wait for their time: a retry's delay, a paused run."
    )
    oldest_wait: str | None = Field(default=None, description="How long tasks have been waiting, about.")
    last_poll_age: str | None = Field(
        default=None, description="How long ago a worker asked for tasks, at the time of the last write."
    )
    decisions: Annotated[list[Decision], Atomic()] = Field(
        default_factory=list, max_length=MOST_DECISIONS, description="The last ten, the newest first."
    )
    conditions: Conditions = Field(
        default_factory=list, description="Ready, Active, Limited, TaskTypesKnown, Reconciling, Stalled."
    )


WORKER_POOL = Kind(
    kind="WorkerPool",
    plural="workerpools",
    singular="workerpool",
    short_names=("pwp",),
    description="Workers for some task types: a Deployment whose size follows the queues.",
    spec=WorkerPoolSpec,
    status=WorkerPoolStatus,
    columns=(
        Column("Ready", '.status.conditions[?(@.type=="Ready")].status', description="It is in order."),
        Column("Desired", ".status.desiredReplicas", "integer", "Pods that there shall be."),
        Column("Pods", ".status.replicas", "integer", "Pods that there are."),
        Column("Busy", ".status.busy", "integer", "Tasks that they work on."),
        Column("Queued", ".status.queued", "integer", "Tasks that could be taken now."),
        Column(
            "Reason", '.status.conditions[?(@.type=="Ready")].reason', description="Why it is (not) ready."
        ),
        Column("Oldest", ".status.oldestWait", description="How long tasks have been waiting.", priority=1),
        Column(
            "Message",
            '.status.conditions[?(@.type=="Ready")].message',
            description="The reason in words.",
            priority=1,
        ),
        Column("Age", ".metadata.creationTimestamp", "date"),
    ),
    scale=Scale(".spec.replicas", ".status.replicas", ".status.selector"),
)
