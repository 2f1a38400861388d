"""Progress of a tool's call, shown to clients."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

#: Minimum seconds between two reports of one call, and maximum length of a report's text.
_PAUSE_S = 1.0
_MAX_CHARS = 500


@dataclass(frozen=True, slots=True)
class ToolProgress:
    """Progress of a call. ``total`` is the final value of ``progress``, or None if unknown."""

    id: str
    progress: float
    total: float | None
    message: str


class ProgressReporter:
    """Implements ``context.report_progress(progress, total, message)`` of a tool.

    :param put: Receives the events. Reports that follow too fast, or after the call, are dropped.
    """

    def __init__(self, call_id: str, put: Callable[[ToolProgress], None]) -> None:
        self._call_id = call_id
        self._put = put
        self._soonest = 0.0

    def __call__(self, progress: float, total: float | None = None, message: str = "") -> None:
        now = time.monotonic()
        if now < self._soonest or not math.isfinite(progress):
            return
        self._soonest = now + _PAUSE_S
        known = total if total is not None and math.isfinite(total) else None
        self._put(ToolProgress(self._call_id, progress, known, message[:_MAX_CHARS]))

    def close(self) -> None:
        """Ignore further reports, since the call has ended."""
        self._soonest = math.inf
