"""Add the user for whom a session key uploaded a file."""


def up(migrator, db):
    for table in ("attachment", "file_upload"):
        # Migration 0005 creates the table of uploads with the current columns.
        if "username" not in {column.name for column in db.get_columns(table)}:
            db.execute_sql(f"ALTER TABLE {table} ADD COLUMN username TEXT")
