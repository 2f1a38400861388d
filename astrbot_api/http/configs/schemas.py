"""The list of configs."""

from __future__ import annotations

import marshmallow as ma


class ConfigSchema(ma.Schema):
    """One agent that a session can be answered by."""

    id = ma.fields.String(
        metadata={"description": "For `config_id` of chat.", "example": "default"}
    )
    name = ma.fields.String(
        metadata={"description": "For `config_name` of chat.", "example": "default"}
    )
    path = ma.fields.String(
        metadata={
            "description": "Its file, below the server's data directory.",
            "example": "configs/default.toml",
        }
    )
    is_default = ma.fields.Boolean(
        metadata={"description": "Whether it is used where none is chosen.", "example": True}
    )


class ConfigListSchema(ma.Schema):
    """Every config."""

    configs = ma.fields.List(
        ma.fields.Nested(ConfigSchema),
        metadata={"description": "Every config; the default one is last."},
    )
