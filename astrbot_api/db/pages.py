"""Pages of rows with long texts: none reads more of them than a worker may hold.

A statement's rows come one by one from SQLite, so a reader stops where it has enough. From
PostgreSQL they come all at once; there the lengths are asked first, which reads no text.
"""

from __future__ import annotations

from functools import reduce
from operator import add
from typing import Any, cast

import peewee

from .models import is_postgres
from .prepared import Prepared


class _Length(peewee.ColumnBase):
    def __init__(self, text: peewee.Field[Any]) -> None:
        self._text = text

    def __sql__(self, ctx: Any) -> Any:
        # SQLite knows OCTET_LENGTH only since 3.43, and counts the bytes of a BLOB as fast.
        if ctx.state.param == "?":
            return ctx.sql(peewee.fn.LENGTH(self._text.cast("BLOB")))
        return ctx.sql(peewee.fn.OCTET_LENGTH(self._text))


def length_of(*texts: peewee.Field[Any]) -> Any:
    """Return the bytes of texts of a row, all together; neither database reads them for it."""
    return reduce(add, (peewee.fn.COALESCE(cast(Any, _Length(one)), 0) for one in texts))


def count_fitting(
    db: peewee.Database, lengths: Prepared, max_bytes: int, *, limit: int, **values: Any
) -> int:
    """Return how many rows of a page may be read at once.

    :param lengths: Gives the length of each row of the page, in its order; run with ``limit``.
    :returns: Up to the row with which they have more than ``max_bytes``; ``limit`` where they
        all fit, and on SQLite.
    """
    if not is_postgres(db):
        return limit
    size = 0
    for count, (length,) in enumerate(lengths.execute(db, limit=limit, **values), 1):
        size += length
        if size > max_bytes:
            return count
    return limit
