"""What a device answers over HTTP → a value. The workers read the same pages, by the same paths."""

import json
import re
from typing import Any

from podium.api.v1alpha1.device_model import HealthFields
from podium.ports import DeviceAnswer, NoAnswer

_STEP = re.compile(r"\.([A-Za-z_][\w-]*)|\[(\d+)\]")
_LONGEST_TEXT = 64
# As Device.status.firmware.reported has it: what is longer would be refused with all else in the status.
_LONGEST_WORD = 32
_LARGEST_SIZE = 2**63 - 1
_HEX = frozenset("0123456789abcdef")


def parse_answer(body: bytes, fields: HealthFields) -> DeviceAnswer | NoAnswer:
    """The health page of a device, JSON. A build is all that must be in it."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        start = body[:40].decode("ascii", errors="replace")
        return NoAnswer("Unreadable", f'its health page is no JSON; it begins with "{start}"')

    def text(path: str, most: int = _LONGEST_TEXT) -> str | None:
        value = find_value(document, path)
        # Surrogates cannot be written to Kubernetes.
        return value.encode("utf-8", "replace").decode()[:most] if isinstance(value, str) else None

    def whole(path: str) -> int | None:
        return _whole(find_value(document, path))

    build = text(fields.build)
    if not build:
        return NoAnswer("Unreadable", f"its health page names no build at {fields.build}")
    mac = text(fields.mac)
    checks = find_value(document, fields.checks)
    return DeviceAnswer(
        build=build,
        mac=_normal_mac(mac) if mac else None,
        chip=text(fields.chip) or None,
        free_heap=whole(fields.free_heap),
        partition=text(fields.partition, _LONGEST_WORD),
        ota_state=text(fields.ota_state, _LONGEST_WORD),
        failed_checks=_failed(checks) if isinstance(checks, list) else (),
    )


def find_value(document: object, path: str) -> object:
    """What is at `.mem.heap[0].free`. None if there is nothing."""
    for key, number in _STEP.findall(path):
        if key and isinstance(document, dict):
            document = document.get(key)
        elif number and isinstance(document, list) and int(number) < len(document):
            document = document[int(number)]
        else:
            return None
    return document


def _whole(value: object) -> int | None:
    """A size. Some firmware writes 180000.0; what no board can have is as if it were not said."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if isinstance(value, float) and not value.is_integer():
        return None
    return int(value) if 0 <= value <= _LARGEST_SIZE else None


def _normal_mac(mac: str) -> str:
    """AABBCC000421, AA-BB-CC-00-04-21, aabb.cc00.0421 → aa:bb:cc:00:04:21. What is no mac stays."""
    digits = "".join(letter for letter in mac.lower() if letter not in ":-. ")
    if len(digits) == 12 and _HEX.issuperset(digits):
        return ":".join(digits[at : at + 2] for at in range(0, 12, 2))
    return mac.lower().replace("-", ":")


def _failed(checks: list[Any]) -> tuple[str, ...]:
    return tuple(
        str(check.get("name")).encode("utf-8", "replace").decode()[:_LONGEST_TEXT]
        for check in checks[:64]
        if isinstance(check, dict) and check.get("ok") is False
    )
