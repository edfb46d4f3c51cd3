"""The kind ConductorConnection: a Conductor server that Workflows of a namespace may use."""

from typing import Annotated, Literal

from pydantic import Field

from podium.api.v1alpha1.meta import Atomic, Column, Conditions, Kind, Model, Name, Rule


class KeySecret(Model):
    """An Orkes application key in a Secret of the same namespace."""

    name: Name = Field(description="The Secret's name.")
    key_id: str = Field(
        default="key", min_length=1, max_length=253, description="Which of its keys has the key id."
    )
    key_secret: str = Field(
        default="secret", min_length=1, max_length=253, description="Which of its keys has the key secret."
    )


class SecretName(Model):
    """A Secret of the same namespace, as a whole."""

    name: Name = Field(description="The Secret's name.")


class CaSecret(Model):
    """A certificate in a Secret of the same namespace."""

    name: Name = Field(description="The Secret's name.")
    key: str = Field(
        default="ca.crt", min_length=1, max_length=253, description="Which of its keys has the certificates."
    )


class Auth(Model):
    """How Podium says to Conductor who it is."""

    rules = (
        Rule(
            "has(self.secret) != has(self.headersSecret)",
            "give exactly one of secret (an Orkes key) and headersSecret (headers to send)",
        ),
    )

    secret: KeySecret | None = Field(
        default=None, description="An Orkes key id and secret: exchanged for a token, which is renewed."
    )
    headers_secret: SecretName | None = Field(
        default=None, description="Every key of this Secret is sent as a header with its value."
    )


class Budget(Model):
    """How much the operator may ask of the server."""

    requests_per_second: int = Field(
        default=50, ge=1, le=10000, description="Requests a second at most, over all Workflows and runs."
    )


class ConductorConnectionSpec(Model):
    """A Conductor server: where it is, how to log in, how much to ask of it."""

    url: str = Field(
        min_length=1,
        max_length=2048,
        pattern=r"^https?://[^\s/?#]+(/[^\s?#]*)?$",
        description="Its API, with /api: https://conductor.example/api.",
    )
    auth: Auth | None = Field(default=None, description="How to log in; default: without.")
    ca_secret: CaSecret | None = Field(
        default=None, description="Certificates of the authorities that are trusted, and no others."
    )
    isolation: Literal["Namespace", "Shared"] = Field(
        default="Namespace",
        description=(
            "Namespace: the tasks of runs go to the task domain of the namespace. "
            "Shared: to none, for workers that poll without one."
        ),
    )
    budget: Budget = Field(default_factory=Budget, description="How much the operator may ask of it.")


class ConductorConnectionStatus(Model):
    """What Podium found at the other end."""

    observed_generation: int = Field(default=-1, description="The generation this status speaks of.")
    version: str | None = Field(default=None, description="The server's version, if it tells.")
    store: str | None = Field(default=None, description="The database behind it, if it tells.")
    features: Annotated[list[str], Atomic()] = Field(
        default_factory=list, max_length=16, description="What this server can do that others cannot."
    )
    missing: Annotated[list[str], Atomic()] = Field(
        default_factory=list, max_length=16, description="What Podium would use and this server lacks."
    )
    conditions: Conditions = Field(default_factory=list, description="Ready, Reconciling, Stalled.")


CONDUCTOR_CONNECTION = Kind(
    kind="ConductorConnection",
    plural="conductorconnections",
    singular="conductorconnection",
    short_names=("pcc",),
    description="A Conductor server that Workflows of this namespace may use.",
    spec=ConductorConnectionSpec,
    status=ConductorConnectionStatus,
    columns=(
        Column("Ready", '.status.conditions[?(@.type=="Ready")].status', description="It answers."),
        Column("Version", ".status.version", description="The server's version."),
        Column("URL", ".spec.url", description="Where it is."),
        Column(
            "Reason", '.status.conditions[?(@.type=="Ready")].reason', description="Why it is (not) ready."
        ),
        Column(
            "Message",
            '.status.conditions[?(@.type=="Ready")].message',
            description="The reason in words.",
            priority=1,
        ),
        Column("Age", ".metadata.creationTimestamp", "date"),
    ),
)
