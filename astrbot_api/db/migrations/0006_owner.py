"""The owner and his sessions, guard rails and use of keys, the audit."""

_TABLES = """
ALTER TABLE api_key ADD COLUMN rules TEXT;
ALTER TABLE api_key ADD COLUMN parent_id VARCHAR(36);
CREATE INDEX api_key_parent ON api_key (parent_id) WHERE parent_id IS NOT NULL;
CREATE TABLE owner (
    name VARCHAR(255) NOT NULL PRIMARY KEY,
    password_hash TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE TABLE owner_session (
    session_key VARCHAR(64) NOT NULL PRIMARY KEY,
    name VARCHAR(255) NOT NULL,
    address VARCHAR(64) NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
);
CREATE INDEX owner_session_expires ON owner_session (expires_at);
CREATE TABLE login_failure (
    subject VARCHAR(255) NOT NULL PRIMARY KEY,
    failures INTEGER NOT NULL,
    since BIGINT NOT NULL
);
CREATE INDEX login_failure_since ON login_failure (since);
CREATE TABLE audit (
    id {serial},
    at BIGINT NOT NULL,
    action VARCHAR(32) NOT NULL,
    actor VARCHAR(255) NOT NULL,
    address VARCHAR(64) NOT NULL,
    subject TEXT NOT NULL,
    detail TEXT NOT NULL
);
CREATE INDEX audit_at ON audit (at);
CREATE TABLE key_use (
    key_id VARCHAR(36) NOT NULL,
    day INTEGER NOT NULL,
    requests BIGINT NOT NULL,
    errors BIGINT NOT NULL,
    turns BIGINT NOT NULL,
    failed_turns BIGINT NOT NULL,
    input_tokens BIGINT NOT NULL,
    output_tokens BIGINT NOT NULL,
    turn_ms BIGINT NOT NULL,
    PRIMARY KEY (key_id, day)
);
CREATE INDEX key_use_day ON key_use (day);
CREATE TABLE rate_count (
    subject VARCHAR(255) NOT NULL,
    minute BIGINT NOT NULL,
    requests BIGINT NOT NULL,
    PRIMARY KEY (subject, minute)
);
CREATE INDEX rate_count_minute ON rate_count (minute);
CREATE TABLE imported_key (
    digest VARCHAR(256) NOT NULL PRIMARY KEY,
    key_id VARCHAR(36) NOT NULL,
    method TEXT NOT NULL
)
"""


def up(migrator, db):
    for statement in _TABLES.split(";"):
        db.execute_sql(statement.format(serial="INTEGER PRIMARY KEY AUTOINCREMENT"))
