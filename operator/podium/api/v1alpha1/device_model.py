"""The kind DeviceModel: what the devices of one kind have in common."""

from typing import Annotated, Literal

from pydantic import Field

from podium.api.v1alpha1.meta import Cel, Column, Conditions, Duration, Kind, Model, Name, Rule

QUANTITY_PATTERN = r"^[0-9]+(Ki|Mi|k|M)?$"
FIELD_PATH_PATTERN = r"^(\.[A-Za-z_][A-Za-z0-9_-]*|\[[0-9]+\])+$"

Quantity = Annotated[str, Field(pattern=QUANTITY_PATTERN, max_length=16, examples=["50Ki", "3264Ki"])]
"""A size in bytes: `912384`, `50Ki`, `4M`."""
FieldPath = Annotated[str, Field(pattern=FIELD_PATH_PATTERN, max_length=128, examples=[".heap_free"])]
"""Where in a JSON document a value is: `.mem.heap[0].free`."""


class CredentialsSecret(Model):
    """A key of a Secret of the same namespace: the password for updates over the air."""

    name: Name = Field(description="The Secret's name.")
    key: str = Field(
        default="password", min_length=1, max_length=253, description="Which of its keys has the password."
    )


class HealthFields(Model):
    """Where the values are in a device's answer."""

    build: FieldPath = Field(default=".build", description="What firmware runs: has the commit in it.")
    mac: FieldPath = Field(default=".mac", description="The device's hardware address.")
    chip: FieldPath = Field(default=".chip", description="The chip, as esptool calls it.")
    free_heap: FieldPath = Field(default=".heap_free", description="Free heap in bytes.")
    largest_block: FieldPath = Field(
        default=".heap_max_block", description="The largest free block of the heap in bytes."
    )
    uptime: FieldPath = Field(default=".uptime_s", description="Seconds since it started.")
    boot_count: FieldPath = Field(default=".boot_count", description="How often it started.")
    reset_reason: FieldPath = Field(default=".reset_reason", description="Why it started last.")
    partition: FieldPath = Field(default=".partition", description="The slot that it runs from.")
    ota_state: FieldPath = Field(default=".ota_state", description="What the bootloader thinks of it.")
    slot_size: FieldPath = Field(default=".slot_size", description="The size of a slot in bytes.")
    secure_version: FieldPath = Field(
        default=".secure_version", description="The lowest version that it still takes."
    )
    checks: FieldPath = Field(default=".checks", description="Its own checks: a list of {name, ok}.")


class Health(Model):
    """How a device is asked how it is."""

    # The server checks the default of the whole, which is {}, before it fills in those of the fields.
    rules = (
        Rule(
            "!has(self.timeout) || !has(self.interval) || duration(self.timeout) < duration(self.interval)",
            "timeout must be shorter than interval: a look ends before the next one begins",
        ),
        Rule(
            "!has(self.offlineAfter) || !has(self.interval) || "
            "duration(self.offlineAfter) >= duration(self.interval)",
            "offlineAfter must not be shorter than interval: one lost answer is no outage",
        ),
        Rule(
            "!has(self.interval) || duration(self.interval) >= duration('1s')", "interval must be 1s at least"
        ),
        Rule(
            "!has(self.timeout) || "
            "(duration(self.timeout) > duration('0s') && duration(self.timeout) <= duration('30s'))",
            "timeout must be longer than 0s, and 30s at most: others wait for their turn meanwhile",
        ),
    )

    path: str = Field(
        default="/api/health",
        max_length=1024,
        pattern=r"^/[^\s?#]*$",
        description="Where its health is: JSON over HTTP.",
    )
    interval: Duration = Field(default="30s", description="How often it is asked.")
    timeout: Duration = Field(default="3s", description="How long an answer may take: 30s at most.")
    offline_after: Duration = Field(
        default="90s", description="Without an answer for that long, it is offline."
    )
    min_free_heap: Quantity | None = Field(
        default=None, description="With less free heap than that it is not healthy."
    )
    fields: HealthFields = Field(
        default_factory=HealthFields, description="Where the values are in its answer."
    )


class DeviceModelSpec(Model):
    """What the devices of one kind have in common."""

    chip: Annotated[
        str,
        Cel((Rule("self == oldSelf", "chip cannot be changed: make another DeviceModel"),)),
    ] = Field(
        min_length=1,
        max_length=32,
        pattern=r"^[A-Za-z0-9-]+$",
        description="The chip, as esptool calls it: ESP32, ESP32-S3 or ESP32S3, ESP32-C3.",
    )
    board: str = Field(min_length=1, max_length=128, description="The board, as in platformio.ini.")
    environment: str | None = Field(
        default=None,
        min_length=1,
        max_length=128,
        description="The environment of platformio.ini that is built for it; default: the board.",
    )
    slot_size: Quantity = Field(description="How large an image may be: the size of its smallest OTA slot.")
    protocol: Literal["ArduinoOTA"] = Field(
        default="ArduinoOTA", description="How firmware is sent over the air."
    )
    health: Health = Field(default_factory=Health, description="How a device is asked how it is.")
    credentials_secret: CredentialsSecret | None = Field(
        default=None, description="The password for updates of devices that name none of their own."
    )


class DeviceModelStatus(Model):
    """What Podium sees of its devices."""

    observed_generation: int = Field(default=-1, description="The generation this status speaks of.")
    devices: int | None = Field(default=None, ge=0, description="Devices of this model.")
    conditions: Conditions = Field(default_factory=list, description="Ready, Reconciling, Stalled.")


DEVICE_MODEL = Kind(
    kind="DeviceModel",
    plural="devicemodels",
    singular="devicemodel",
    short_names=("pdm",),
    description="What the devices of one kind have in common: chip, slots, how they are asked how they are.",
    spec=DeviceModelSpec,
    status=DeviceModelStatus,
    columns=(
        Column("Ready", '.status.conditions[?(@.type=="Ready")].status', description="It is in order."),
        Column("Chip", ".spec.chip", description="The chip."),
        Column("Board", ".spec.board", description="The board."),
        Column("Slot", ".spec.slotSize", description="How large an image may be."),
        Column("Devices", ".status.devices", "integer", "Devices of this model."),
        Column(
            "Message",
            '.status.conditions[?(@.type=="Ready")].message',
            description="Why it is (not) ready.",
            priority=1,
        ),
        Column("Age", ".metadata.creationTimestamp", "date"),
    ),
)
