"""The tasks of the audio pipeline: from a WAV file to its spectrum, mel features and tempo.

podium-worker --functions podium_workers.audio
"""

import importlib.util

if missing := [name for name in ("numpy", "scipy", "soundfile") if importlib.util.find_spec(name) is None]:
    raise ModuleNotFoundError(
        f"podium_workers.audio needs {', '.join(missing)}, not installed here: install podium's extra 'audio'"
    )

from podium_workers.audio import (
    features as features,
)
from podium_workers.audio import (
    report as report,
)
from podium_workers.audio import (
    source as source,
)
