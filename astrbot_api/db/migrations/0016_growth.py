"""What each key stored in the last two minutes."""


def up(migrator, db):
    # An older database got its table just now, from today's model.
    there = {column.name for column in db.get_columns("key_stored")}
    for column in ("minute", "minute_bytes", "before_bytes"):
        if column not in there:
            db.execute_sql(f"ALTER TABLE key_stored ADD COLUMN {column} BIGINT NOT NULL DEFAULT 0")
