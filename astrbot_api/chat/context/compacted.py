"""Encode the summary of a compacted conversation for the client to send back."""

from __future__ import annotations

import base64
import binascii

#: Prefix of our summaries. Other services send content that only they can read.
_MARK = "abc1."

_INTRODUCTION = "Summary of the conversation until here:"


def pack(summary: str) -> str:
    """Return a summary in the form that clients keep. It is not secret from the client."""
    return _MARK + base64.urlsafe_b64encode(summary.encode("utf-8", "replace")).decode("ascii")


def unpack(content: str) -> str:
    """Return the summary from the result of :func:`pack`.

    :raises ValueError: for any other text.
    """
    if not content.startswith(_MARK):
        raise ValueError("not made here")
    try:
        # Not the URL-safe decoder, which ignores invalid characters.
        packed = base64.b64decode(content[len(_MARK) :].encode("ascii"), b"-_", validate=True)
        return packed.decode("utf-8")
    except (binascii.Error, UnicodeError) as error:
        raise ValueError("damaged") from error


def introduce(content: str) -> str:
    """Return the text that presents a packed summary to the model."""
    return f"{_INTRODUCTION}\n{unpack(content)}"
