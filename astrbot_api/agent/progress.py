"""How far a tool's call is, as clients are shown it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

#: Shortest time between two reports of one call, in seconds, and longest text of one.
_PAUSE_S = 1.0
_MAX_CHARS = 500


@dataclass(frozen=True, slots=True)
class ToolProgress:
    """How far a call is. ``total``: what ``progress`` will be at the end; None: not known."""

    id: str
    progress: float
    total: float | None
    message: str


class ProgressReporter:
    """What a tool reports to: ``context.report_progress(done, total, message)``.

    :param call_id: The call that it is of.
    :param put: Takes what is to be shown. What comes too soon after another is left out, as is
        what comes after the call.
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
        """Report nothing from now on: the call has ended."""
        self._soonest = math.inf
