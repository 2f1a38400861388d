"""gunicorn's own log lines as JSON.

The master imports this module, and a reload does not. So it imports no other module of this
package, whose old code new workers would then use.
"""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Any

from gunicorn.glogging import Logger


class JsonLines(logging.Formatter):
    """Formats records as JSON lines: time, level, logger, message."""

    def format(self, record: logging.LogRecord) -> str:
        """Format a record. A traceback becomes the field ``exception``."""
        time = datetime.fromtimestamp(record.created, UTC)
        line = {
            "time": time.isoformat(timespec="milliseconds"), "level": record.levelname,
            "logger": record.name, "message": record.getMessage(),
        }  # fmt: skip
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)


class JsonLogger(Logger):  # type: ignore[misc]
    """gunicorn's logger with JSON lines."""

    def setup(self, cfg: Any) -> None:
        """Configure the handlers. Called again at each reload."""
        super().setup(cfg)
        for handler in self.error_log.handlers:
            handler.setFormatter(JsonLines())
