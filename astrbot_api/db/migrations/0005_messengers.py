"""What goes out to messengers and other systems, and what has come in from them."""

_TABLES = """
CREATE TABLE delivery (
    id {serial},
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
);
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
)
"""


def up(migrator, db):
    for statement in _TABLES.split(";"):
        db.execute_sql(statement.format(serial="INTEGER PRIMARY KEY AUTOINCREMENT"))
