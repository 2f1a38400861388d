"""Add the key that created a session: the key of its first run."""

from peewee import TextField

from astrbot_api.db.models.runs import Run
from astrbot_api.db.models.sessions import ChatSession


def up(migrator, db):
    table = ChatSession._meta.table_name
    migrator.migrate(migrator.add_column(table, "key_id", TextField(null=True)))
    first = Run.alias()
    maker = (
        first.select(first.key_id)
        .where(first.session == ChatSession.id)
        .order_by(first.id)
        .limit(1)
    )
    ChatSession.update(key_id=maker).execute(db)
