"""Whether an image may go out: limits on what was measured, and checks of the image itself. Pure.

A number that is missing fails its gate. Bytes are compared, not the rounded percentage that the log shows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from podium_workers.firmware.buildlog import BuildLog, Usage
from podium_workers.services.build_signature import names_commit
from podium_workers.services.esp_image import Image

SHOWN = 3


@dataclass(frozen=True)
class Limits:
    """FirmwareRelease's `spec.gates`. None: not looked at."""

    flash_percent_below: float | None = 70.0
    ram_percent_below: float | None = 80.0
    max_warnings: int | None = 0


@dataclass(frozen=True)
class Wanted:
    """What the image has to be. Empty or None: not looked at."""

    chip: str = ""
    commit: str = ""
    slot_bytes: int | None = None


@dataclass(frozen=True)
class Gate:
    """One verdict. `observed` is None where there was nothing to observe: then it has not passed."""

    name: str
    observed: float | str | None
    limit: float | str | None
    passed: bool
    message: str


def decide_gates(log: BuildLog, image: Image | str, limits: Limits, wanted: Wanted) -> tuple[Gate, ...]:
    """All gates of one image. `image` is a text where it is no image: why not."""
    gates = []
    if limits.flash_percent_below is not None:
        gates.append(_usage("flashPercentBelow", "flash", log.flash, limits.flash_percent_below))
    if limits.ram_percent_below is not None:
        gates.append(_usage("ramPercentBelow", "RAM", log.ram, limits.ram_percent_below))
    if limits.max_warnings is not None:
        gates.append(_warnings(log, limits.max_warnings))
    if isinstance(image, str):
        return (*gates, Gate("image", None, "valid", False, f"not an image: {image}"))
    gates.append(_sums(image))
    if wanted.chip:
        gates.append(_chip(image, wanted.chip))
    if wanted.commit:
        gates.append(_commit(image, wanted.commit))
    slot = wanted.slot_bytes if wanted.slot_bytes is not None else log.flash.total if log.flash else None
    gates.append(_fits(image, slot))
    return tuple(gates)


def failed(gates: Sequence[Gate]) -> str:
    """What has not passed, in one line; empty if all have."""
    return "; ".join(gate.message for gate in gates if not gate.passed)


def _usage(name: str, what: str, usage: Usage | None, limit: float) -> Gate:
    if usage is None:
        return Gate(
            name, None, limit, False,
            f"{what}: the build log has no line `{'RAM' if what == 'RAM' else 'Flash'}: … (used … bytes "
            "from … bytes)`: the board needs its sizes (upload.maximum_size, upload.maximum_ram_size), and "
            "the platform a size tool",
        )  # fmt: skip
    # In whole numbers as far as they go: 69.96 % is below 70, whatever is printed.
    passed = usage.used * 100 < limit * usage.total
    return Gate(
        name,
        round(usage.percent, 2),
        limit,
        passed,
        f"{what} {usage.percent:.2f} % ({usage.used:,} of {usage.total:,} bytes), "
        f"{'below' if passed else 'wanted below'} {limit:g} %",
    )


def _warnings(log: BuildLog, most: int) -> Gate:
    count = len(log.warnings)
    shown = "; ".join(map(str, log.warnings[:SHOWN]))
    more = f"; and {count - SHOWN} more" if count > SHOWN else ""
    words = f"{count} {'warning' if count == 1 else 'warnings'}"
    message = f"{words}, at most {most}" + (f": {shown}{more}" if count > most else "")
    return Gate("maxWarnings", count, most, count <= most, message)


def _sums(image: Image) -> Gate:
    if not image.checksum_ok:
        return Gate(
            "image", "damaged", "valid", False, "the image's checksum is wrong: no bootloader starts it"
        )
    if image.hash_ok is False:
        return Gate(
            "image", "damaged", "valid", False, "the image's SHA-256 is wrong: no bootloader starts it"
        )
    hashed = "" if image.hash_ok else " (it carries no SHA-256)"
    return Gate("image", "valid", "valid", True, f"the image's checksum is right{hashed}")


def _chip(image: Image, chip: str) -> Gate:
    wanted = chip.upper().replace("-", "")
    return Gate(
        "chip", image.chip, wanted, image.chip == wanted,
        f"the image is for {image.chip}" + ("" if image.chip == wanted else f", the devices have {wanted}"),
    )  # fmt: skip


def _commit(image: Image, commit: str) -> Gate:
    version = image.app.version if image.app else ""
    named = [*image.builds, version]
    passed = len(image.builds) <= 1 and any(names_commit(name, commit) for name in named)
    seen = ", ".join(filter(None, named))[:100]
    if passed:
        message = f"the image says that it is of commit {commit[:12]}"
    elif len(image.builds) > 1:
        message = f"the image has several build signatures: {seen}"
    else:
        message = (
            f"the image says {seen or 'nothing about its build'}, not commit {commit[:12]}: put "
            "PODIUM_COMMIT into it, as `BUILD_SIG:<commit>` or as the version of esp_app_desc"
        )
    return Gate("commit", seen or None, commit, passed, message)


def _fits(image: Image, slot: int | None) -> Gate:
    if slot is None:
        return Gate(
            "fitsSlot", image.size, None, False,
            "nobody says how large the slot is: give `slotSize`, or a board that has upload.maximum_size",
        )  # fmt: skip
    passed = image.size <= slot
    return Gate(
        "fitsSlot", image.size, slot, passed,
        f"the image has {image.size:,} bytes, the slot {slot:,}" + ("" if passed else ": it does not fit"),
    )  # fmt: skip
