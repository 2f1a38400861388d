"""Removal of unused files: old attachments without a message, leftovers of crashes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..db import attachments as rows
from ..db.store import Store
from ..runtime.clock import now_us
from .attachments import Attachments

_DAY_US = 24 * 60 * 60 * 1_000_000
_PAGE = 500


@dataclass(frozen=True, slots=True)
class Swept:
    """A removed item, or one to remove.

    ``what`` is ``attachment``, ``bytes`` (a blob without an attachment) or
    ``temporary`` (files of aborted uploads, with their number in ``name``).
    """

    what: str
    name: str
    size_bytes: int | None = None


def sweep(
    attachments: Attachments, store: Store, *, older_than_days: int, delete: bool
) -> Iterator[Swept]:
    """Remove old and unused files, and yield each of them.

    It is safe while the server runs: the transaction that deletes an
    attachment checks again that no message uses it. Blobs younger than a day
    are kept, because an upload may need them.

    :param older_than_days: Minimum age of attachments, or 0 for all unused ones.
    :param delete: Whether to remove the files, or only to report them.
    """
    now = now_us()
    before = now - older_than_days * _DAY_US
    last = 0
    while True:
        with store.read() as db:
            page = rows.list_unused(db, before, _PAGE, after=last)
        for row in page:
            last = row.id
            if not delete or attachments.delete(row):
                yield Swept("attachment", f"{row.attachment_id} {row.name}", row.size_bytes)
        if len(page) < _PAGE:
            break
    yield from _sweep_leftovers(attachments, store, now - _DAY_US, delete)


def _sweep_leftovers(
    attachments: Attachments, store: Store, before_us: int, delete: bool
) -> Iterator[Swept]:
    with store.read() as db:
        strays = rows.list_strays(db, before_us)
    for blob in strays:
        if not delete or attachments.delete_blob(blob):
            yield Swept("bytes", blob)
    count = attachments.remove_stale_uploads(dry_run=not delete)
    if count:
        yield Swept("temporary", f"{count} files")
