"""Create the current tables in a new database."""

from astrbot_api.db.models import create_tables


def up(migrator, db):
    create_tables(db)
