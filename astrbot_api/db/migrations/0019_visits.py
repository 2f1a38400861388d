"""Add page visitors, their allowed turns, and the index of widget keys."""

import peewee

from astrbot_api.db.models.keys import ApiKey, Visit


def up(migrator, db):
    peewee.SchemaManager(Visit, db).create_all(safe=False)
    for index in ApiKey._meta.fields_to_index():
        if index._name == "api_key_maker":
            db.execute(index)
