"""Imports attachments, with the ids that stored messages refer to."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from ..db import imported
from ..db.attachments import find_attachment
from ..db.store import Store
from ..errors import ApiError
from ..files.attachments import Attachments
from .report import Tally
from .source import Source, open_regular
from .values import read_text

#: AstrBot's folder of attachments. Source: ``40-file.jsonl``: the rows contain
#: ``…/attachments/NAME``.
_FOLDER = "attachments"


@dataclass
class AttachmentImport:
    """Imports attachments one by one, without a whole file in memory.

    :param max_bytes: Maximum size of a file. Larger ones are skipped.
    """

    source: Source
    store: Store
    attachments: Attachments
    max_bytes: int
    apply: bool
    tally: Tally

    def __post_init__(self) -> None:
        self._table = self.source.find_table("attachment_id", "path")
        self.tables = [self._table]
        folder = self.source.folder
        # Resolved once: the folder itself may be a link to another disk.
        self._roots = ((folder / _FOLDER).resolve(), folder.resolve())

    def run(self) -> None:
        """Import, or report what would be imported."""
        if self._table is None:
            self.tally.skip("there is no table with attachment_id and path")
            return
        for page in self.source.read_rows(self._table, ("attachment_id", "path")):
            for row in page:
                self._import_row(row)

    def _import_row(self, row: tuple[Any, ...]) -> None:
        attachment_id, path = read_text(row[1]).strip(), read_text(row[2])
        if not 0 < len(attachment_id) <= 36:
            self.tally.skip("its id is empty or longer than 36 characters", attachment_id)
            return
        with self.store.read() as db:
            item = imported.find_item(db, "attachment", attachment_id)
            here = find_attachment(db, attachment_id) is not None
        if here:
            self.tally.count_present()
        elif item is not None:
            self.tally.skip("it was imported before and has since been deleted here", attachment_id)
        else:
            self._read(attachment_id, path)

    def _read(self, attachment_id: str, path: str) -> None:
        place = self._find_place(path)
        if place is None:
            self.tally.skip("its path is outside the directory", f"{attachment_id} {path}")
            return
        try:
            with open_regular(place) as file:
                size = file.seek(0, 2)
                file.seek(0)
                if size > self.max_bytes:
                    reason = "its file is larger than ASTRBOT_MAX_FILE_BYTES"
                    self.tally.skip(reason, f"{attachment_id} {size} bytes")
                    return
                if self.apply:
                    self.attachments.receive(file, place.name, None, attachment_id)
        except OSError:
            self.tally.skip("its file is missing or cannot be read", f"{attachment_id} {path}")
        except ApiError as error:
            self.tally.skip(error.message, attachment_id)
        else:
            if self.apply:
                # Written last: after a crash in between, the next import finds the attachment.
                self.store.write(
                    lambda db: imported.note_item(db, "attachment", attachment_id, None, 0)
                )
            self.tally.count_imported()

    def _find_place(self, path: str) -> Path | None:
        """Return the location of a stored path's file, or None if it is outside the directory.

        The path is from the machine that wrote it. Only the part after the last
        ``attachments`` is used.
        """
        parts = [part for part in re.split(r"[/\\]", path) if part not in ("", ".")]
        if not parts or ".." in parts:
            return None
        if _FOLDER in parts[:-1]:
            at = len(parts) - 2 - parts[-2::-1].index(_FOLDER)
            place = self._roots[0].joinpath(*parts[at + 1 :])
        elif PurePosixPath(path).is_absolute():
            place = Path(path)
        else:
            place = self._roots[1].joinpath(*parts)
        parent = place.parent.resolve()
        inside = any(parent.is_relative_to(root) for root in self._roots)
        return parent / place.name if inside else None
