"""Everything that can be set from outside, read from the environment once, at the start."""

import os
import re
from collections.abc import Mapping
from typing import Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

_PREFIX = "PODIUM_"


class SettingsError(Exception):
    """A setting is missing or wrong; the message names the variable and the remedy."""


class Settings(BaseModel):
    """The operator's settings. Each is the variable PODIUM_<NAME>; times are seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    conductor_url: str
    """Conductor's API, with /api; also read from CONDUCTOR_SERVER_URL (conductor-python's variable)."""
    conductor_timeout: float = Field(default=60.0, gt=0)
    """Longest answer waited for. A start of 3,000 tasks takes 12 s; shorter makes unknown outcomes."""
    kubeconfig: str | None = None
    """Path of the kubeconfig; also read from KUBECONFIG."""
    context: str | None = None
    """Kubeconfig context; default: the kubeconfig's current one, or the pod's service account."""
    namespaces: tuple[str, ...] = ()
    """Namespaces served; empty: all."""
    listen: str = "127.0.0.1:8080"
    """host:port of health, metrics and Conductor's notices."""
    notice_token: str = ""
    """Shared secret that Conductor's notices must carry; empty: notices are refused."""
    isolation: Literal["Namespace", "Shared"] = "Namespace"
    """Namespace: a run's tasks go to the task domain of its namespace. Shared: to no domain."""
    allowed_names: tuple[str, ...] = ()
    """Conductor names outside the own namespace that Workflows may adopt or call."""
    unknown_start_wait: float = Field(default=90.0, ge=0)
    """After a start whose outcome is unknown: look it up this long before starting again. Must be longer
    than conductor_timeout and than a start that was sent can still take inside Conductor."""
    deletion_timeout: float = Field(default=120.0, gt=0)
    """A deleted object is let go after this long, whatever Conductor does."""
    sweep_interval: float = Field(default=3.0, gt=0)
    """How often Conductor is asked for runs that moved (the truth; notices are only quicker)."""
    resync_interval: float = Field(default=300.0, gt=0)
    """How often everything is listed and compared again."""
    drift_interval: float = Field(default=30.0, gt=0)
    """How often registered definitions are compared with Conductor's."""
    status_interval: float = Field(default=1.0, ge=0)
    """Changes of a run within this time share one status write; its end is never delayed."""
    reconcilers: int = Field(default=16, ge=1, le=256)
    """Objects that are worked on at once."""
    lease: str = ""
    """namespace/name of the Lease that makes one replica the leader; empty: no election."""
    lease_duration: float = Field(default=15.0, ge=1)
    """How long a silent leader keeps the Lease."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_format: Literal["text", "json"] = "text"

    @field_validator("conductor_url")
    @classmethod
    def _an_address(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise ValueError(f"{value!r} is not an http(s) address such as http://conductor:8080/api")
        return value.rstrip("/")

    @field_validator("listen")
    @classmethod
    def _host_and_port(cls, value: str) -> str:
        if not re.fullmatch(r".+:\d+", value):
            raise ValueError(f"{value!r} is not host:port")
        return value

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> "Settings":
        """Settings from PODIUM_* variables. Raises SettingsError naming what is wrong."""
        env = os.environ if environment is None else environment
        given: dict[str, object] = {}
        for name in cls.model_fields:
            text = env.get(_PREFIX + name.upper())
            if text is None or text == "":
                continue
            given[name] = (
                tuple(part.strip() for part in text.split(",") if part.strip())
                if name in ("namespaces", "allowed_names")
                else text
            )
        for name, usual in (("conductor_url", "CONDUCTOR_SERVER_URL"), ("kubeconfig", "KUBECONFIG")):
            if name not in given and env.get(usual):
                given[name] = env[usual]
        if "conductor_url" not in given:
            raise SettingsError(
                "no Conductor given: set PODIUM_CONDUCTOR_URL (or CONDUCTOR_SERVER_URL) to its API, "
                "for instance http://conductor:8080/api"
            )
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            problems = "; ".join(
                f"{_PREFIX}{str(item['loc'][0]).upper()}: {item['msg']}" for item in error.errors()
            )
            raise SettingsError(problems) from None
