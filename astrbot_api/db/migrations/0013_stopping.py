"""Workers that stop: they give their runs to others, and take none."""


def up(migrator, db):
    db.execute_sql("ALTER TABLE worker ADD COLUMN stopping BIGINT NOT NULL DEFAULT 0")
