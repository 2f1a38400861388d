"""The first tables: a frozen copy of what the models were."""

_TABLES = """
CREATE TABLE api_key (
    key_id VARCHAR(36) NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    key_prefix VARCHAR(12) NOT NULL,
    digest VARCHAR(64) NOT NULL UNIQUE,
    created_by TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    last_used_at BIGINT,
    expires_at BIGINT,
    revoked_at BIGINT
);
CREATE TABLE api_key_scope (
    id {serial},
    key_id VARCHAR(36) NOT NULL,
    scope VARCHAR(32) NOT NULL
);
CREATE UNIQUE INDEX api_key_scope_key_id_scope ON api_key_scope (key_id, scope);
CREATE TABLE chat_session (
    id {serial},
    session_id TEXT NOT NULL UNIQUE,
    platform_id VARCHAR(255) NOT NULL,
    creator TEXT NOT NULL,
    display_name TEXT,
    is_group INTEGER NOT NULL,
    config_id TEXT,
    context_after BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE INDEX chat_session_created ON chat_session (creator, created_at, id);
CREATE INDEX chat_session_updated ON chat_session (creator, updated_at, id);
CREATE INDEX chat_session_platform ON chat_session (creator, platform_id, created_at, id);
CREATE TABLE session_count (
    id {serial},
    creator TEXT NOT NULL,
    platform_id VARCHAR(255) NOT NULL,
    sessions INTEGER NOT NULL
);
CREATE UNIQUE INDEX session_count_key ON session_count (creator, platform_id);
CREATE TABLE message (
    id {serial},
    session BIGINT NOT NULL,
    platform_id VARCHAR(255) NOT NULL,
    sender_id TEXT NOT NULL,
    sender_name TEXT NOT NULL,
    content TEXT NOT NULL,
    llm_checkpoint_id VARCHAR(36),
    created_at BIGINT NOT NULL
);
CREATE INDEX message_session ON message (session, id);
CREATE TABLE run (
    id {serial},
    run_id VARCHAR(36) NOT NULL UNIQUE,
    session BIGINT NOT NULL,
    key_id VARCHAR(36),
    worker_id VARCHAR(36) NOT NULL,
    status VARCHAR(16) NOT NULL,
    error_code VARCHAR(64),
    user_message BIGINT,
    bot_message BIGINT,
    created_at BIGINT NOT NULL,
    started_at BIGINT,
    finished_at BIGINT
);
CREATE INDEX run_active ON run (session, id) WHERE status IN ('queued', 'running');
CREATE TABLE worker (
    worker_id VARCHAR(36) NOT NULL PRIMARY KEY,
    lease_until FLOAT NOT NULL
)
"""


def up(migrator, db):
    # AUTOINCREMENT: the number of a deleted message or run is never given out
    # again, so what a client has noted stays true.
    for statement in _TABLES.split(";"):
        db.execute_sql(statement.format(serial="INTEGER PRIMARY KEY AUTOINCREMENT"))
