"""Keys with another server's hash, and what was taken over from another server."""

_STATEMENTS = """
DROP TABLE imported_key;
CREATE TABLE legacy_key (
    key_id VARCHAR(36) NOT NULL PRIMARY KEY,
    key_prefix VARCHAR(12) NOT NULL,
    algorithm VARCHAR(16) NOT NULL,
    rounds INTEGER NOT NULL,
    salts TEXT NOT NULL,
    digest VARCHAR(128) NOT NULL
);
CREATE INDEX legacy_key_prefix ON legacy_key (key_prefix);
CREATE TABLE imported_item (
    kind VARCHAR(16) NOT NULL,
    source_id TEXT NOT NULL,
    target BIGINT,
    stamp BIGINT NOT NULL,
    PRIMARY KEY (kind, source_id)
);
CREATE TABLE imported_message (
    session BIGINT NOT NULL,
    source_id BIGINT NOT NULL,
    message BIGINT NOT NULL,
    PRIMARY KEY (session, source_id)
)
"""


def up(migrator, db):
    for statement in _STATEMENTS.split(";"):
        db.execute_sql(statement)
