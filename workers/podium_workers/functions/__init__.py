"""The built-in functions: small and real, enough to build workflows with and to learn from."""

from podium_workers.functions import (
    control as control,
)
from podium_workers.functions import (
    images as images,
)
from podium_workers.functions import (
    records as records,
)
from podium_workers.functions import (
    transforms as transforms,
)
from podium_workers.functions import (
    web as web,
)
from podium_workers.functions.shelf import builtin

__all__ = ["builtin"]
