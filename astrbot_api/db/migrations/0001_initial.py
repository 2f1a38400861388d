"""The tables of a new database, as the models describe them."""

from astrbot_api.db.models import create_tables


def up(migrator, db):
    create_tables(db)
