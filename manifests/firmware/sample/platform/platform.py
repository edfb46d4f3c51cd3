"""The platform as PlatformIO wants it: nothing is to be installed."""

from platformio.public import PlatformBase


class Podiumc3Platform(PlatformBase):
    """ESP32-C3, with a compiler from PyPI."""

    def is_embedded(self):
        return True
