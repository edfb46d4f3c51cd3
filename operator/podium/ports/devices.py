"""The devices out there."""

from typing import Protocol

from podium.ports.views import DevicePage, NoAnswer


class Devices(Protocol):
    """Devices, asked over the network."""

    async def ask(self, page: DevicePage) -> bytes | NoAnswer:
        """Ask once: the page, not yet read, or why there is none. Raises nothing for what a device does."""
        ...
