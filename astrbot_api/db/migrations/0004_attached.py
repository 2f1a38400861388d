"""What a model attached to its answers, kept for the next request to it."""


def up(migrator, db):
    db.execute_sql("ALTER TABLE message ADD COLUMN attached TEXT")
