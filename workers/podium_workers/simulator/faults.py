"""What can go wrong with a simulated device, by name: `drop:at=50,how=reset,times=1`."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

Value = float | str


class FaultError(ValueError):
    """There is no such fault, or it has no such parameter. The message names the nearest one."""


@dataclass(frozen=True)
class Kind:
    """A fault that can be had. `of`: it belongs to the device, or to whatever firmware is sent to it."""

    name: str
    of: Literal["device", "firmware"]
    words: str
    parameters: Mapping[str, Value] = field(default_factory=dict)
    """With their defaults; numbers are percent, seconds, bytes or bytes a second, as `words` says."""


KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("invitation-lost", "device", "the first `times` invitations are lost", {"times": 3.0}),
        Kind("answer-lost", "device", "the first `times` answers over UDP are lost", {"times": 1.0}),
        Kind("busy-loop", "device", "packets are handled after `seconds` only", {"seconds": 1.5}),
        Kind("password-changed", "device", "it has another password than everybody thinks"),
        Kind("odd-nonce", "device", "its challenge has `length` characters", {"length": 40.0}),
        Kind("odd-answer", "device", "it answers an invitation with something else"),
        Kind("no-connection", "device", "it accepts and never connects, as behind a firewall"),
        Kind("late-connection", "device", "it connects after `seconds`", {"seconds": 3.0}),
        Kind("connection-from-elsewhere", "device", "it connects from another address"),
        Kind(
            "drop",
            "device",
            "the connection ends after `at` % (`how`: close, reset or silence)",
            {"at": 50.0, "how": "close"},
        ),
        Kind("stall", "device", "it pauses for `seconds` after `at` %", {"at": 50.0, "seconds": 2.0}),
        Kind("slow", "device", "it takes `rate` bytes a second", {"rate": 4000.0}),
        Kind("bit-flip", "device", "a bit is wrong after `at` %", {"at": 50.0}),
        Kind("flash-error", "device", "its flash cannot be written after `at` %", {"at": 50.0}),
        Kind("power-loss", "device", "no power after `at` %, for `seconds`", {"at": 50.0, "seconds": 5.0}),
        Kind("ok-lost", "device", "it takes the image, and its OK is lost"),
        Kind("ok-cut", "device", "it takes the image, and half of its OK is lost"),
        Kind("no-restart", "device", "it says OK and does not restart"),
        Kind("stuck-old-version", "device", "it says OK, and starts its old firmware"),
        Kind(
            "power-loss-on-first-boot",
            "device",
            "the new firmware's first start is interrupted",
            {"times": 1.0},
        ),
        Kind("lost-after-update", "device", "it takes the image and never comes back"),
        Kind("accepts-unsigned", "device", "it does not check the signature that it should"),
        Kind("other-device", "device", "another device has its address"),
        Kind("offline", "device", "it has no power"),
        Kind(
            "flapping", "device", "it is there for `up` seconds and away for `down`", {"up": 2.0, "down": 2.0}
        ),
        Kind("health-error", "device", "its health API answers with `status`", {"status": 500.0}),
        Kind("health-garbage", "device", "its health API answers with something that is no JSON"),
        Kind("health-slow", "device", "its health API answers after `seconds`", {"seconds": 10.0}),
        Kind("health-absent", "device", "it has no health API"),
        Kind("uptime-wrap", "device", "its uptime has just begun again at 0, as after 49.7 days"),
        Kind("boot-loop", "firmware", "it crashes while it starts, again and again"),
        Kind("hang", "firmware", "it stops doing anything after `after` seconds", {"after": 5.0}),
        Kind("low-heap", "firmware", "it leaves `free` bytes of heap", {"free": 40_000.0}),
        Kind("heap-leak", "firmware", "it loses `rate` bytes of heap a second", {"rate": 2000.0}),
        Kind("fragmented-heap", "firmware", "its largest free block has `block` bytes", {"block": 8000.0}),
        Kind("slow-frames", "firmware", "it takes `factor` times as long for a frame", {"factor": 2.0}),
        Kind("wrong-build", "firmware", "it says that it is `build`", {"build": "0000000"}),
        Kind("dirty-build", "firmware", "it says that it was built of changed files"),
        Kind("failed-check", "firmware", "its own check `name` fails", {"name": "leds"}),
    )
}
COMMON: Mapping[str, Value] = {"times": 0.0, "percent": 100.0, "where": ""}
"""Parameters of each: how often (0: always), on what share of the devices, and where (`label/value`)."""


@dataclass(frozen=True)
class Fault:
    """One fault with all its parameters."""

    kind: Kind
    values: Mapping[str, Value]

    @property
    def name(self) -> str:
        """As in KINDS."""
        return self.kind.name

    def number(self, name: str) -> float:
        """A parameter that is a number."""
        value = self.values[name]
        assert isinstance(value, float)
        return value

    def text(self, name: str) -> str:
        """A parameter that is a word."""
        return str(self.values[name])

    def __str__(self) -> str:
        defaults = {**COMMON, **self.kind.parameters}
        given = [f"{key}={_show(value)}" for key, value in self.values.items() if value != defaults[key]]
        return f"{self.name}:{','.join(given)}" if given else self.name


def parse_fault(text: str) -> Fault:
    """`name` or `name:parameter=value,…`. Raises FaultError."""
    name, _, rest = text.strip().partition(":")
    kind = KINDS.get(name)
    if kind is None:
        near = difflib.get_close_matches(name, KINDS, n=1, cutoff=0.5)
        guess = f"; did you mean {near[0]!r}?" if near else "; `podium simulate faults` lists them"
        raise FaultError(f"there is no fault {name!r}{guess}")
    values: dict[str, Value] = {**COMMON, **kind.parameters}
    for piece in filter(None, rest.split(",")):
        key, equals, value = piece.partition("=")
        key = key.strip()
        if key not in values or not equals:
            raise FaultError(f"{name} has no parameter {key!r}; it has {', '.join(sorted(values))}")
        values[key] = _parse_value(name, key, value.strip(), values[key])
    if kind.name == "drop" and values["how"] not in ("close", "reset", "silence"):
        raise FaultError(f"drop: how={values['how']} is not one of close, reset, silence")
    return Fault(kind, values)


def _parse_value(name: str, key: str, text: str, default: Value) -> Value:
    if isinstance(default, str):
        return text
    try:
        number = float(text)
    except ValueError:
        raise FaultError(f"{name}: {key}={text} is not a number") from None
    if not 0 <= number < float("inf"):
        raise FaultError(f"{name}: {key}={text} is out of range")
    if key in ("at", "percent") and number > 100:
        raise FaultError(f"{name}: {key}={text} is more than 100 percent")
    return number


def _show(value: Value) -> str:
    return f"{value:g}" if isinstance(value, float) else value


class FaultSet:
    """The faults that a device has now.

    One that is limited by `times` goes when it has been used so often.
    """

    def __init__(self, faults: Iterable[Fault] = ()) -> None:
        self._faults: dict[str, tuple[Fault, int]] = {}
        for fault in faults:
            self.add(fault)

    def add(self, fault: Fault) -> None:
        """Takes the place of one of the same name."""
        self._faults[fault.name] = (fault, int(fault.number("times")))

    def remove(self, name: str) -> bool:
        """Whether there was one."""
        return self._faults.pop(name, None) is not None

    def has(self, name: str) -> bool:
        """Whether it is there, without using it."""
        return name in self._faults

    def find(self, name: str) -> Fault | None:
        """The fault, without using it."""
        entry = self._faults.get(name)
        return entry[0] if entry else None

    def use(self, name: str) -> Fault | None:
        """The fault, one use of it."""
        entry = self._faults.get(name)
        if entry is None:
            return None
        fault, left = entry
        if left == 1:
            del self._faults[name]
        elif left > 1:
            self._faults[name] = (fault, left - 1)
        return fault

    def __iter__(self) -> Iterator[Fault]:
        return (fault for fault, _ in self._faults.values())
