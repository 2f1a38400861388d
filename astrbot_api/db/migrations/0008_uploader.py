"""For whom a session key uploaded a file."""


def up(migrator, db):
    for table in ("attachment", "file_upload"):
        # An older database got its table of uploads just now, from today's model.
        if "username" not in {column.name for column in db.get_columns(table)}:
            db.execute_sql(f"ALTER TABLE {table} ADD COLUMN username TEXT")
