"""Add the data that a model attached to its answers, for its next request."""


def up(migrator, db):
    db.execute_sql("ALTER TABLE message ADD COLUMN attached TEXT")
