"""The attachments: a frozen copy of what the models were."""

_TABLES = """
CREATE TABLE attachment (
    id {serial},
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
    id {serial},
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
)
"""


def up(migrator, db):
    for statement in _TABLES.split(";"):
        db.execute_sql(statement.format(serial="INTEGER PRIMARY KEY AUTOINCREMENT"))
