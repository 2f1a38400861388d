"""Earlier secrets of a key that was rotated."""


def up(migrator, db):
    db.execute_sql("ALTER TABLE api_key ADD COLUMN replaced BIGINT NOT NULL DEFAULT 0")
