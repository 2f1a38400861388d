"""Readiness checks of the services that a server needs, with a time limit."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ..errors import AstrBotError

log = logging.getLogger(__name__)

#: Time limit of all checks together, in seconds.
BOUND_S = 2.0

#: Seconds for which a result is cached, so that clients cannot cause many database queries.
_FRESH_S = 1.0


@dataclass(slots=True)
class _Check:
    run: Callable[[], None]
    thread: threading.Thread | None = None
    result: dict[str, Any] = field(default_factory=dict)


class ReadinessChecks:
    """Runs the checks in parallel. A check that hangs is not started a second time.

    :param checks: Functions by name. Each one raises an exception on failure.
    """

    def __init__(self, checks: dict[str, Callable[[], None]]) -> None:
        self._checks = {name: _Check(run) for name, run in checks.items()}
        self._lock = threading.Lock()
        self._fresh_until = 0.0
        self._last: dict[str, dict[str, Any]] = {}

    def run(self) -> dict[str, dict[str, Any]]:
        """Return the result of each check by name: ``{"ok", "ms", "message"?}``."""
        with self._lock:
            if time.monotonic() >= self._fresh_until:
                self._last = self._run_all()
                self._fresh_until = time.monotonic() + _FRESH_S
            return self._last

    def _run_all(self) -> dict[str, dict[str, Any]]:
        for name, check in self._checks.items():
            if check.thread is None or not check.thread.is_alive():
                check.result = {}
                check.thread = threading.Thread(
                    target=self._run_one, args=(name, check), name=f"check-{name}", daemon=True
                )
                check.thread.start()
        deadline = time.monotonic() + BOUND_S
        for check in self._checks.values():
            if check.thread is not None:
                check.thread.join(max(0.0, deadline - time.monotonic()))
        late = {"ok": False, "ms": BOUND_S * 1000, "message": f"no answer within {BOUND_S:g} s"}
        return {name: dict(check.result or late) for name, check in self._checks.items()}

    def _run_one(self, name: str, check: _Check) -> None:
        began = time.perf_counter()
        message = ""
        try:
            check.run()
        except AstrBotError as error:
            message = error.operator_text or str(error)
        except Exception:
            # The text of an unexpected exception may contain internal details.
            log.exception("the check of %s failed", name)
            message = "it failed; the server's log has the details"
        took_ms = round((time.perf_counter() - began) * 1000, 1)
        result: dict[str, Any] = {"ok": not message, "ms": took_ms}
        check.result = result | ({"message": message} if message else {})
