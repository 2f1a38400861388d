"""Add the worker that completes an upload in chunks."""


def up(migrator, db):
    # Migration 0005 creates the table with the current columns.
    if "completing_by" not in {column.name for column in db.get_columns("file_upload")}:
        db.execute_sql("ALTER TABLE file_upload ADD COLUMN completing_by TEXT")
