"""What can be known before an image is sent. Pure."""

from __future__ import annotations

from podium_workers.services.esp_image import Image, ImageError, parse_image
from podium_workers.services.ota.verdicts import Failed


def check_image(
    data: bytes, *, chip: str | None = None, slot_size: int | None = None, secure_version: int | None = None
) -> Image | Failed:
    """The image, or why a device would not take it. None: not known of the device, so not checked.

    A device says nothing when an image is too large for it: it just never connects.
    """
    try:
        image = parse_image(data)
    except ImageError as error:
        return Failed("NotAnImage", f"what was to be sent is no image: {error}")
    if not image.intact:
        part = "hash" if image.checksum_ok else "checksum"
        return Failed("ImageBroken", f"the image's {part} is wrong: build it again, or fetch it again")
    if chip is not None and image.chip != chip:
        return Failed(
            "WrongChip",
            f"the image is for {image.chip}, the device is {chip}: choose the environment of its board",
        )
    if slot_size is not None and image.size > slot_size:
        return Failed(
            "ImageTooLarge",
            f"the image has {image.size} bytes, the device's slot {slot_size}: make it smaller, or "
            "partition the "
            "device anew over USB",
        )
    if secure_version is not None and image.app is not None and image.app.secure_version < secure_version:
        return Failed(
            "OlderSecureVersion",
            f"the image has secure version {image.app.secure_version}, the device takes none below "
            f"{secure_version}: that cannot be undone; build with a higher one",
        )
    return image
