"""What the reconcilers need of the world, as protocols; and the family of errors.

Adapters implement these at the edge and translate every foreign error once, there. Nothing
here knows HTTP, kopf or the Kubernetes client.
"""

from podium.ports.cluster import Clock, Cluster, Json, Key, Recorder
from podium.ports.conductor import Access, Conductor, Credentials, Dial, DialedConductor, ServerFacts
from podium.ports.devices import Devices
from podium.ports.errors import (
    Conflict,
    Gone,
    LoginRefused,
    NotRegistered,
    NotSent,
    Outage,
    OutcomeUnknown,
    PortError,
    Refused,
    RetryLater,
)
from podium.ports.views import (
    DeviceAnswer,
    DevicePage,
    Moved,
    NoAnswer,
    Polled,
    RunSeen,
    RunState,
    StartRequest,
    TaskAnswer,
    TaskSeen,
    TaskState,
    WorkerLoad,
)
from podium.ports.workloads import Workers, Workloads

__all__ = [
    "Access",
    "Clock",
    "Cluster",
    "Conductor",
    "Conflict",
    "Credentials",
    "DeviceAnswer",
    "DevicePage",
    "Devices",
    "Dial",
    "DialedConductor",
    "Gone",
    "Json",
    "Key",
    "LoginRefused",
    "Moved",
    "NoAnswer",
    "NotRegistered",
    "NotSent",
    "Outage",
    "OutcomeUnknown",
    "Polled",
    "PortError",
    "Recorder",
    "Refused",
    "RetryLater",
    "RunSeen",
    "RunState",
    "ServerFacts",
    "StartRequest",
    "TaskAnswer",
    "TaskSeen",
    "TaskState",
    "WorkerLoad",
    "Workers",
    "Workloads",
]
