"""200 scale-downs at random moments on real pods, with tasks of 0.1 to 60 seconds: none may be lost."""

import os

import pytest

from support.bed import Bed
from support.machine import machine
from support.scale_downs import shrink_at_random

pytestmark = [pytest.mark.bench, pytest.mark.timeout(3600)]

SCALE_DOWNS = int(os.environ.get("PODIUM_BENCH_SCALE_DOWNS", "200"))


async def test_drain(bed_on_node: Bed, worker_image: str) -> None:
    """Several pools at once; the figures as JSON, and one line."""
    figures = await shrink_at_random(bed_on_node, worker_image, wanted=SCALE_DOWNS, longest=60, within=3000)
    print(machine())
    print(
        f"drain: {figures['scale-downs']} scale-downs, {figures['tasks']} tasks, 0 lost, in "
        f"{figures['seconds']} s"
    )
