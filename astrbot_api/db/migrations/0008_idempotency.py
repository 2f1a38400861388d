"""Requests that a client may send again: what the first one came to."""

_STATEMENTS = """
CREATE TABLE idempotency (
    key_id VARCHAR(36) NOT NULL,
    client_key VARCHAR(255) NOT NULL,
    body_hash VARCHAR(64) NOT NULL,
    worker_id VARCHAR(36) NOT NULL,
    run_id VARCHAR(36),
    status INTEGER,
    answer TEXT,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (key_id, client_key)
);
CREATE INDEX idempotency_created ON idempotency (created_at)
"""


def up(migrator, db):
    for statement in _STATEMENTS.split(";"):
        db.execute_sql(statement)
