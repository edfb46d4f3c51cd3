"""The tasks of pattern testing: a light pattern is generated, built in, tried on a device and compared.

podium-worker --functions podium_workers.firmware,podium_workers.patterns
"""

import importlib.util

if importlib.util.find_spec("matplotlib") is None:
    raise ModuleNotFoundError(
        "podium_workers.patterns needs matplotlib, not installed here: install podium's extra 'patterns'"
    )

from podium_workers.patterns import (
    baseline as baseline,
)
from podium_workers.patterns import (
    generation as generation,
)
from podium_workers.patterns import (
    report as report,
)
from podium_workers.patterns import (
    validation as validation,
)
