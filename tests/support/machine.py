"""What figures were measured on."""

import os
import platform
from pathlib import Path


def machine() -> dict[str, object]:
    """For the head of a bench's answer."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return {
        "cpus": os.cpu_count(),
        "cpu": next(models, platform.processor()),
        "python": platform.python_version(),
        "system": platform.platform(),
    }
