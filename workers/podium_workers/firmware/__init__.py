"""The tasks of firmware CI/CD: from a commit to an image that may go out, and its way to the device.

podium-worker --functions podium_workers.firmware
"""

from podium_workers.firmware import (
    building as building,
)
from podium_workers.firmware import (
    deployment as deployment,
)
from podium_workers.firmware import (
    importing as importing,
)
from podium_workers.firmware import (
    notices as notices,
)
from podium_workers.firmware import (
    rollback as rollback,
)
from podium_workers.firmware import (
    source as source,
)
from podium_workers.firmware import (
    verdict as verdict,
)
