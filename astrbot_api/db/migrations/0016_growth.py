"""Add the bytes that each key stored in the last two minutes."""


def up(migrator, db):
    # Migration 0006 creates the table with the current columns.
    there = {column.name for column in db.get_columns("key_stored")}
    for column in ("minute", "minute_bytes", "before_bytes"):
        if column not in there:
            db.execute_sql(f"ALTER TABLE key_stored ADD COLUMN {column} BIGINT NOT NULL DEFAULT 0")
