CREATE TABLE "schema_migration" ("id" INTEGER NOT NULL PRIMARY KEY, "name" VARCHAR(255) NOT NULL, "applied" DATETIME NOT NULL);
CREATE UNIQUE INDEX "schema_migration_name" ON "schema_migration" ("name");
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
, rules TEXT, parent_id VARCHAR(36));
CREATE TABLE api_key_scope (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    key_id VARCHAR(36) NOT NULL,
    scope VARCHAR(32) NOT NULL
);
CREATE UNIQUE INDEX api_key_scope_key_id_scope ON api_key_scope (key_id, scope);
CREATE TABLE chat_session (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
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
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    creator TEXT NOT NULL,
    platform_id VARCHAR(255) NOT NULL,
    sessions INTEGER NOT NULL
);
CREATE UNIQUE INDEX session_count_key ON session_count (creator, platform_id);
CREATE TABLE message (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    session BIGINT NOT NULL,
    platform_id VARCHAR(255) NOT NULL,
    sender_id TEXT NOT NULL,
    sender_name TEXT NOT NULL,
    content TEXT NOT NULL,
    llm_checkpoint_id VARCHAR(36),
    created_at BIGINT NOT NULL
, pushed INTEGER NOT NULL DEFAULT 0);
CREATE INDEX message_session ON message (session, id);
CREATE TABLE run (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
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
, llm_checkpoint_id VARCHAR(36), stop_requested_at BIGINT);
CREATE INDEX run_active ON run (session, id) WHERE status IN ('queued', 'running');
CREATE TABLE worker (
    worker_id VARCHAR(36) NOT NULL PRIMARY KEY,
    lease_until FLOAT NOT NULL
);
CREATE TABLE attachment (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    attachment_id VARCHAR(36) NOT NULL UNIQUE,
    name TEXT NOT NULL,
    type VARCHAR(16) NOT NULL,
    mime VARCHAR(255) NOT NULL,
    charset VARCHAR(32),
    size_bytes BIGINT NOT NULL,
    sha256 VARCHAR(64) NOT NULL,
    blob VARCHAR(80) NOT NULL,
    key_id VARCHAR(36),
    created_at BIGINT NOT NULL
);
CREATE INDEX attachment_sha256 ON attachment (sha256);
CREATE INDEX attachment_created ON attachment (created_at, id);
CREATE TABLE message_attachment (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    message BIGINT NOT NULL,
    attachment BIGINT NOT NULL
);
CREATE UNIQUE INDEX message_attachment_pair ON message_attachment (message, attachment);
CREATE INDEX message_attachment_back ON message_attachment (attachment, message);
CREATE TABLE attachment_total (
    key_id VARCHAR(36) NOT NULL PRIMARY KEY,
    size_bytes BIGINT NOT NULL,
    attachments INTEGER NOT NULL
);
CREATE TABLE stray_blob (
    blob VARCHAR(80) NOT NULL PRIMARY KEY,
    since BIGINT NOT NULL
);
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
);
CREATE INDEX run_stop ON run (worker_id)
    WHERE stop_requested_at IS NOT NULL AND status IN ('queued', 'running');
CREATE INDEX run_key ON run (key_id) WHERE status IN ('queued', 'running');
CREATE INDEX run_worker ON run (worker_id, id);
CREATE INDEX message_pushed ON message (id) WHERE pushed = 1;
CREATE INDEX message_pushed_session ON message (session, id) WHERE pushed = 1
;
CREATE TABLE delivery (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    delivery_id VARCHAR(36) NOT NULL UNIQUE,
    platform_id VARCHAR(255) NOT NULL,
    target TEXT NOT NULL,
    key_id VARCHAR(36),
    content TEXT NOT NULL,
    reply_to TEXT,
    status VARCHAR(16) NOT NULL,
    head INTEGER NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    sent_parts INTEGER NOT NULL DEFAULT 0,
    sent_chars INTEGER NOT NULL DEFAULT 0,
    platform_ids TEXT NOT NULL DEFAULT '[]',
    error TEXT,
    due_at BIGINT NOT NULL,
    claimed_by VARCHAR(36),
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    finished_at BIGINT
, traceparent VARCHAR(64));
CREATE INDEX delivery_due ON delivery (due_at, id) WHERE status = 'queued' AND head = 1;
CREATE INDEX delivery_sending ON delivery (claimed_by) WHERE status = 'sending';
CREATE INDEX delivery_line ON delivery (target, id) WHERE status IN ('queued', 'sending');
CREATE INDEX delivery_finished ON delivery (finished_at) WHERE finished_at IS NOT NULL;
CREATE INDEX delivery_of_platform ON delivery (platform_id, id);
CREATE TABLE inbound_event (
    bot_id VARCHAR(255) NOT NULL,
    event_id VARCHAR(255) NOT NULL,
    run_id VARCHAR(36),
    umo TEXT NOT NULL,
    reply_to TEXT,
    received_at BIGINT NOT NULL,
    PRIMARY KEY (bot_id, event_id)
);
CREATE UNIQUE INDEX inbound_event_run ON inbound_event (run_id) WHERE run_id IS NOT NULL;
CREATE INDEX inbound_event_received ON inbound_event (received_at);
CREATE TABLE bot_lease (
    bot_id VARCHAR(255) NOT NULL PRIMARY KEY,
    worker_id VARCHAR(36) NOT NULL
);
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
    id INTEGER PRIMARY KEY AUTOINCREMENT,
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
CREATE TABLE deleted_session (
    session BIGINT NOT NULL PRIMARY KEY,
    since BIGINT NOT NULL
);
CREATE INDEX run_session ON run (session, id)
;
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
;
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
);
CREATE TABLE inbound_pending (
    bot_id VARCHAR(255) NOT NULL,
    event_id VARCHAR(255) NOT NULL,
    worker_id VARCHAR(36) NOT NULL,
    message TEXT NOT NULL,
    received_at BIGINT NOT NULL,
    PRIMARY KEY (bot_id, event_id)
);
CREATE INDEX inbound_pending_received ON inbound_pending (received_at)
;
INSERT INTO schema_migration (name, applied) VALUES ('0001_initial', '2026-11-28 02:57:24');
INSERT INTO schema_migration (name, applied) VALUES ('0002_attachments', '2026-11-28 02:57:24');
INSERT INTO schema_migration (name, applied) VALUES ('0003_notes', '2026-11-28 02:57:24');
INSERT INTO schema_migration (name, applied) VALUES ('0004_surviving_runs', '2026-11-28 02:57:24');
INSERT INTO schema_migration (name, applied) VALUES ('0005_messengers', '2026-11-28 02:57:24');
INSERT INTO schema_migration (name, applied) VALUES ('0006_owner', '2026-11-28 02:57:25');
INSERT INTO schema_migration (name, applied) VALUES ('0007_sessions', '2026-11-28 02:57:25');
INSERT INTO schema_migration (name, applied) VALUES ('0008_idempotency', '2026-11-28 02:57:25');
INSERT INTO schema_migration (name, applied) VALUES ('0008_import', '2026-11-28 02:57:25');
INSERT INTO schema_migration (name, applied) VALUES ('0008_journal', '2026-11-28 02:57:25');
INSERT INTO schema_migration (name, applied) VALUES ('0009_inbound_pending', '2026-11-28 02:57:25');
INSERT INTO schema_migration (name, applied) VALUES ('0010_delivery_trace', '2026-11-28 02:57:25');
