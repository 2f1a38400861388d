"""Looking for words in the messages of one session."""

from __future__ import annotations

import orjson
import peewee

from .messages import MessageRow, row_to_message
from .sessions import SessionRow

#: How many of a session's newest messages are looked at, how far into each,
#: and how many are returned: the search holds its worker while it lasts.
MAX_SCANNED = 5000
MAX_SCANNED_CHARS = 20_000
_MAX_RETURNED = 100

# A message that waits for its answer is not history yet: what asks for the
# search would find itself.
_SEARCH = """
SELECT id, sender_name, content, llm_checkpoint_id, created_at FROM (
    SELECT id, sender_name, content, llm_checkpoint_id, created_at FROM message
    WHERE session = ? AND id > ?
      AND id <= (SELECT MAX(id) FROM message WHERE session = ? AND sender_id = 'bot')
    ORDER BY id DESC LIMIT ?) AS newest
WHERE lower(substr(content, 1, ?)) LIKE lower(?) ESCAPE '\\'
ORDER BY id DESC LIMIT ?
"""


def search_messages(db: peewee.Database, session: SessionRow, words: str) -> list[MessageRow]:
    """Return messages whose JSON has these words, newest first.

    What was forgotten by ``/reset`` is not found. The words may stand in a
    part that is no text: look again at what is returned.
    """
    # As the words stand in JSON; ``%`` and ``_`` are meant as they are.
    text = orjson.dumps(words).decode()[1:-1]
    for sign in "\\%_":
        text = text.replace(sign, f"\\{sign}")
    number = session.id
    values = (
        number, session.context_after, number, MAX_SCANNED, MAX_SCANNED_CHARS, f"%{text}%",
        _MAX_RETURNED,
    )  # fmt: skip
    return [row_to_message(row) for row in db.execute_sql(_SEARCH, values).fetchall()]
