"""What a delivery is a part of, in a trace."""


def up(migrator, db):
    db.execute_sql("ALTER TABLE delivery ADD COLUMN traceparent VARCHAR(64)")
