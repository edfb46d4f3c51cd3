"""Headers that a gateway before Conductor wants, out of a folder: a mounted Secret, one file for each."""

from __future__ import annotations

import logging
import time
from pathlib import Path

log = logging.getLogger(__name__)

FRESH_SECONDS = 10.0


class Headers:
    """What is in the folder: read again every ten seconds, because Kubernetes renews what is mounted."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read_at = float("-inf")
        self._headers: dict[str, str] = {}

    def now(self) -> dict[str, str]:
        """Header → value; what was read last, while the folder cannot be read."""
        if time.monotonic() - self._read_at >= FRESH_SECONDS:
            self._read_at = time.monotonic()
            try:
                self._headers = {
                    path.name: path.read_text().strip()
                    for path in sorted(self._folder.iterdir())
                    # Kubernetes keeps its own files there: ..data, ..2026_…
                    if not path.name.startswith(".") and path.is_file()
                }
            except (OSError, UnicodeDecodeError) as error:
                log.warning("the headers for Conductor cannot be read: %s", error)
        return self._headers

    def forget(self) -> None:
        """They were refused: there may be others by now."""
        self._read_at = float("-inf")
