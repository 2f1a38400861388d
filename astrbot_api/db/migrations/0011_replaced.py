"""Add earlier secrets of rotated keys."""


def up(migrator, db):
    db.execute_sql("ALTER TABLE api_key ADD COLUMN replaced BIGINT NOT NULL DEFAULT 0")
