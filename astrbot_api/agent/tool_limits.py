"""Limits on the total cost of a turn's tools, and detection of loops."""

from __future__ import annotations

import threading

import orjson

from ..config.agents import ToolSettings


class ToolBudget:
    """Usage of one turn's calls. Concurrent calls share it."""

    def __init__(self, limits: ToolSettings) -> None:
        self._limits = limits
        self._lock = threading.Lock()
        self._calls = 0
        self._seconds = 0.0
        self._chars = 0
        self._step = 0
        #: Steps in which a call gave a result, by call and result.
        self._results: dict[tuple[bytes, str], set[int]] = {}
        self._refused: set[bytes] = set()
        self._circling = False

    def begin_step(self) -> None:
        """Begin a new step: later calls belong to the model's next answer."""
        self._step += 1

    @property
    def spent(self) -> bool:
        """Whether to offer no more tools, so that the model answers in words."""
        return self._circling or bool(self._find_spent())

    def refuse(self, name: str, arguments: object) -> str:
        """Count a call before it is made.

        :returns: Reason for the model why it may not be made, or empty if it may.
        """
        call = _identify(name, arguments)
        with self._lock:
            if why := self._find_spent():
                return f"{why}; answer with what is known"
            most = max(
                (len(steps) for (other, _), steps in self._results.items() if other == call),
                default=0,
            )
            if most >= self._limits.max_repeats:
                # If the model repeats the call after this message, it is asked without tools.
                self._circling = self._circling or call in self._refused
                self._refused.add(call)
                return (
                    f"this call of {name} was made {most} times with the same arguments and "
                    "the same result; do something else, or answer with what is known"
                )
            self._calls += 1
            return ""

    def count(self, name: str, arguments: object, result: str, seconds: float) -> str:
        """Count a finished call; return its result, truncated to the remaining budget."""
        with self._lock:
            self._seconds += seconds
            room = max(0, self._limits.max_output_chars - self._chars)
            self._chars += len(result)
            key = _identify(name, arguments), result[:1000]
            self._results.setdefault(key, set()).add(self._step)
        if len(result) <= room:
            return result
        return f"{result[:room]}\n[cut: the tools of one turn may return no more]"

    def _find_spent(self) -> str:
        limits = self._limits
        if self._calls >= limits.max_calls:
            return f"no more than {limits.max_calls} calls of tools are carried out in one turn"
        if self._seconds >= limits.max_seconds:
            return f"the tools of this turn have taken {limits.max_seconds:g} s, the most they may"
        if self._chars >= limits.max_output_chars:
            return "the tools of this turn have returned as much as they may"
        return ""


def _identify(name: str, arguments: object) -> bytes:
    options = orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS
    return orjson.dumps([name, arguments], option=options)
