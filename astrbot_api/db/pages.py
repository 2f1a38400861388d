"""Pages of rows with long texts, bounded in size so that they fit in a worker's memory.

SQLite returns the rows of a statement one by one, so a reader can stop early. PostgreSQL
returns them all at once, so their lengths are queried first, which reads no text.
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
        # OCTET_LENGTH exists only since SQLite 3.43; counting the bytes of a BLOB is as fast.
        if ctx.state.param == "?":
            return ctx.sql(peewee.fn.LENGTH(self._text.cast("BLOB")))
        return ctx.sql(peewee.fn.OCTET_LENGTH(self._text))


def length_of(*texts: peewee.Field[Any]) -> Any:
    """Return the total bytes of a row's texts. PostgreSQL does not read the texts for it."""
    return reduce(add, (peewee.fn.COALESCE(cast(Any, _Length(one)), 0) for one in texts))


def count_fitting(
    db: peewee.Database, lengths: Prepared, max_bytes: int, *, limit: int, **values: Any
) -> int:
    """Return how many rows of a page may be read at once.

    :param lengths: Returns the length of each row of the page, in order; gets ``limit``.
    :returns: The number of rows until ``max_bytes`` is exceeded. ``limit`` if all
        rows fit, and on SQLite.
    """
    if not is_postgres(db):
        return limit
    size = 0
    for count, (length,) in enumerate(lengths.execute(db, limit=limit, **values), 1):
        size += length
        if size > max_bytes:
            return count
    return limit
