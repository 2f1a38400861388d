"""Visitors of pages, the turns that they may have, and the keys of their widgets."""

import peewee

from astrbot_api.db.models import ApiKey, Visit


def up(migrator, db):
    peewee.SchemaManager(Visit, db).create_all(safe=False)
    for index in ApiKey._meta.fields_to_index():
        if index._name == "api_key_maker":
            db.execute(index)
