"""Fields and schemas that several resources share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import marshmallow as ma

from ..errors import STATUS_OF_CODE

F = TypeVar("F", bound="ma.fields.Field[Any]")

#: Examples of times and ids in the OpenAPI document.
_TIME_EXAMPLE = "2026-11-23T16:41:51.860786+00:00"
RUN_ID_EXAMPLE = "7254cd9a-814f-498e-a202-2c1777b1bd2d"
APPROVAL_ID_EXAMPLE = "0a5a83f1-9f5b-5f0e-a0ce-1c3f3b2f7f10"
ATTACHMENT_ID_EXAMPLE = "19281dd2-996d-4f73-ad81-0bc5992a3074"

#: Description and example of a session in a path. A path cannot name a session whose id contains a
#: slash or equals "new" or "batch-delete".
SESSION_ID = ("The session's id.", "my_session_001")


#: Marshmallow's error of a wrong type -> our words, which follow the field's name.
_WRONG_TYPES = {
    "Not a valid boolean.": "must be true or false",
    "Not a valid integer.": "must be an integer",
}


class RequestSchema(ma.Schema):
    """The fields of a query or body. Unknown fields are ignored."""

    class Meta:
        unknown = ma.EXCLUDE

    def on_bind_field(self, field_name: str, field_obj: ma.fields.Field[Any]) -> None:
        """Name the field in the errors that it does not word itself."""
        own, name = field_obj.error_messages, field_obj.data_key or field_name
        named = {}
        if field_obj.required:
            for key in ("required", "null"):
                if own[key] == ma.fields.Field.default_error_messages[key]:
                    named[key] = f"Missing key: {name}"
        wrong_type = _WRONG_TYPES.get(str(own.get("invalid")))
        if wrong_type is not None:
            named["invalid"] = f"{name} {wrong_type}"
        field_obj.error_messages = {**own, **named}


def response_field(
    kind: type[F], description: str, example: Any, *, none: bool = False, **more: Any
) -> F:
    """Return a response field with its description and example for the OpenAPI document.

    :param none: Whether it may be ``null``.
    :param more: Further OpenAPI members.
    """
    metadata = {"description": description, "example": example, **more}
    return kind(allow_none=none, metadata=metadata)


def text(description: str, example: Any, **more: Any) -> ma.fields.String:
    """Return a response field that is a string; see :func:`response_field`."""
    return response_field(ma.fields.String, description, example, **more)


def number(description: str, example: Any, **more: Any) -> ma.fields.Integer:
    """Return a response field that is an integer; see :func:`response_field`."""
    return response_field(ma.fields.Integer, description, example, **more)


def flag(description: str, example: bool) -> ma.fields.Boolean:
    """Return a response field that is a boolean."""
    return response_field(ma.fields.Boolean, description, example)


def time(description: str, example: Any = _TIME_EXAMPLE, **more: Any) -> ma.fields.String:
    """Return a response field that is an ISO 8601 time; see :func:`response_field`."""
    return response_field(ma.fields.String, description, example, format="date-time", **more)


def mapping(description: str, example: Any, **more: Any) -> ma.fields.Dict:
    """Return a response field that is an object; see :func:`response_field`."""
    return response_field(ma.fields.Dict, description, example, **more)


def list_of(item: type[ma.Schema] | ma.Schema, description: str) -> ma.fields.List[Any]:
    """Return a response field that is a list of objects."""
    return ma.fields.List(ma.fields.Nested(item), metadata={"description": description})


def text_list(description: str, example: list[str]) -> ma.fields.List[Any]:
    """Return a response field that is a list of strings."""
    metadata = {"description": description, "example": example}
    return ma.fields.List(ma.fields.String(), metadata=metadata)


def member(kind: str | list[str], description: str, example: Any, **more: Any) -> dict[str, Any]:
    """Return the JSON Schema of an object's member."""
    return {"type": kind, "description": description, "example": example, **more}


def enum_of(description: str, *values: str) -> dict[str, Any]:
    """Return the JSON Schema of an enumerated string. The first value is the example."""
    return member("string", description, values[0], enum=list(values))


def object_schema(
    required: Sequence[str], members: Mapping[str, Any], **more: Any
) -> dict[str, Any]:
    return {"type": "object", "required": list(required), "properties": members, **more}


def multipart_body(required: Sequence[str], members: Mapping[str, Any]) -> dict[str, Any]:
    """Return the OpenAPI request body of a multipart upload, which is parsed as a stream."""
    schema = object_schema(required, members)
    return {"required": True, "content": {"multipart/form-data": {"schema": schema}}}


def event_stream(
    description: str,
    schema: Mapping[str, Any] | None = None,
    example: str = "",
    *,
    whole: ma.Schema | None = None,
) -> dict[int, Any]:
    """Return the OpenAPI response of an event stream.

    :param schema: Schema of the events, or None if another protocol defines them.
    :param whole: Schema of the response without streaming, if a client can choose that.
    """
    stream: dict[str, Any] = {"schema": schema or {"description": "Server-sent events."}}
    if example:
        stream["example"] = example
    content: dict[str, Any] = {"application/json": {"schema": whole}} if whole else {}
    content["text/event-stream"] = stream
    return {200: {"description": description, "content": content}}


def plain_response(
    description: str,
    *kinds: str,
    schema: Mapping[str, Any] | None = None,
    example: Any = None,
) -> dict[int, Any]:
    """Return the OpenAPI response of a body that is no JSON envelope.

    :param kinds: Its media types.
    :param schema: By default that of text.
    """
    shown: dict[str, Any] = {"schema": schema or {"type": "string"}}
    if example is not None:
        shown["example"] = example
    return {200: {"description": description, "content": dict.fromkeys(kinds, shown)}}


def path_parameter(name: str, description: str, example: str) -> dict[str, Any]:
    return _parameter("path", name, description, example)


def header_parameter(name: str, description: str) -> dict[str, Any]:
    """Return an OpenAPI header, with an empty example, because documentation pages send it."""
    return _parameter("header", name, description, "")


def _parameter(place: str, name: str, description: str, example: str) -> dict[str, Any]:
    schema = {"type": "string"}
    return {
        "in": place, "name": name, "schema": schema, "description": description, "example": example,
    }  # fmt: skip


def _constant(value: str) -> ma.fields.Constant[str]:
    metadata = {"description": f"Always `{value}`.", "type": "string", "enum": [value]}
    return ma.fields.Constant(value, metadata=metadata)


class ErrorSchema(ma.Schema):
    """The envelope of an error."""

    status = _constant("error")
    message = text("What is wrong and how to fix it.", "Missing key: username")
    data = response_field(ma.fields.Raw, "Always `null`.", None, none=True)
    code = text("A stable error code for programs.", "missing_field", enum=list(STATUS_OF_CODE))
    request_id = text(
        "Id of this request in the server's log; also in `X-Request-ID`.",
        "6d0f1a1f8b7e4a43a3c1d2a9",
    )


def envelope_of(name: str, data: ma.Schema | ma.fields.Field[Any]) -> ma.Schema:
    """Return the schema of a successful response.

    :param name: Name of the schema in the OpenAPI document.
    """
    if isinstance(data, ma.Schema):
        data = ma.fields.Nested(data, metadata={"description": "The requested data."})
    fields: dict[str, Any] = {
        "status": _constant("ok"),
        "message": text("Always `null`.", None, none=True),
        "data": data,
    }
    schema: ma.Schema = ma.Schema.from_dict(fields, name=name)()
    return schema
