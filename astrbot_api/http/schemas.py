"""Schemas that several resources share."""

from __future__ import annotations

from typing import Any

import marshmallow as ma

from ..errors import STATUS_OF_CODE


class ErrorSchema(ma.Schema):
    """The envelope of an error."""

    status = ma.fields.Constant(
        "error", metadata={"description": "Always `error`.", "type": "string", "enum": ["error"]}
    )
    message = ma.fields.String(
        metadata={
            "description": "What is wrong and what to do about it.",
            "example": "Missing key: username",
        }
    )
    data = ma.fields.Raw(
        allow_none=True, metadata={"description": "Always `null`.", "example": None}
    )
    code = ma.fields.String(
        metadata={
            "description": "A stable word to match.",
            "enum": list(STATUS_OF_CODE),
            "example": "missing_field",
        }
    )
    request_id = ma.fields.String(
        metadata={
            "description": "Names this request in the server's log; also `X-Request-ID`.",
            "example": "6d0f1a1f8b7e4a43a3c1d2a9",
        }
    )


def envelope_of(name: str, data: ma.Schema) -> ma.Schema:
    """Return the schema of a successful answer whose ``data`` is this.

    :param name: Name of the schema in the OpenAPI document.
    """
    fields: dict[str, Any] = {
        "status": ma.fields.Constant(
            "ok", metadata={"description": "Always `ok`.", "type": "string", "enum": ["ok"]}
        ),
        "message": ma.fields.String(
            allow_none=True, metadata={"description": "Always `null`.", "example": None}
        ),
        "data": ma.fields.Nested(data, metadata={"description": "What was asked for."}),
    }
    schema: ma.Schema = ma.Schema.from_dict(fields, name=name)()
    return schema
