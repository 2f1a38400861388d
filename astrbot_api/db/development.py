"""Databases of the last development version before 0.1.0, commit 971b0fa."""

from __future__ import annotations

from typing import Any

import peewee

from .models import is_postgres, list_models

#: Its migrations, besides the first one.
MIGRATIONS = {
    "0002_attachments", "0003_notes", "0004_surviving_runs", "0005_messengers", "0006_owner",
    "0007_sessions", "0008_idempotency", "0008_import", "0008_journal", "0009_inbound_pending",
    "0010_delivery_trace",
}  # fmt: skip

# The events of runs were stored as whole SSE frames, ``data: {…}`` and ``id:``; now only the
# JSON is stored. Raw SQL: peewee cannot convert a column's type.
_CONVERT_EVENTS = (
    "ALTER TABLE run_event RENAME COLUMN frame TO event",
    "ALTER TABLE run_event ALTER COLUMN event TYPE BYTEA"
    " USING convert_to(split_part(substr(event, 7), chr(10), 1), 'UTF8')",
)

_ROW_BYTES, _TITLE_BYTES = 512, 1024


def take_over(db: peewee.Database) -> None:
    """Change the tables to the current ones, and count the data that each key has stored."""
    for statement in _CONVERT_EVENTS if is_postgres(db) else ():
        db.execute_sql(statement)
    db.execute_sql("DROP INDEX api_key_parent")  # it has more columns now
    _add_missing(db)
    size = "OCTET_LENGTH({})" if is_postgres(db) else "LENGTH(CAST({} AS BLOB))"
    db.execute_sql(
        "UPDATE chat_session SET key_id ="
        " (SELECT key_id FROM run WHERE run.session = chat_session.id ORDER BY run.id LIMIT 1)"
    )
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


def _add_missing(db: peewee.Database) -> None:
    """Create the tables, columns and indexes that the database does not have yet."""
    tables = set(db.get_tables())
    for model in list_models(db):
        schema: Any = peewee.SchemaManager(model, db)
        name = model._meta.table_name
        if name not in tables:
            schema.create_all(safe=False)
            continue
        known = {column.name for column in db.get_columns(name)}
        for field in model._meta.sorted_fields:
            if field.column_name not in known:
                context = db.get_sql_context().literal(f"ALTER TABLE {name} ADD COLUMN ")
                db.execute(context.sql(field.ddl(context)))
        schema.create_indexes(safe=True)
