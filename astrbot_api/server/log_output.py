"""Writes a worker's log lines to standard error.

Access log lines are buffered and written together, which costs a few microseconds per request.
"""

from __future__ import annotations

import logging
import logging.config
import os
import sys
import threading
import time
from collections import deque
from typing import Any, TextIO

from ..http.state import EXTENSION, get_http_state
from ..runtime.logs import HideKeys, JsonFormatter, LineFormatter
from .stopping import find_app

log = logging.getLogger(__name__)

#: Maximum time that a line is buffered, in seconds.
_FLUSH_S = 0.2

#: Maximum number of buffered lines. Beyond it, the oldest are dropped to limit memory.
_MAX_WAITING = 100_000

#: For gunicorn's warnings about malformed requests, which contain their lines.
_HIDE_KEYS = HideKeys()


class LineBuffer:
    """Buffers lines and writes them together in the background."""

    def __init__(self, stream: TextIO, *, stamped: bool = True) -> None:
        self._stream = stream
        self._stamped = stamped
        self._waiting: deque[str] = deque(maxlen=_MAX_WAITING)
        self._second = -1
        self._stamp = ""
        threading.Thread(target=self._keep_flushing, name="access-log", daemon=True).start()

    def write(self, line: str) -> None:
        """Buffer a line. A timestamp is added, unless the lines contain one."""
        if not self._stamped:
            self._waiting.append(f"{line}\n")
            return
        now = int(time.time())
        if now != self._second:
            self._stamp = time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(now))
            self._second = now
        self._waiting.append(f"{self._stamp} {line}\n")

    def flush(self) -> None:
        taken = []
        while self._waiting:
            taken.append(self._waiting.popleft())
        if taken:
            self._stream.write("".join(taken))
            self._stream.flush()

    def _keep_flushing(self) -> None:
        while True:
            time.sleep(_FLUSH_S)
            try:
                self.flush()
            except OSError:
                pass  # such as a full disk: these lines are lost, later ones are not
            except ValueError:
                return  # standard error is closed


def set_up_logging(worker: Any) -> None:
    """Configure logging: this package's log and others' warnings go to standard error.

    Called before a worker loads its application, for what is logged meanwhile, and again after it,
    because the application's own configuration may set the format.
    """
    wanted = os.environ.get("ASTRBOT_LOG_LEVEL", "").strip().upper() or "INFO"
    level = wanted if wanted in logging.getLevelNamesMapping() else "INFO"
    line = "%(asctime)s [%(process)d] %(levelname)s %(name)s: %(message)s"
    app = find_app(worker)
    log_format = os.environ.get("ASTRBOT_LOG_FORMAT")
    if app is not None:
        log_format = app.extensions[EXTENSION].settings.log_format
    as_json = log_format == "json"
    formatter: dict[str, Any] = {"()": JsonFormatter}
    if not as_json:
        formatter = {"()": LineFormatter, "fmt": line}
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {"line": formatter},
            "handlers": {"lines": {"class": "logging.StreamHandler", "formatter": "line"}},
            "root": {"handlers": ["lines"], "level": "WARNING"},
            "loggers": {
                "astrbot_api": {"level": level},
                # Repeats each failed attempt. Our own lines have the cause.
                "psycopg.pool": {"level": "ERROR"},
            },
        }
    )
    logging.getLogger("gunicorn.error").addFilter(_HIDE_KEYS)
    if level != wanted and app is None:
        log.warning("ASTRBOT_LOG_LEVEL must be DEBUG, INFO, WARNING or ERROR; INFO is used")
    if app is not None:
        buffer = LineBuffer(sys.stderr, stamped=not as_json)
        get_http_state(app).log_request = buffer.write
