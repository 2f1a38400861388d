"""Add responses that end with a request for approvals."""


def up(migrator, db):
    # Migration 0007 creates the table with the current columns.
    if "paused" not in {column.name for column in db.get_columns("response")}:
        db.execute_sql("ALTER TABLE response ADD COLUMN paused TEXT")
