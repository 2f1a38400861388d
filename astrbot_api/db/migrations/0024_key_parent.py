"""Count a key's session keys in the index alone."""


def up(migrator, db):
    db.execute_sql("DROP INDEX api_key_parent")
    db.execute_sql(
        "CREATE INDEX api_key_parent ON api_key (parent_id, expires_at, revoked_at)"
        " WHERE parent_id IS NOT NULL"
    )
