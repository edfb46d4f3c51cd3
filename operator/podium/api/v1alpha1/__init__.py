"""podium.dev/v1alpha1: the kinds, and everything that is agreed about their names."""

from podium.api.v1alpha1.conductor_connection import CONDUCTOR_CONNECTION
from podium.api.v1alpha1.device import DEVICE
from podium.api.v1alpha1.device_model import DEVICE_MODEL
from podium.api.v1alpha1.meta import API_VERSION, FIELD_MANAGER, FINALIZER, GROUP, VERSION, Kind
from podium.api.v1alpha1.worker_pool import WORKER_POOL
from podium.api.v1alpha1.workflow import WORKFLOW
from podium.api.v1alpha1.workflow_run import WORKFLOW_RUN

KINDS: tuple[Kind, ...] = (
    WORKFLOW,
    WORKFLOW_RUN,
    WORKER_POOL,
    CONDUCTOR_CONNECTION,
    DEVICE_MODEL,
    DEVICE,
)

__all__ = [
    "API_VERSION",
    "CONDUCTOR_CONNECTION",
    "DEVICE",
    "DEVICE_MODEL",
    "FIELD_MANAGER",
    "FINALIZER",
    "GROUP",
    "KINDS",
    "VERSION",
    "WORKER_POOL",
    "WORKFLOW",
    "WORKFLOW_RUN",
    "Kind",
]
