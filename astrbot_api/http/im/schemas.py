"""The list of bots."""

from __future__ import annotations

import marshmallow as ma


class BotListSchema(ma.Schema):
    """The bots that are configured."""

    bot_ids = ma.fields.List(
        ma.fields.String(),
        metadata={"description": "Ids, as they stand in a UMO.", "example": ["tg"]},
    )
