"""Counts imported and skipped data, with a reason for everything skipped."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

#: Maximum number of examples per reason.
_MAX_EXAMPLES = 3

#: Number of items between two progress lines.
_PROGRESS_EVERY = 2000


@dataclass(slots=True)
class _Reason:
    count: int = 0
    examples: list[str] = field(default_factory=list)


class Tally:
    """Counts of one kind of data: imported, already present, skipped.

    :param report: Receives occasional progress lines.
    """

    def __init__(self, kind: str, report: Callable[[str], None]) -> None:
        self.kind = kind
        self.imported = 0
        self.present = 0
        self._report = report
        self._reported = 0
        self._skipped: dict[str, _Reason] = {}
        self._notes: dict[str, _Reason] = {}

    def count_imported(self, count: int = 1) -> None:
        """Count items that were or would be imported."""
        self.imported += count
        self._progress()

    def count_present(self, count: int = 1) -> None:
        """Count items from an earlier import."""
        self.present += count
        self._progress()

    def skip(self, reason: str, example: str = "", count: int = 1) -> None:
        """Count skipped items."""
        _add(self._skipped, reason, example, count)

    def note(self, what: str, example: str = "") -> None:
        """Count an item that was imported with a change."""
        _add(self._notes, what, example, 1)

    @property
    def skipped(self) -> int:
        """Number of skipped items."""
        return sum(reason.count for reason in self._skipped.values())

    def iter_lines(self, applied: bool) -> Iterator[str]:
        """Yield the summary: one line, then one line per reason."""
        done = "imported" if applied else "to import"
        yield (
            f"{self.kind:12} {self.imported} {done}, {self.present} already here, "
            f"{self.skipped} skipped"
        )
        for word, reasons in (("skipped", self._skipped), ("note", self._notes)):
            for text, reason in reasons.items():
                named = ", ".join(reason.examples)
                examples = f" ({named}{', …' if reason.count > len(reason.examples) else ''})"
                yield f"    {word} {reason.count}: {text}{examples if named else ''}"

    def describe(self) -> dict[str, Any]:
        """Return the summary as JSON data."""
        return {
            "imported": self.imported,
            "present": self.present,
            "skipped": {text: reason.count for text, reason in self._skipped.items()},
            "notes": {text: reason.count for text, reason in self._notes.items()},
        }

    def _progress(self) -> None:
        seen = self.imported + self.present
        if seen - self._reported >= _PROGRESS_EVERY:
            self._reported = seen
            self._report(f"{self.kind}: {seen} …")


def _add(reasons: dict[str, _Reason], text: str, example: str, count: int) -> None:
    reason = reasons.setdefault(text, _Reason())
    reason.count += count
    if example and len(reason.examples) < _MAX_EXAMPLES:
        reason.examples.append(printable(example))


def printable(text: str) -> str:
    """Return a shortened copy of source text, without terminal control characters."""
    shown = "".join(char if char.isprintable() else "?" for char in text[:80])
    return shown + ("…" if len(text) > 80 else "")
