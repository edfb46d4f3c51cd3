"""What the tasks of firmware CI/CD are given, and the words for sizes and times."""

from __future__ import annotations

import re
from decimal import Decimal

from pydantic import BaseModel, ConfigDict, Field

from podium_workers.runtime.context import Reject
from podium_workers.runtime.settings import parse_duration
from podium_workers.services.git import Credentials

_QUANTITY = re.compile(r"([0-9]+(?:\.[0-9]+)?)(Ki|Mi|Gi|k|M|G)?")
_UNITS = {None: 1, "k": 10**3, "M": 10**6, "G": 10**9, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30}


class GitLogin(BaseModel):
    """The keys of a Secret for git, as Kubernetes and Flux name them."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True, hide_input_in_errors=True)

    username: str = ""
    password: str = ""
    token: str = ""
    """A password by another name."""
    ssh_private_key: str = Field("", alias="ssh-privatekey")
    known_hosts: str = ""

    def credentials(self) -> Credentials:
        """For git."""
        return Credentials(self.username, self.password or self.token, self.ssh_private_key, self.known_hosts)


class Blob(BaseModel):
    """A file in the artifact store."""

    sha256: str
    size: int = 0


class Build(BaseModel):
    """One environment's build: an item of what platformio_compile returns."""

    environment: str
    key: str = ""
    cached: bool = False
    seconds: float = 0.0
    files: dict[str, Blob]
    """`image` and `log`; `elf` if there was one."""


class Artifact(BaseModel):
    """A stored image: an item of what store_artifact returns."""

    environment: str
    sha256: str


class Used(BaseModel):
    """Bytes."""

    used: int
    total: int
    percent: float = 0.0


class Warning_(BaseModel):  # noqa: N801 - Python has a Warning of its own
    """A compiler's or linker's."""

    file: str = ""
    line: int = 0
    message: str
    flag: str = ""


class Metrics(BaseModel):
    """One environment's numbers: an item of what extract_build_metrics returns."""

    environment: str
    flash: Used | None = None
    ram: Used | None = None
    warningCount: int | None = None  # noqa: N815 - as in the task's output
    warnings: list[Warning_] = Field(default_factory=list)
    image: Blob


class GateLimits(BaseModel):
    """`spec.gates` of a FirmwareRelease."""

    model_config = ConfigDict(extra="forbid")

    flashPercentBelow: float | None = 70.0  # noqa: N815
    ramPercentBelow: float | None = 80.0  # noqa: N815
    maxWarnings: int | None = 0  # noqa: N815


def parse_bytes(field: str, quantity: str | float | None) -> int | None:
    """Bytes of `3264Ki`, `2Gi`, 1310720. Raises Reject, naming the field."""
    if quantity is None or quantity == "":
        return None
    found = _QUANTITY.fullmatch(str(quantity).strip().removesuffix(".0"))
    if found is None:
        raise Reject(f"{field}: {str(quantity)[:40]!r} is no size like 3264Ki, 2Gi or 1310720")
    return int(Decimal(found[1]) * _UNITS[found[2]])


def parse_seconds(field: str, duration: str, most: float) -> float:
    """Seconds of `20m`. Raises Reject, naming the field."""
    try:
        seconds = parse_duration(duration)
    except ValueError as error:
        raise Reject(f"{field}: {error}") from None
    if not 0 < seconds <= most:
        raise Reject(f"{field}: {duration} is not between 1s and {most / 3600:g}h")
    return seconds
