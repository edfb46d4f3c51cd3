"""Own writes come back through the watch. One that does not tells that the watch is deaf."""

from collections.abc import Callable

from podium.ports import Key

# Far more than a busy API server takes to tell of a change.
_LATE = 15.0


class Echoes:
    """What was written and not heard of yet."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._now = monotonic
        self._heard: dict[Key, int] = {}
        self._awaited: dict[Key, tuple[int, float]] = {}

    def wrote(self, key: Key, resource_version: str) -> None:
        """An object was written; a write that changed nothing has a version that was heard already."""
        version = int(resource_version or 0)
        if version > self._heard.get(key, 0):
            _, since = self._awaited.get(key, (0, self._now()))
            self._awaited[key] = (version, since)

    def heard(self, key: Key, resource_version: str) -> None:
        """The watch told of it."""
        version = int(resource_version or 0)
        self._heard[key] = max(version, self._heard.get(key, 0))
        if version >= self._awaited.get(key, (0, 0.0))[0]:
            self._awaited.pop(key, None)

    def gone(self, key: Key) -> None:
        """The watch told of its end, or it is known to be gone."""
        self._heard.pop(key, None)
        self._awaited.pop(key, None)

    def is_late(self) -> bool:
        """Whether the watch should have told of something long ago."""
        return any(self._now() - since > _LATE for _, since in self._awaited.values())

    def forgive(self) -> None:
        """Everything was listed: what is awaited has been seen."""
        self._awaited.clear()
