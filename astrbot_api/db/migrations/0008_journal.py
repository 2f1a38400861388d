"""The runs' events, where PostgreSQL keeps them; SQLite has a file of its own for them."""

from astrbot_api.db.dialect import is_postgres

_TABLES = """
CREATE TABLE run_event (
    run BIGINT NOT NULL,
    number BIGINT NOT NULL,
    event BLOB NOT NULL,
    PRIMARY KEY (run, number)
);
CREATE TABLE run_event_end (
    run BIGINT NOT NULL PRIMARY KEY,
    last BIGINT NOT NULL,
    ended_at BIGINT NOT NULL
);
CREATE INDEX run_event_end_at ON run_event_end (ended_at)
"""


def up(migrator, db):
    if is_postgres(db):
        for statement in _TABLES.split(";"):
            db.execute_sql(statement)
