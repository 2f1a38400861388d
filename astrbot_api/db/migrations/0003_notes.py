"""The model's notes about users, and its summaries of long sessions."""

_TABLES = """
CREATE TABLE note (
    username TEXT NOT NULL,
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (username, key)
);
CREATE TABLE session_summary (
    session BIGINT NOT NULL PRIMARY KEY,
    until BIGINT NOT NULL,
    text TEXT NOT NULL,
    created_at BIGINT NOT NULL
)
"""


def up(migrator, db):
    for statement in _TABLES.split(";"):
        db.execute_sql(statement)
