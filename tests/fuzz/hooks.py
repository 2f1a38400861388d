"""Hooks of Schemathesis for rules that a schema cannot express."""

from __future__ import annotations

import itertools
from typing import Any
from urllib.parse import quote, urlencode

import schemathesis
from schemathesis.core.failures import AcceptedNegativeData
from schemathesis.openapi.checks import RejectedPositiveData

#: gunicorn itself rejects longer request lines, in HTML (``limit_request_line``).
_MAX_LINE_BYTES = 4000

_IDEMPOTENCY = "Idempotency-Key"

_numbers = itertools.count(1)


@schemathesis.hook
def filter_case(context: Any, case: Any) -> bool:
    """Keep only requests whose line gunicorn accepts."""
    path = sum(len(quote(str(one))) for one in (case.path_parameters or {}).values())
    query = len(urlencode(case.query or {}, doseq=True, errors="replace"))
    return path + query + len(case.path) < _MAX_LINE_BYTES


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: dict[str, Any]) -> None:
    """Add a username to valid requests, and make each request unique."""
    if case.meta is None or case.meta.generation.mode.is_positive:
        _name_user(case)
    word = (case.headers or {}).get(_IDEMPOTENCY)
    # Otherwise only the first one is executed. Values that are too long or blank are kept.
    if isinstance(word, str) and word.strip() and len(word) < 200:
        case.headers[_IDEMPOTENCY] = f"{word}-{next(_numbers)}"


def _is_odd(value: Any) -> bool:
    """Return whether Python reads a value differently from JSON Schema.

    An integer of more than 64 bits becomes a float and loses digits. A few control characters are
    blanks in Python, but not in a pattern.
    """
    if isinstance(value, dict):
        return any(_is_odd(one) for one in value.values())
    if isinstance(value, str):
        return bool(value) and not value.strip()
    return isinstance(value, int) and not -(2**63) <= value < 2**64


def _has_margin(values: Any) -> bool:
    """Return whether a text of an object has blanks around it."""
    texts = values.values() if isinstance(values, dict) else ()
    return any(isinstance(one, str) and one != one.strip() for one in texts)


def _name_user(case: Any) -> None:
    """Add a username to the query, which is only optional for keys that are bound to one."""
    body = case.body if isinstance(case.body, dict) else {}
    sent = [one for one in ((case.query or {}).get("username"), body.get("username")) if one]
    if any(str(one).strip() for one in sent):
        return
    if any(parameter.name == "username" for parameter in case.operation.query):
        case.query = {**(case.query or {}), "username": "alice"}


#: Words of errors for requests that match their schema, and the rule that the schema cannot
#: express.
_REFUSALS = {
    "must not contain the character NUL": "a pattern on every text would hide what matters",
    "Message content is empty": "segments that are blank, or nothing but a reply",
    "Missing key: messages": "message, or messages",
    "must be base64 in a data: URL": "the parts of a message have many forms",
    "must have a toolCallId and the name of a tool": "the parts of a message have many forms",
    ".text must be a string": "the parts of a message have many forms",
    "] must be text, or image, audio, video, document with a source": "any value in the document",
    "] must have data, url or id": "any value in the document",
    ".url must be a string": "the parts of a message have many forms",
    "Missing key: umo": "one of them",
    "Missing key: content.message": "null is none",
    "Invalid umo: ": "what stands behind the second colon names a webchat's user and session",
    "session_id has ": "the session of a UMO",
    "the last of messages must be the user's": "of messages that have another order",
    "].content must be a string or a list of parts": "any value in the document",
    "].content[": "any value in the document",
    "].type must be a string": "any value in the document",
    "input[": "items by their types",
    "items[": "items by their types",
    "input must have": "items by their types",
    "metadata must have keys": "propertyNames, which the generator ignores",
    "exclude each other; send one of them": "one field by another",
    "background needs store": "one field by another",
    "tool_choice needs tools": "one field by another",
    "send arguments with the decision edit": "one field by another",
    "name one of tools": "one field by another",
    " is not a JSON schema: ": "a schema of schemas in a body would hide what matters",
    "give each tool a unique name": "one element by another",
    "].name must have 1 to 64 letters": "a function's name together with that of its namespace",
}


@schemathesis.hook
def filter_failure(context: Any, failure: Any, case: Any, response: Any) -> bool:
    """Skip correct responses that a schema cannot describe."""
    # Schemathesis applies the schema to the frame. Generators apply it to the frame's data, which
    # tests/api/test_event_schemas.py checks.
    if failure.title == "SSE event violates schema":
        return False
    # The mock model always answers in words.
    if response.status_code == 502 and "The model's answer is not JSON, which" in response.text:
        return False
    if isinstance(failure, RejectedPositiveData):
        if any(words in response.text for words in _REFUSALS):
            return False
        return not any(_is_odd(one) for one in (case.body, case.query))
    if isinstance(failure, AcceptedNegativeData):
        # The recorded server treats these as an empty object.
        if case.body is None or case.body is False:
            return False
        # Surrounding blanks are removed before the length is checked.
        if "maxLength" in failure.message and (_has_margin(case.query) or _has_margin(case.body)):
            return False
        # The messages of these protocols are read liberally: only what is used of them is checked.
        if case.path.endswith(("/agui", "/aisdk")):
            return False
        # As recorded, chat drops segments of unknown types and segments without a file.
        return not ("/chat" in case.path and "message -> Array with invalid" in failure.message)
    return True
