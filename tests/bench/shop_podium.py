"""The same functions for `podium-worker --functions shop_podium`."""

from shop import TYPES, work

from podium_workers import task

task(*TYPES)(work)
