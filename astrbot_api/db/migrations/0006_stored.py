"""Count the stored data of each key, including existing rows."""

import peewee

from astrbot_api.db.models import is_postgres
from astrbot_api.db.models.keys import KeyStored

_ROW_BYTES, _TITLE_BYTES = 512, 1024


def up(migrator, db):
    peewee.SchemaManager(KeyStored, db).create_all(safe=False)
    for table in ("message", "note", "idempotency", "delivery"):
        db.execute_sql(f"ALTER TABLE {table} ADD COLUMN payer TEXT")
        db.execute_sql(f"ALTER TABLE {table} ADD COLUMN size_bytes BIGINT NOT NULL DEFAULT 0")
    size = "OCTET_LENGTH({})" if is_postgres(db) else "LENGTH(CAST({} AS BLOB))"
    # Notes have no key, and requests and deliveries expire: they are counted from now on.
    db.execute_sql(
        "UPDATE message SET"
        " payer = (SELECT key_id FROM chat_session WHERE chat_session.id = message.session),"
        f" size_bytes = {_ROW_BYTES} + {size.format('content')} + {size.format('sender_id')}"
    )
    names = (
        f"{_ROW_BYTES + _TITLE_BYTES} + 2 * {size.format('session_id')}"
        f" + 4 * {size.format('creator')}"
    )
    db.execute_sql(
        "INSERT INTO key_stored (key_id, messages, messages_bytes, sessions, sessions_bytes,"
        " deliveries, deliveries_bytes, requests, requests_bytes, notes, notes_bytes)"
        " SELECT key_id, SUM(messages), SUM(messages_bytes), SUM(sessions), SUM(sessions_bytes),"
        " 0, 0, 0, 0, 0, 0 FROM ("
        " SELECT payer AS key_id, COUNT(*) AS messages, SUM(size_bytes) AS messages_bytes,"
        " 0 AS sessions, 0 AS sessions_bytes FROM message WHERE payer IS NOT NULL GROUP BY payer"
        " UNION ALL"
        f" SELECT key_id, 0, 0, COUNT(*), SUM({names})"
        " FROM chat_session WHERE key_id IS NOT NULL GROUP BY key_id"
        ") AS counted GROUP BY key_id"
    )
