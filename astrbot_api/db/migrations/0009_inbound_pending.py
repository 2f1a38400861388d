"""Messages of messengers whose files are being fetched."""

_STATEMENTS = """
CREATE TABLE inbound_pending (
    bot_id VARCHAR(255) NOT NULL,
    event_id VARCHAR(255) NOT NULL,
    worker_id VARCHAR(36) NOT NULL,
    message TEXT NOT NULL,
    received_at BIGINT NOT NULL,
    PRIMARY KEY (bot_id, event_id)
);
CREATE INDEX inbound_pending_received ON inbound_pending (received_at)
"""


def up(migrator, db):
    for statement in _STATEMENTS.split(";"):
        db.execute_sql(statement)
