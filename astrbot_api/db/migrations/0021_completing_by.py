"""The worker that completes an upload in chunks."""


def up(migrator, db):
    # 0005 makes the table as the models have it today.
    if "completing_by" not in {column.name for column in db.get_columns("file_upload")}:
        db.execute_sql("ALTER TABLE file_upload ADD COLUMN completing_by TEXT")
