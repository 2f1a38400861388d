"""Response schemas of responses and conversations."""

from __future__ import annotations

from typing import Any

import marshmallow as ma

from ..schemas import flag, list_of, mapping, number, text

STREAM_EXAMPLE = (
    'event: response.output_text.delta\ndata: {"type":"response.output_text.delta",'
    '"sequence_number":4,"item_id":"msg_7254cd9a814f498ea2022c1777b1bd2d8000",'
    '"output_index":0,"content_index":0,"delta":"Hello","logprobs":[]}\n\n'
)

RESPONSE_ID = "resp_7254cd9a814f498ea2022c1777b1bd2d"
CONVERSATION_ID = "conv_7254cd9a814f498ea2022c1777b1bd2d"


class OpenAIItemSchema(ma.Schema):
    """An item: a message, a call or its output, an approval request, reasoning or a summary."""

    id = text("The id.", "msg_7254cd9a814f498ea2022c1777b1bd2d8000")
    type = text(
        "`message`, `reasoning`, `function_call`, `function_call_output`, `mcp_call`, "
        "`mcp_approval_request`, `mcp_approval_response` or `compaction`.",
        "message",
    )


def _items(description: str) -> ma.fields.List[Any]:
    return list_of(OpenAIItemSchema(unknown=ma.INCLUDE), description)


class OpenAIItemListSchema(ma.Schema):
    object = text("Always `list`.", "list")
    data = _items("The items.")
    first_id = text("Id of the first item.", None, none=True)
    last_id = text("Id of the last item. Send it as `after` for the next page.", None, none=True)
    has_more = flag("Whether there are more items.", False)


class OpenAIResponseSchema(ma.Schema):
    """A response. It also repeats the fields of its request."""

    id = text("The id: `resp_` and the run's id.", RESPONSE_ID)
    object = text("Always `response`.", "response")
    created_at = number("Time of creation, in seconds since 1970.", 1795452257)
    status = text(
        "`queued`, `in_progress`, `completed`, `incomplete`, `failed` or `cancelled`.", "completed"
    )
    model = text("Id or name of the config.", "default")
    output = _items("The output items.")
    error = mapping(
        "The error, with `code` and `message`, if the response failed.", None, none=True
    )
    incomplete_details = mapping("`reason` of an incomplete response.", None, none=True)
    usage = mapping(
        "Tokens used by all model calls of the turn.",
        {"input_tokens": 20, "output_tokens": 7, "total_tokens": 27},
        none=True,
    )
    session_id = text("The session of the turn, if the turn is stored.", "my_session_001")


class OpenAICompactedResponseSchema(ma.Schema):
    """A compacted conversation. The next `input` begins with `output`."""

    id = text("The id. The object cannot be retrieved.", RESPONSE_ID)
    object = text("Always `response.compaction`.", "response.compaction")
    created_at = number("Time of creation, in seconds since 1970.", 1795452257)
    output = _items("The user's messages in `input`, and one item of the type `compaction`.")
    usage = mapping(
        "Tokens used for the summary.",
        {"input_tokens": 20, "output_tokens": 7, "total_tokens": 27},
        none=True,
    )


class OpenAIDeletedResponseSchema(ma.Schema):
    id = text("The id.", RESPONSE_ID)
    object = text("Always `response`.", "response")
    deleted = flag("Always `true`.", True)


class OpenAIConversationSchema(ma.Schema):
    id = text("The id: `conv_` and the session's id.", CONVERSATION_ID)
    object = text("Always `conversation`.", "conversation")
    created_at = number("Time of creation, in seconds since 1970.", 1795452257)
    metadata = mapping("Key-value pairs of the client.", {"topic": "demo"})
    session_id = text("Id of the session.", "7254cd9a814f498ea2022c1777b1bd2d")


class OpenAIDeletedConversationSchema(OpenAIDeletedResponseSchema):
    id = text("The id.", CONVERSATION_ID)
    object = text("Always `conversation.deleted`.", "conversation.deleted")
