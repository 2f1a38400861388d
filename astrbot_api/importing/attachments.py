"""Attachments: the bytes, under the ids by which stored messages know them."""

from __future__ import annotations

import re
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

#: Where AstrBot keeps them. Source: ``40-file.jsonl``: the rows hold
#: ``…/attachments/NAME``.
_FOLDER = "attachments"


class AttachmentImport:
    """Takes attachments over, one after another, in pieces.

    :param max_bytes: Larger files are left out.
    """

    def __init__(
        self,
        source: Source,
        store: Store,
        attachments: Attachments,
        *,
        max_bytes: int,
        apply: bool,
        tally: Tally,
    ) -> None:
        self._source = source
        self._store = store
        self._attachments = attachments
        self._max_bytes = max_bytes
        self._apply = apply
        self._tally = tally
        self._table = source.find_table("attachment_id", "path")
        # Resolved once: the folder itself may be a link to a larger disk.
        self._roots = ((source.folder / _FOLDER).resolve(), source.folder.resolve())

    @property
    def tables(self) -> list[str]:
        """Names of the tables that are read."""
        return [self._table.name] if self._table else []

    def run(self) -> None:
        """Import, or report what would be imported."""
        if self._table is None:
            self._tally.skip("there is no table with attachment_id and path")
            return
        for page in self._source.read_rows(self._table, ("attachment_id", "path")):
            for row in page:
                self._take(row)

    def _take(self, row: tuple[Any, ...]) -> None:
        attachment_id, path = read_text(row[1]).strip(), read_text(row[2])
        if not 0 < len(attachment_id) <= 36:
            self._tally.skip("its id is empty or longer than 36 characters", attachment_id)
            return
        with self._store.read() as db:
            item = imported.find_item(db, "attachment", attachment_id)
            here = find_attachment(db, attachment_id) is not None
        if here:
            self._tally.find_present()
        elif item is not None:
            self._tally.skip(
                "it was imported before and has been deleted here since", attachment_id
            )
        else:
            self._read(attachment_id, path)

    def _read(self, attachment_id: str, path: str) -> None:
        place = self._find_place(path)
        if place is None:
            self._tally.skip("its path is not in the directory", f"{attachment_id} {path}")
            return
        try:
            with open_regular(place) as file:
                size = file.seek(0, 2)
                file.seek(0)
                if size > self._max_bytes:
                    reason = "its file is larger than ASTRBOT_MAX_FILE_BYTES"
                    self._tally.skip(reason, f"{attachment_id} {size} bytes")
                    return
                if self._apply:
                    self._attachments.receive(file, place.name, None, attachment_id)
        except OSError:
            self._tally.skip("its file is missing or cannot be read", f"{attachment_id} {path}")
        except ApiError as error:
            self._tally.skip(error.message, attachment_id)
        else:
            if self._apply:
                # Afterwards: a crash in between leaves an attachment that is found next time.
                self._store.write(
                    lambda db: imported.note_item(db, "attachment", attachment_id, None, 0)
                )
            self._tally.take()

    def _find_place(self, path: str) -> Path | None:
        """Return where the file of a stored path is; None unless it is in the directory.

        The path was true on the machine that wrote it: what counts is what
        stands behind the last ``attachments``.
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
