"""Let later runs of a session pass a run that waits for the user's next message."""


def up(migrator, db):
    # Taking over a development version adds the missing columns.
    if "passable" not in {column.name for column in db.get_columns("run")}:
        db.execute_sql("ALTER TABLE run ADD COLUMN passable BIGINT NOT NULL DEFAULT 0")
