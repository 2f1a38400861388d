"""For whom a session key uploaded a file."""


def up(migrator, db):
    for table in ("attachment", "file_upload"):
        db.execute_sql(f"ALTER TABLE {table} ADD COLUMN username TEXT")
