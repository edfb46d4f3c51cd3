"""What a device answers over HTTP → a value. The workers read the same pages, by the same paths."""

import json
import re
from typing import Any

from podium.api.v1alpha1.device_model import HealthFields
from podium.ports import DeviceAnswer, NoAnswer

_STEP = re.compile(r"\.([A-Za-z_][\w-]*)|\[(\d+)\]")
_LONGEST_TEXT = 64


def parse_answer(body: bytes, fields: HealthFields) -> DeviceAnswer | NoAnswer:
    """The health page of a device, JSON. A build is all that must be in it."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        start = body[:40].decode("ascii", errors="replace")
        return NoAnswer("Unreadable", f'its health page is no JSON; it begins with "{start}"')

    def text(path: str) -> str | None:
        value = find_value(document, path)
        # Surrogates cannot be written to Kubernetes.
        return value.encode("utf-8", "replace").decode()[:_LONGEST_TEXT] if isinstance(value, str) else None

    def whole(path: str) -> int | None:
        value = find_value(document, path)
        return value if isinstance(value, int) and not isinstance(value, bool) else None

    build = text(fields.build)
    if not build:
        return NoAnswer("Unreadable", f"its health page names no build at {fields.build}")
    mac = text(fields.mac)
    checks = find_value(document, fields.checks)
    return DeviceAnswer(
        build=build,
        mac=mac.lower().replace("-", ":") if mac else None,
        chip=text(fields.chip),
        free_heap=whole(fields.free_heap),
        partition=text(fields.partition),
        ota_state=text(fields.ota_state),
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


def _failed(checks: list[Any]) -> tuple[str, ...]:
    return tuple(
        str(check.get("name")).encode("utf-8", "replace").decode()[:_LONGEST_TEXT]
        for check in checks[:64]
        if isinstance(check, dict) and check.get("ok") is False
    )
