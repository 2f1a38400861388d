"""Rotation of a provider's API keys. A rejected key is paused."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

#: Pause of a rejected or exhausted key, and of a rate-limited key, in seconds.
_REFUSED_S = 600.0
_LIMITED_S = 30.0


class KeyRing:
    """Chooses the key of each request.

    :param keys: API keys. Blank keys are dropped; without keys, the key is empty.
    """

    def __init__(self, keys: Sequence[str]) -> None:
        #: All keys, to redact them in logs.
        self.keys = list(dict.fromkeys(key.strip() for key in keys if key.strip())) or [""]
        self._paused_until = dict.fromkeys(self.keys, 0.0)
        self._next = 0
        self._lock = threading.Lock()

    def choose(self) -> str:
        """Return the next available key, or the first to become available if all are paused."""
        now = time.monotonic()
        with self._lock:
            for step in range(len(self.keys)):
                at = (self._next + step) % len(self.keys)
                if self._paused_until[self.keys[at]] <= now:
                    self._next = at + 1
                    return self.keys[at]
            return min(self.keys, key=lambda key: self._paused_until[key])

    def pause(self, key: str, status: int, retry_after_s: float | None, spent: bool) -> bool:
        """Pause a key if the endpoint's error concerns the key.

        :returns: Whether another key is available now.
        """
        if not (spent or status in (401, 402, 403, 429)) or len(self.keys) < 2:
            return False
        pause_s = _REFUSED_S if status != 429 or spent else max(retry_after_s or 0.0, _LIMITED_S)
        now = time.monotonic()
        with self._lock:
            self._paused_until[key] = now + pause_s
            return any(until <= now for until in self._paused_until.values())
