"""Mark stopping workers, which hand over their runs and take over none."""


def up(migrator, db):
    db.execute_sql("ALTER TABLE worker ADD COLUMN stopping BIGINT NOT NULL DEFAULT 0")
