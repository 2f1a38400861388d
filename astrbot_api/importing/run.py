"""Runs the whole import: configs, keys and attachments, then the sessions that use them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..config.settings import Settings
from ..db.audit import AuditEntry
from ..db.store import Store
from ..files.attachments import Attachments
from . import KINDS
from .attachments import AttachmentImport
from .configs import ConfigImport
from .history import HistoryImport
from .keys import KeyImport
from .report import Tally
from .source import Source, open_source

#: Maximum number of tables in the report that were not imported.
_MAX_TABLES = 100


@dataclass(frozen=True, slots=True)
class Report:
    """Result of an import or a dry run. ``untaken`` are other tables with their row counts."""

    applied: bool
    tallies: list[Tally]
    untaken: dict[str, int]

    def iter_lines(self) -> Iterator[str]:
        """Yield the report as text."""
        for tally in self.tallies:
            yield from tally.iter_lines(self.applied)
        if self.untaken:
            rows = ", ".join(f"{name} ({count})" for name, count in self.untaken.items())
            yield f"not imported: tables without an equivalent here, with their rows: {rows}"

    def describe(self) -> dict[str, Any]:
        """Return the report as JSON data."""
        return {
            "applied": self.applied,
            **{tally.kind: tally.describe() for tally in self.tallies},
            "untaken_tables": self.untaken,
        }


def import_astrbot(
    folder: Path,
    settings: Settings,
    store: Store,
    *,
    apply: bool,
    kinds: Collection[str],
    given_salt: bytes | None,
    known_key: str,
    report: Callable[[str], None],
) -> Report:
    """Import an AstrBot's data directory, or report what would be imported.

    A repeated import resumes an interrupted one. Data that was already imported is not changed.

    :param kinds: A subset of :data:`~astrbot_api.importing.KINDS`.
    :param report: Receives progress lines.
    :raises ImportFault: if the directory cannot be imported.
    """
    with open_source(folder) as source:
        tallies = {name: Tally(name, report) for name in (*KINDS, "messages")}
        parts: dict[str, Any] = {
            "configs": ConfigImport(
                source, settings.data_dir / "configs", apply=apply, tally=tallies["configs"]
            ),
            "keys": KeyImport(
                source, store, apply=apply, tally=tallies["keys"],
                given_salt=given_salt, known_key=known_key,
            ),
            "attachments": AttachmentImport(
                source, store, Attachments(settings, store),
                max_bytes=settings.max_file_bytes, apply=apply, tally=tallies["attachments"],
            ),
            "sessions": HistoryImport(
                source, settings, store, apply=apply,
                sessions=tallies["sessions"], messages=tallies["messages"],
            ),
        }  # fmt: skip
        for kind in KINDS:
            if kind in kinds:
                report(f"{kind} …")
                parts[kind].run()
        wanted = [name for name in KINDS if name in kinds]
        wanted += ["messages"] if "sessions" in kinds else []
        if apply:
            _note_in_audit(store, [tallies[name] for name in wanted])
        known = {table.name for part in parts.values() for table in part.tables if table}
        return Report(apply, [tallies[name] for name in wanted], _count_others(source, known))


def _note_in_audit(store: Store, tallies: list[Tally]) -> None:
    taken = ", ".join(f"{tally.kind} {tally.imported}" for tally in tallies if tally.imported)
    if taken:
        AuditEntry("data_imported", "cli", subject="AstrBot", detail=taken).write(store)


def _count_others(source: Source, known: set[str]) -> dict[str, int]:
    others = [table for table in source.tables if table.name not in known][:_MAX_TABLES]
    counts = {table.name: source.count_rows(table) for table in others}
    return {name: count for name, count in counts.items() if count}
