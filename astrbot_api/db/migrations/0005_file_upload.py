"""Add uploads in chunks."""

import peewee

from astrbot_api.db.models.files import FileChunk, FileUpload


def up(migrator, db):
    for model in (FileUpload, FileChunk):
        peewee.SchemaManager(model, db).create_all(safe=False)
