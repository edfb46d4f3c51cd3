"""`python -m podium`: the operator itself."""

import json
import logging
import re
import sys
from datetime import UTC, datetime

from podium import app
from podium.settings import Settings, SettingsError

_AGAIN = re.compile(r"Request attempt #(?!1\b)")


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def _is_news(record: logging.LogRecord) -> bool:
    """kopf tells of every try; in an outage it tries every few seconds, on every watch."""
    return not _AGAIN.match(record.getMessage())


def main() -> int:
    """Read the settings, set up the log, run; the exit code."""
    try:
        settings = Settings.from_environment()
    except SettingsError as error:
        print(f"podium: {error}", file=sys.stderr)
        return 2
    handler = logging.StreamHandler()
    handler.setFormatter(
        _JsonFormatter()
        if settings.log_format == "json"
        else logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s")
    )
    handler.addFilter(_is_news)
    logging.basicConfig(level=settings.log_level, handlers=[handler])
    # kopf tells of each event it sees; what matters of them is told by ourselves.
    logging.getLogger("kopf").setLevel(max(logging.WARNING, logging.getLevelName(settings.log_level)))
    # It says at each start that it leaves the signals to us, as it should.
    logging.getLogger("kopf._core.reactor.running").setLevel(logging.ERROR)
    try:
        return app.run(settings)
    except SettingsError as error:
        print(f"podium: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
