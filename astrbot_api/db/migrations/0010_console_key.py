"""Add the owner's login with which a console key ends."""


def up(migrator, db):
    db.execute_sql("ALTER TABLE api_key ADD COLUMN owner_session TEXT")
    db.execute_sql(
        "CREATE INDEX api_key_owner_session ON api_key (owner_session)"
        " WHERE owner_session IS NOT NULL"
    )
