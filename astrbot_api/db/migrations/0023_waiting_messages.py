"""Let messages wait for earlier ones of their conversation."""


def up(migrator, db):
    # Taking over a development version adds the missing columns.
    if "umo" not in {column.name for column in db.get_columns("inbound_pending")}:
        db.execute_sql("ALTER TABLE inbound_pending ADD COLUMN umo TEXT NOT NULL DEFAULT ''")
    db.execute_sql(
        "CREATE INDEX IF NOT EXISTS inbound_pending_umo ON inbound_pending (umo, received_at)"
    )
