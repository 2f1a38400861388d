"""Sessions that are being deleted; the runs of a session by their order."""

_STATEMENTS = """
CREATE TABLE deleted_session (
    session BIGINT NOT NULL PRIMARY KEY,
    since BIGINT NOT NULL
);
CREATE INDEX run_session ON run (session, id)
"""


def up(migrator, db):
    for statement in _STATEMENTS.split(";"):
        db.execute_sql(statement)
