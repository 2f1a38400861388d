"""Add the transcripts of recordings."""

import peewee

from astrbot_api.db.models.files import FileText


def up(migrator, db):
    peewee.SchemaManager(FileText, db).create_all(safe=False)
