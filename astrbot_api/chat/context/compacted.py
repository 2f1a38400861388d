"""A conversation that was compacted into a summary, as its client carries it along."""

from __future__ import annotations

import base64
import binascii

#: Marks a summary of ours: other services have contents that only they can read.
_MARK = "abc1."

_INTRODUCTION = "Summary of the conversation until here:"


def pack(summary: str) -> str:
    """Return a summary as clients keep it: it is theirs, and so it is no secret."""
    return _MARK + base64.urlsafe_b64encode(summary.encode("utf-8", "replace")).decode("ascii")


def unpack(content: str) -> str:
    """Return the summary of what :func:`pack` returned.

    :raises ValueError: when it is something else.
    """
    if not content.startswith(_MARK):
        raise ValueError("not made here")
    try:
        # Not the decoder for URLs: it passes over what is none of the alphabet.
        packed = base64.b64decode(content[len(_MARK) :].encode("ascii"), b"-_", validate=True)
        return packed.decode("utf-8")
    except (binascii.Error, UnicodeError) as error:
        raise ValueError("damaged") from error


def introduce(content: str) -> str:
    """Return what the model is shown of a summary that is packed."""
    return f"{_INTRODUCTION}\n{unpack(content)}"
