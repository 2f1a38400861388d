"""Count the changes of a session's stored messages."""


def up(migrator, db):
    # Migration 0001 creates the table with the current columns.
    if "edition" not in {column.name for column in db.get_columns("chat_session")}:
        db.execute_sql("ALTER TABLE chat_session ADD COLUMN edition BIGINT NOT NULL DEFAULT 0")
