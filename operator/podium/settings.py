"""Everything that can be set from outside, read from the environment once, at the start."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from podium.ports import Access, Credentials

_PREFIX = "PODIUM_"


class SettingsError(Exception):
    """A setting is missing or wrong; the message names the variable and the remedy."""


class Settings(BaseModel):
    """The operator's settings. Each is the variable PODIUM_<NAME>; times are seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    conductor_url: str
    """Conductor's API, with /api; also read from CONDUCTOR_SERVER_URL (conductor-python's variable)."""
    conductor_auth_key: str = Field(default="", repr=False)
    """Key id of an Orkes application: the operator's own connection logs in with it."""
    conductor_auth_secret: str = Field(default="", repr=False)
    """Its secret."""
    conductor_headers_file: Path | None = None
    """File with headers for the operator's own connection, `Name: value` a line; read again when refused."""
    conductor_ca_file: Path | None = None
    """File with the certificates (PEM) of the authorities that are trusted for it, and no others."""
    conductor_requests_per_second: int = Field(default=200, ge=1, le=10_000)
    """Requests a second at most through the operator's own connection; more wait."""
    default_connection_namespaces: tuple[str, ...] = ()
    """Namespaces whose Workflows may use the operator's own Conductor; empty: all."""
    worker_conductor_url: str = ""
    """Conductor's API as the pods of WorkerPools reach it; empty: as the operator does."""
    conductor_timeout: float = Field(default=60.0, gt=0)
    """Longest answer to a start or an action that is waited for; to anything else, 20 s at most.

    A start of 3,000 tasks takes 12 s; shorter makes unknown outcomes."""
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
    tracking_keys: tuple[str, ...] = ()
    """More labels and annotations that say that something else would create a deleted run again."""
    unknown_start_wait: float = Field(default=90.0, ge=0)
    """After a start whose outcome is unknown: look it up this long before starting again. Must be longer
    than conductor_timeout and than a start that was sent can still take inside Conductor."""
    deletion_timeout: float = Field(default=60.0, gt=0)
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

    @model_validator(mode="after")
    def _both_or_none(self) -> Self:
        if bool(self.conductor_auth_key) != bool(self.conductor_auth_secret):
            raise ValueError(
                "set both PODIUM_CONDUCTOR_AUTH_KEY and PODIUM_CONDUCTOR_AUTH_SECRET, or neither"
            )
        return self

    @property
    def url_for_workers(self) -> str:
        """The operator's own Conductor, as pods reach it."""
        return (self.worker_conductor_url or self.conductor_url).rstrip("/")

    def access(self) -> Access:
        """How the operator's own Conductor is reached. Raises SettingsError for a file that is no good."""
        return Access(
            url=self.conductor_url,
            ca=_read("CONDUCTOR_CA_FILE", self.conductor_ca_file) if self.conductor_ca_file else "",
            requests_per_second=self.conductor_requests_per_second,
            credentials=self.credentials(),
        )

    def credentials(self) -> Credentials:
        """As they are now: the file may have changed. Raises SettingsError."""
        headers = {}
        if self.conductor_headers_file:
            for line in _read("CONDUCTOR_HEADERS_FILE", self.conductor_headers_file).splitlines():
                name, colon, value = line.partition(":")
                if not line.strip() or line.startswith("#"):
                    continue
                if not colon or not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name):
                    raise SettingsError(
                        f"PODIUM_CONDUCTOR_HEADERS_FILE: {self.conductor_headers_file} has a line that is "
                        "not `Name: value`"
                    )
                headers[name] = value.strip()
        return Credentials(headers, self.conductor_auth_key, self.conductor_auth_secret)

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
                if name in ("namespaces", "allowed_names", "tracking_keys", "default_connection_namespaces")
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
                f"{_PREFIX}{str(item['loc'][0]).upper()}: {item['msg']}" if item["loc"] else item["msg"]
                for item in error.errors()
            )
            raise SettingsError(problems) from None


def _read(variable: str, path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{_PREFIX}{variable}: {path} cannot be read: {error}") from None
